/**
 * The playground: an editor with an example of every frame, a raw socket, and a log of both ways.
 */

import { Announcer } from "./announcer.js";
import { addressOf } from "./options.js";
import { codeFor } from "./playground-code.js";
import { EXAMPLES } from "./playground-examples.js";
import { Log, tidy } from "./playground-log.js";
import { PlaygroundSocket } from "./playground-socket.js";
import "./site.js";

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const editor = /** @type {HTMLTextAreaElement} */ (byId("play-frame"));
const choice = /** @type {HTMLSelectElement} */ (byId("play-type"));
const log = new Log(byId("log"), byId("log-empty"));
const announcer = new Announcer(byId("announcer"));
const known = {
  userId: String(byId("playground").dataset.userId),
  sessionId: "",
  /** @type {Record<string, any> | null} */
  message: null,
  id: 1,
};
/** @type {"javascript" | "python" | "wscat" | "json"} */
let language = "javascript";

const socket = new PlaygroundSocket(addressOf(), {
  opened() {
    note("open", "The socket is open. Send “connect” within ten seconds.", "good");
    drawLink("Open, not authenticated yet", "wait");
    announcer.say("The socket is open.");
    // The first frame is nearly always this one; sending it is left to whoever came to learn.
    pick("connect");
  },
  came(text, frame, took) {
    const bad = frame?.type === "error" || frame?.type === "gap";
    log.add({ direction: "in", type: frame?.type ?? "?", text, took, tone: bad ? "bad" : "" });
    if (frame !== null) learn(frame);
  },
  closed(code, words) {
    note(`close ${code}`, `Closed with ${code}: ${words}.`, code === 1000 ? "" : "bad");
    drawLink(`Not connected: ${words}`, "bad");
    announcer.say(`The socket was closed: ${words}.`);
  },
});

/** @param {Record<string, any>} frame */
function learn(frame) {
  if (frame.type === "message") known.message = frame;
  if (frame.type === "error") announcer.say(`Error ${frame.code}: ${frame.message}`);
  if (frame.type !== "ready") return;
  const first = known.sessionId === "";
  known.sessionId = frame.sessionId;
  drawLink(`Connected as user ${frame.userId}`, "good");
  announcer.say("Connected.");
  if (first) pick("subscribe");
}

/** @param {string} type @param {string} text @param {"" | "good" | "bad"} tone */
function note(type, text, tone) {
  log.add({ direction: "note", type, text, tone });
}

/** @param {string} text @param {"good" | "wait" | "bad"} tone */
function drawLink(text, tone) {
  const state = byId("play-state");
  /** @type {HTMLElement} */ (state.querySelector("[data-text]")).textContent = text;
  state.dataset.tone = tone;
  enable(byId("play-connect"), socket.idle);
  enable(byId("play-disconnect"), !socket.idle);
  enable(byId("play-send"), socket.open);
}

/** @param {HTMLElement} button @param {boolean} enabled */
function enable(button, enabled) {
  button.setAttribute("aria-disabled", String(!enabled));
}

/** @param {string} id @param {() => void} act */
function onPress(id, act) {
  byId(id).addEventListener("click", () => {
    if (byId(id).getAttribute("aria-disabled") !== "true") act();
  });
}

/** @param {string} name of an example */
function pick(name) {
  choice.value = name;
  const example = EXAMPLES.find((one) => one.name === name);
  const frame = example?.frame(known) ?? "";
  editor.value = typeof frame === "string" ? frame : JSON.stringify(frame, null, 2);
  byId("play-meaning").textContent = example?.meaning ?? "";
  checkFrame();
}

/** Say what is wrong with the text, as JSON. It can be sent all the same: the gateway answers. */
function checkFrame() {
  let wrong = "";
  try {
    const frame = JSON.parse(editor.value);
    const isFrame = typeof frame === "object" && frame !== null && !Array.isArray(frame);
    if (!isFrame || typeof frame.type !== "string") wrong = "A frame is an object with a “type”.";
  } catch (error) {
    wrong = `This is no JSON: ${/** @type {Error} */ (error).message}`;
  }
  byId("play-error").textContent = wrong && `${wrong} You may send it and see the answer.`;
  byId("play-error").hidden = wrong === "";
  byId("play-field").toggleAttribute("data-invalid", wrong !== "");
  editor.setAttribute("aria-invalid", String(wrong !== ""));
  byId("play-code").textContent = codeFor(language, editor.value, socket.url);
}

function send() {
  if (!socket.open) {
    announcer.say("Not connected. Press Connect first.");
    return;
  }
  const compact = oneLine(editor.value);
  socket.send(compact.text);
  log.add({ direction: "out", type: compact.type, text: compact.text });
  // A fresh id and messageId: the answer to the next one is told from this one's.
  known.id += 1;
  if (compact.type !== "?" && /"(id|messageId)"/.test(compact.text)) refreshIds();
}

/** Give the frame in the editor its next ids, and leave what else was written there. */
function refreshIds() {
  const example = EXAMPLES.find((one) => one.name === choice.value)?.frame(known);
  const frame = JSON.parse(editor.value);
  if (typeof example !== "object" || example.type !== frame.type) return;
  for (const key of ["id", "messageId"]) {
    if (key in frame && key in example) frame[key] = example[key];
  }
  editor.value = JSON.stringify(frame, null, 2);
  checkFrame();
}

/**
 * @param {string} text
 * @returns {{text: string, type: string}} what goes over the wire
 */
function oneLine(text) {
  try {
    const frame = JSON.parse(text);
    return { text: JSON.stringify(frame), type: String(frame?.type ?? "?") };
  } catch {
    return { text, type: "?" };
  }
}

async function copy() {
  const code = byId("play-code");
  let copied = false;
  try {
    await navigator.clipboard.writeText(String(code.textContent));
    copied = true;
  } catch {
    // No clipboard outside secure contexts: select it, so that one key stroke is left.
    getSelection()?.selectAllChildren(code);
  }
  byId("play-copied").textContent = copied ? "Copied." : "Selected: press Ctrl and C.";
}

for (const { name } of EXAMPLES) choice.append(new Option(name, name));
choice.addEventListener("change", () => pick(choice.value));
editor.addEventListener("input", checkFrame);
editor.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  send();
});
onPress("play-connect", () => {
  socket.connect();
  drawLink("Connecting…", "wait");
});
onPress("play-disconnect", () => socket.close());
onPress("play-send", send);
onPress("play-format", () => {
  editor.value = tidy(editor.value);
  checkFrame();
});
onPress("play-copy", copy);
onPress("log-clear", () => log.clear());
const filter = /** @type {HTMLInputElement} */ (byId("log-filter"));
const direction = /** @type {HTMLSelectElement} */ (byId("log-direction"));
for (const field of [filter, direction]) {
  field.addEventListener("input", () => log.filter(filter.value, direction.value));
}
for (const tab of document.querySelectorAll("[data-language]")) {
  tab.addEventListener("click", () => {
    language = /** @type {any} */ (tab).dataset.language;
    for (const one of document.querySelectorAll("[data-language]")) {
      one.setAttribute("aria-pressed", String(one === tab));
    }
    byId("play-copied").textContent = "";
    checkFrame();
  });
}
pick("connect");
drawLink("Not connected", "bad");
