/**
 * The chat: one room is one topic. What is written shows at once and says what became of it;
 * after a lost connection the client brings what was missed.
 *
 * @typedef {import("./frames.js").Message} Message
 * @typedef {import("./errors.js").GatewayError} GatewayError
 */

import { Announcer } from "./announcer.js";
import { ChatList } from "./chat-list.js";
import { Room } from "./chat-room.js";
import { hide } from "./focus.js";
import { randomId } from "./frames.js";
import { client } from "./site.js";
import { stateLine } from "./state-line.js";

const PAGE = 30; // messages of history at a time
const PATIENCE = 15_000; // ms until a message counts as not sent
const NEAR_TOP = 80; // px from the first message at which earlier ones are asked for

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const { topic, name } = /** @type {Record<string, string>} */ (byId("chat").dataset);
const user = /** @type {string} */ (document.body.dataset.userId);
const scroll = byId("scroll");
const field = /** @type {HTMLTextAreaElement} */ (byId("text"));
const room = new Room();
const list = new ChatList(byId("messages"), scroll, user, (key) => post(key));
const announcer = new Announcer(byId("announcer"));
/** Whether the newest page of history is there, one is being asked for, all of it was read. */
let loaded = false;
let loading = false;
let whole = false;

function draw() {
  list.show(room.lines);
}

/** @param {Message} message */
function onMessage(message) {
  const away = !list.atEnd;
  const line = room.add(message);
  draw();
  if (line === null || !loaded) return;
  if (line.user !== user) announcer.say(`${line.name}: ${line.text}`);
  if (away) byId("jump").hidden = false;
}

/** @param {boolean} [newest] else the page before what is known */
async function loadHistory(newest = false) {
  if (loading || (whole && !newest)) return;
  loading = true;
  try {
    const before = newest ? undefined : room.oldest;
    const page = await client.history(topic, { limit: PAGE, before });
    for (const message of page) room.add(message);
    whole = page.length < PAGE || room.full;
    draw();
    if (newest) list.toEnd();
    byId("begin").hidden = page.length === PAGE;
    if (whole) hide(byId("earlier"), byId("begin").hidden ? scroll : byId("begin"));
    else byId("earlier").hidden = false;
    loaded = true;
    tellProblem("");
  } catch (error) {
    const { code, message } = /** @type {GatewayError} */ (error);
    // When the connection is gone the page says so already, and comes back to this.
    if (!["DISCONNECTED", "CLOSED", "DENIED"].includes(code)) tellRefused(code, message);
  } finally {
    loading = false;
  }
}

async function post(/** @type {string} */ key) {
  const line = room.lines.find((one) => one.key === key);
  if (line === undefined) return;
  room.write(line);
  draw();
  const payload = { user, name, text: line.text };
  try {
    // The same messageId however often it is tried: it is stored once.
    const { seqNo } = await client.publish(topic, payload, { messageId: key, timeout: PATIENCE });
    room.confirm(key, seqNo);
  } catch (error) {
    room.fail(key, /** @type {Error} */ (error).message);
    announcer.say("A message was not sent.");
  }
  draw();
}

function say() {
  const text = field.value.trim();
  if (text === "") return;
  const key = randomId();
  room.write({ key, user, name, text });
  field.value = "";
  grow();
  draw();
  list.toEnd();
  post(key);
}

async function drawPresence() {
  if (client.state.name !== "open" || document.visibilityState !== "visible") return;
  try {
    const present = await client.presence(topic);
    byId("present").replaceChildren(...present.map(personOf));
  } catch {
    // It is asked again when somebody comes or goes; the line above says how the connection is.
  }
}

/** @param {any} person */
function personOf({ userId, connections, info }) {
  const item = document.createElement("li");
  const who = String(info?.name ?? `user ${userId}`);
  const pages = connections > 1 ? `, ${connections} pages` : "";
  item.textContent = `${who}${userId === user ? " (you)" : ""}${pages}`;
  return item;
}

/** @param {string} text */
function tellProblem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = text === "";
}

/** @param {string} code @param {string} message */
function tellRefused(code, message) {
  const hint = " An administrator can allow it with an access rule for this room.";
  tellProblem(code === "ACL_DENIED" ? message + hint : message);
}

/** Let the field be as high as its text, within bounds. */
function grow() {
  field.rows = Math.min(6, field.value.split("\n").length);
}

stateLine({ line: byId("state"), say: (sentence) => announcer.say(sentence) });

client.addEventListener("statechange", () => {
  if (client.state.name !== "open") return;
  if (!loaded) loadHistory(true);
  drawPresence();
});
client.addEventListener("unsubscribed", (event) => {
  const { topic: which, reason } = /** @type {CustomEvent} */ (event).detail;
  if (which === topic) tellRefused("ACL_DENIED", `You may not read this room (${reason}).`);
});
client.addEventListener("gap", (event) => {
  if (/** @type {CustomEvent} */ (event).detail.topic !== topic) return;
  tellProblem("You may have missed some messages: they are no longer stored.");
});
client.addEventListener("reset", (event) => {
  if (/** @type {CustomEvent} */ (event).detail.topic !== topic) return;
  room.clear();
  draw();
});
scroll.addEventListener("scroll", () => {
  if (list.atEnd) byId("jump").hidden = true;
  if (loaded && scroll.scrollTop < NEAR_TOP && scroll.scrollHeight > scroll.clientHeight) {
    loadHistory();
  }
});
byId("earlier").addEventListener("click", () => loadHistory());
byId("jump").addEventListener("click", () => {
  list.toEnd();
  hide(byId("jump"), field);
});
byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  say();
});
field.addEventListener("input", grow);
field.addEventListener("keydown", (event) => {
  // While an input method composes, Enter is its own.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say();
});
document.addEventListener("visibilitychange", drawPresence);
client.subscribe(topic, { onMessage, onPresence: drawPresence }).then(drawPresence, () => {});
