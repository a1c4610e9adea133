/**
 * The notifications page: the user's topic, live, with what was there before.
 *
 * @typedef {import("./frames.js").Message} Message
 */

import { Announcer } from "./announcer.js";
import { contentOf } from "./content.js";
import { Feed } from "./feed.js";
import { hide } from "./focus.js";
import { messageFrom } from "./frames.js";
import { Inbox } from "./inbox.js";
import { markAllRead, markFrom, markKeeper } from "./read-mark.js";
import { enhanceForm } from "./send-form.js";
import { client } from "./site.js";
import { stateLine } from "./state-line.js";

const PAGE = 50; // events of history at a time, and as many in the page itself
const TICK = 20_000; // ms between updates of the relative times

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const { topic, readTopic, readUrl, csrf } = /** @type {Record<string, string>} */ (
  byId("inbox").dataset
);
const userId = /** @type {string} */ (document.body.dataset.userId);
const keeper = markKeeper(readUrl, csrf);
const inbox = new Inbox();
const feed = new Feed(byId("feed"), byId("notification"));
const announcer = new Announcer(byId("announcer"));
const pageTitle = document.title;
// Someone who unsubscribed stays so over a reload of this tab.
const choiceKey = `gateway.live.${userId}`;

let live = choice();
/** Whether the newest page of history has been read. */
let loaded = false;

/**
 * What the server knew when it rendered the page. The live stream goes on exactly there.
 *
 * @type {{events: any[], position: number, epoch: string, cut: boolean, read: number | null} | null}
 */
let rendered = JSON.parse(document.getElementById("latest")?.textContent ?? "null");
if (rendered !== null) {
  inbox.epoch = rendered.epoch;
  inbox.mark = markFrom({ seqNo: rendered.read, epoch: rendered.epoch });
  inbox.add(rendered.events.map(messageFrom));
  loaded = true;
  byId("earlier").hidden = rendered.events.length < PAGE && !rendered.cut;
}

/** @type {Set<Message>} */
let arrived = new Set();
let drawing = false;

/** Bring the page up to date, once however many events came in this turn. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrameOrSoon(() => {
    drawing = false;
    const { unread, items } = inbox;
    feed.show(items, (message) => inbox.isUnread(message), arrived);
    arrived = new Set();
    const count = unread > 99 ? "99+" : String(unread);
    document.title = unread > 0 ? `(${count}) ${pageTitle}` : pageTitle;
    byId("unread").hidden = unread === 0;
    byId("unread").textContent = count;
    byId("unread").setAttribute("aria-label", `${count} unread`);
    enable(byId("mark-read"), unread > 0);
    byId("empty").hidden = !loaded || items.length > 0;
    byId("feed").setAttribute("aria-busy", String(!loaded));
  });
}

/**
 * Frames are not drawn in a hidden page, but its title counts there as well.
 *
 * @param {() => void} call
 */
function requestAnimationFrameOrSoon(call) {
  if (document.visibilityState === "visible") requestAnimationFrame(call);
  else setTimeout(call);
}

/** @param {Message} message */
function onMessage(message) {
  const fresh = inbox.add([message]);
  for (const one of fresh) {
    arrived.add(one);
    announcer.arrived(contentOf(one.data).title);
  }
  draw();
}

/** @param {number} [before] */
async function loadHistory(before) {
  try {
    const page = await client.history(topic, { limit: PAGE, before });
    inbox.add(page);
    loaded = true;
    const rest = page.length === PAGE && !inbox.full;
    if (rest) byId("earlier").hidden = false;
    else hide(byId("earlier"), byId("feed").lastElementChild ?? byId("main"));
    tellProblem("");
  } catch (error) {
    const { code, message } = /** @type {import("./errors.js").GatewayError} */ (error);
    // When the connection is gone the page says so already, and comes back to this.
    if (!["DISCONNECTED", "CLOSED", "DENIED"].includes(code)) {
      tellProblem(`What came earlier could not be loaded. ${message}`);
      byId("earlier").hidden = false;
    }
  }
  draw();
}

async function subscribe() {
  live = true;
  remember();
  drawSwitch();
  try {
    const from = rendered === null ? {} : { since: rendered.position, epoch: rendered.epoch };
    // Just once: the client itself keeps the position from here on.
    rendered = null;
    inbox.epoch = (await client.subscribe(topic, { onMessage, ...from })).epoch;
    tellProblem("");
  } catch (error) {
    const { code, message } = /** @type {import("./errors.js").GatewayError} */ (error);
    if (["TIMEOUT", "CLOSED", "DENIED"].includes(code)) return;
    live = false;
    drawSwitch();
    tellProblem(message);
  }
  draw();
}

async function unsubscribe() {
  live = false;
  remember();
  drawSwitch();
  try {
    await client.unsubscribe(topic);
  } catch (error) {
    tellProblem(/** @type {Error} */ (error).message);
  }
}

async function markRead() {
  const problem = await markAllRead(inbox, keeper, draw);
  if (!problem) announcer.say("All notifications are marked as read.");
  tellProblem(problem);
}

/** Follow what this user's other devices and tabs mark. */
function followMark() {
  const onMessage = (/** @type {Message} */ { data }) => {
    inbox.mark = markFrom(data);
    draw();
  };
  if (rendered !== null) {
    // Sequences count all topics: what was marked after the page was made comes after this one.
    const { position: since, epoch } = rendered;
    client.subscribe(readTopic, { onMessage, since, epoch });
    return;
  }
  client
    .subscribe(readTopic, { onMessage })
    .then(() => keeper.load())
    .then((mark) => onMessage(/** @type {any} */ ({ data: { seqNo: mark.seq, epoch: mark.epoch } })))
    .catch((error) => console.warn("what is read is not known", error));
}

/** @param {string} text */
function tellProblem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = text === "";
}

/** @param {string} text */
function tellMissed(text) {
  const notice = byId("missed");
  /** @type {HTMLElement} */ (notice.querySelector("[data-text]")).textContent = text;
  notice.hidden = text === "";
  if (text) announcer.say(text);
}

/** @param {HTMLElement} button @param {boolean} enabled */
function enable(button, enabled) {
  // Not `disabled`: the button that was just pressed would lose the keyboard's focus.
  button.setAttribute("aria-disabled", String(!enabled));
}

/** @param {HTMLElement} button @param {() => void} act */
function onPress(button, act) {
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") !== "true") act();
  });
}

function drawSwitch() {
  enable(byId("subscribe"), !live);
  enable(byId("unsubscribe"), live);
  drawState();
}

function choice() {
  try {
    return sessionStorage.getItem(choiceKey) !== "off";
  } catch {
    return true;
  }
}

function remember() {
  try {
    sessionStorage.setItem(choiceKey, live ? "on" : "off");
  } catch {
    // It holds for this page.
  }
}

const drawState = stateLine({
  line: byId("state"),
  say: (sentence) => announcer.say(sentence),
  adapt(description) {
    if (description.tone !== "good" || live) return description;
    const long = "Connected, but unsubscribed: nothing new appears here.";
    return { ...description, long, tone: "wait" };
  },
});

client.addEventListener("statechange", () => {
  if (client.state.name !== "open") return;
  if (client.userId !== userId) {
    client.close();
    tellProblem("You are signed in as somebody else now. Reload the page.");
  } else if (!loaded) {
    loadHistory();
  }
});
client.addEventListener("gap", (event) => {
  if (/** @type {CustomEvent} */ (event).detail.topic !== topic) return;
  tellMissed("You may have missed some notifications: they are no longer stored.");
});
client.addEventListener("reset", (event) => {
  const { topic: which, epoch } = /** @type {CustomEvent} */ (event).detail;
  if (which !== topic) return;
  inbox.clear();
  inbox.epoch = epoch;
  tellMissed("The store of notifications was started anew. Earlier ones are gone.");
  draw();
});
client.addEventListener("unsubscribed", (event) => {
  const { topic: which, reason } = /** @type {CustomEvent} */ (event).detail;
  if (which !== topic) return;
  live = false;
  drawSwitch();
  const ended = "An administrator ended your access to these notifications.";
  tellProblem(reason === "acl" ? ended : "The gateway ended the subscription.");
});

onPress(byId("subscribe"), subscribe);
onPress(byId("unsubscribe"), unsubscribe);
onPress(byId("mark-read"), markRead);
onPress(byId("earlier"), () => loadHistory(loaded ? inbox.oldest : undefined));
onPress(/** @type {HTMLElement} */ (byId("missed").querySelector("button")), () => {
  tellMissed("");
  byId("main").focus();
});
document.addEventListener("visibilitychange", () => feed.tick());
setInterval(() => feed.tick(), TICK);

const form = document.getElementById("send-form");
if (form instanceof HTMLFormElement) enhanceForm(form);

followMark();
if (live) subscribe();
else client.unsubscribe(topic);
drawSwitch();
draw();
