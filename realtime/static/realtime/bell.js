/**
 * The bell: a badge with the unread count, the last notifications, and a toast for each new one,
 * on any page that has the template tag `realtime_bell`.
 *
 * It works under a policy of nonces (no inline script, style or handler), and touches nothing
 * of the page outside its own element.
 *
 * @typedef {import("./frames.js").Message} Message
 */

import { Announcer } from "./announcer.js";
import { BellList } from "./bell-list.js";
import { Toasts } from "./bell-toasts.js";
import { contentOf } from "./content.js";
import { messageFrom } from "./frames.js";
import { Inbox } from "./inbox.js";
import { markAllRead, markFrom, markKeeper } from "./read-mark.js";
import { sharedClient } from "./shared-client.js";
import { describe } from "./words.js";

const root = /** @type {HTMLElement} */ (document.getElementById("rt-bell"));
const { topic, readTopic, readUrl, csrf, url, limit, userId } =
  /** @type {Record<string, string>} */ (root.dataset);

/**
 * @param {string} name
 * @returns {HTMLElement}
 */
const part = (name) => /** @type {HTMLElement} */ (root.querySelector(`.rt-bell-${name}`));

const button = part("button");
const panel = part("panel");
const client = sharedClient(url ? { url } : {});
const keeper = markKeeper(readUrl, csrf);
const inbox = new Inbox(Number(limit));
const list = new BellList(part("list"), panel);
const toasts = new Toasts(part("toasts"), button, () => open());
const announcer = new Announcer(part("live"));

/** What the server knew when it rendered the page. The live stream goes on exactly there. */
const rendered = JSON.parse(document.getElementById("rt-bell-data")?.textContent ?? "null");
let loaded = rendered !== null && !rendered.cut;

function draw() {
  const { unread, items } = inbox;
  // All that are known, and there may be more than the list holds.
  const more = unread > 0 && unread === items.length && inbox.full;
  const count = more ? `${unread}+` : String(unread);
  part("badge").textContent = count;
  part("badge").hidden = unread === 0;
  part("label").textContent = unread > 0 ? `Notifications, ${count} unread` : "Notifications";
  part("read").setAttribute("aria-disabled", String(unread === 0));
  part("empty").hidden = !loaded || items.length > 0;
  list.show(items, (message) => inbox.isUnread(message));
}

/** @param {Message} message */
function arrived(message) {
  for (const one of inbox.add([message])) {
    const content = contentOf(one.data);
    announcer.arrived(content.title);
    if (panel.hidden && document.visibilityState === "visible") toasts.show(content);
  }
  draw();
}

function open() {
  panel.hidden = false;
  button.setAttribute("aria-expanded", "true");
  toasts.clear();
  list.tick();
  panel.focus({ preventScroll: true });
}

/** @param {boolean} back whether the keyboard goes back to the bell */
function close(back) {
  if (panel.hidden) return;
  if (back) button.focus();
  panel.hidden = true;
  button.setAttribute("aria-expanded", "false");
}

async function markRead() {
  const problem = await markAllRead(inbox, keeper, draw);
  if (!problem) announcer.say("All notifications are marked as read.");
  tellProblem(problem);
}

/** @param {string} text */
function tellProblem(text) {
  part("problem").textContent = text;
  part("problem").hidden = text === "";
}

function drawState() {
  const { long, tone, login } = describe(client.state, Date.now());
  part("words").textContent = long;
  part("state").dataset.rtTone = tone;
  part("again").hidden = !login;
}

/** Ask for what the server could not put into the page. */
async function load() {
  try {
    inbox.add(await client.history(topic, { limit: Number(limit) }));
    inbox.mark = await keeper.load();
    loaded = true;
  } catch (error) {
    console.warn("the bell could not load what came earlier", error);
  }
  draw();
}

function follow() {
  const from = rendered === null ? {} : { since: rendered.position, epoch: rendered.epoch };
  // The page itself may hold the topic, with a callback of its own: events reach both.
  if (!client.topics.includes(topic)) client.subscribe(topic, from);
  if (!client.topics.includes(readTopic)) client.subscribe(readTopic, from);
}

client.addEventListener("message", (event) => {
  const message = /** @type {CustomEvent<Message>} */ (event).detail;
  if (message.topic === topic) arrived(message);
  if (message.topic !== readTopic) return;
  inbox.mark = markFrom(message.data);
  draw();
});
client.addEventListener("reset", (event) => {
  const { topic: which, epoch } = /** @type {CustomEvent} */ (event).detail;
  if (which !== topic) return;
  inbox.clear();
  inbox.epoch = epoch;
  draw();
});
client.addEventListener("statechange", () => {
  drawState();
  if (client.state.name !== "open") return;
  if (client.userId !== userId) {
    client.close();
    tellProblem("You are signed in as somebody else now. Reload the page.");
  } else if (!loaded) {
    load();
  }
});

button.addEventListener("click", () => (panel.hidden ? open() : close(true)));
part("read").addEventListener("click", () => {
  if (part("read").getAttribute("aria-disabled") !== "true") markRead();
});
root.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (!panel.hidden) close(true);
  else toasts.clear();
});
root.addEventListener("focusout", ({ relatedTarget }) => {
  // Tab left the bell; null is the window's own loss of focus, or a click on plain ground.
  if (relatedTarget instanceof Node && !root.contains(relatedTarget)) close(false);
});
document.addEventListener("pointerdown", ({ target }) => {
  if (target instanceof Node && !root.contains(target)) close(false);
});

if (rendered !== null) {
  inbox.epoch = rendered.epoch;
  inbox.mark = markFrom({ seqNo: rendered.read, epoch: rendered.epoch });
  inbox.add(rendered.events.map(messageFrom));
}
drawState();
draw();
setInterval(() => (panel.hidden ? drawState() : (drawState(), list.tick())), 1_000);
follow();
client.connect();
