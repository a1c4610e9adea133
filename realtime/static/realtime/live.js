/**
 * The live page in admin: figures of every process and the open connections, over the gateway
 * itself. Drawn once for each message, which comes every two seconds.
 *
 * @typedef {import("./live-connections.js").Shown} Shown
 * @typedef {import("./frames.js").Message} Message
 */

import { Announcer } from "./announcer.js";
import { GatewayClient } from "./client.js";
import { ChartView, shown } from "./live-chart.js";
import { ConnectionTable, nameOf } from "./live-connections.js";
import { ALL, CHARTS, History } from "./live-figures.js";
import { describe } from "./words.js";

const SILENCE = 8_000; // ms without figures, then it is said
const MEBIBYTE = 2 ** 20;
/** Keys of the figures in the table of processes. */
const COLUMNS = [
  ...["connections", "sessions", "subscriptions"],
  ...["eventsIn", "deliveries", "latency99", "lag99"],
];

/**
 * @param {string} id
 * @returns {any}
 */
const byId = (id) => document.getElementById(id);

/** @type {Record<string, any>} */
const page = JSON.parse(byId("live-page").textContent);
const announcer = new Announcer(byId("live-announcer"));
const client = new GatewayClient({ storage: null });
const history = new History();
const charts = CHARTS.map((chart) => new ChartView(chart));
const table = new ConnectionTable(
  byId("live-connections"),
  byId("live-caption"),
  page.mayDisconnect ? askToDisconnect : null,
);
/** @type {{id: string, name: string} | null} whose connections are shown; null: the newest */
let searched = null;
/** @type {Shown | null} whom the dialog is about */
let chosen = null;
let came = 0; // Unix ms
let refusal = "";

/** @param {Message} message */
function onFigures({ ts, data }) {
  came = Date.now();
  history.add(ts, data.processes);
  drawChoice();
  drawFigures();
  if (searched === null) drawConnections(data.connections);
  drawState();
}

function drawFigures() {
  const points = history.points(byId("live-process").value);
  for (const chart of charts) chart.draw(points);
  drawProcesses();
}

/** Offer what processes there are; the chosen one stays chosen while it is there. */
function drawChoice() {
  const select = byId("live-process");
  const wanted = [ALL, ...history.names];
  const offered = [...select.options].map(({ value }) => value);
  if (wanted.join() === offered.join()) return;
  const { value } = select;
  const all = `All processes (${history.names.length})`;
  select.replaceChildren(...wanted.map((name) => new Option(name === ALL ? all : name, name)));
  select.value = wanted.includes(value) ? value : ALL;
}

/** A row for each process, and one for all of them. */
function drawProcesses() {
  const rows = history.names.map((name) => processRow(name, name));
  byId("live-processes").replaceChildren(...rows);
  byId("live-total").replaceChildren(processRow(ALL, "All together"));
}

/** @param {string} name @param {string} title */
function processRow(name, title) {
  const { values } = /** @type {{values: import("./live-figures.js").Values}} */ (
    history.points(name).at(-1)
  );
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = title;
  row.append(head);
  for (const key of COLUMNS) row.insertCell().textContent = shown(values[key]);
  const all = name === ALL ? history.names : [name];
  const figures = all.map((one) => history.figures(one) ?? {});
  const memory = figures.reduce((sum, one) => sum + one.memory, 0);
  row.insertCell().textContent = shown(memory / MEBIBYTE);
  row.insertCell().textContent = stateOf(figures);
  return row;
}

/** @param {Record<string, any>[]} figures */
function stateOf(figures) {
  const words = [];
  if (figures.some(({ nats }) => !nats)) words.push("NATS is away");
  if (figures.some(({ draining }) => draining)) words.push("draining");
  return words.join(", ") || "well";
}

/** @param {Shown[]} connections */
function drawConnections(connections) {
  table.draw(connections);
  const open = history.points(ALL).at(-1)?.values.sessions ?? 0;
  const some = searched === null && connections.length < open;
  const what = searched === null ? "Open connections" : `Open connections of ${searched.name}`;
  const count = some ? `the newest ${connections.length} of ${open}` : `${connections.length}`;
  byId("live-caption").textContent = `${what}: ${count}`;
}

/** Say in words how it stands: whether figures come, and if not, why. */
function drawState() {
  const { long, tone, login, retry } = describe(client.state, Date.now());
  const open = client.state.name === "open";
  const silent = came > 0 && Date.now() - came > SILENCE;
  let text = long;
  let look = tone;
  if (refusal !== "") [text, look] = [refusal, "bad"];
  else if (open && came === 0) {
    [text, look] = ["Connected. Waiting for the first figures…", "wait"];
  } else if (open && silent) {
    const seconds = Math.round((Date.now() - came) / 1000);
    [text, look] = [`Connected, but no figures have come for ${seconds} s.`, "bad"];
  } else if (open) {
    const count = history.names.length;
    const processes = `${count} ${count === 1 ? "process" : "processes"}`;
    text = `Live: figures of ${processes}, every two seconds.`;
  }
  const state = byId("live-state");
  if (byId("live-state-text").textContent !== text) byId("live-state-text").textContent = text;
  state.dataset.tone = look;
  byId("live-login").hidden = !login;
  byId("live-retry").hidden = !retry;
}

/** @param {SubmitEvent} event */
async function search(event) {
  event.preventDefault();
  const wanted = byId("live-user").value.trim();
  if (wanted === "") return showNewest();
  const { ok, body } = await ask(`${page.userUrl}?${new URLSearchParams({ user: wanted })}`);
  if (!ok) return tell(body.message);
  showNewest();
  searched = body;
  byId("live-newest").hidden = false;
  const { id, name } = body;
  drawConnections([]);
  tell(`Looking for connections of ${name}.`);
  const onMessage = (/** @type {Message} */ { data }) => {
    if (searched?.id === id) drawConnections(data.connections);
  };
  client.subscribe(page.userTopics + id, { onMessage }).catch(({ message }) => tell(message));
}

function showNewest() {
  if (searched !== null) client.unsubscribe(page.userTopics + searched.id).catch(() => {});
  searched = null;
  byId("live-newest").hidden = true;
  tell("");
}

/** @param {Shown} one */
function askToDisconnect(one) {
  chosen = one;
  byId("live-question").textContent =
    `Close all sockets of ${nameOf(one)}, on every process? The user may log in again.`;
  byId("live-dialog").showModal();
}

async function disconnect() {
  byId("live-dialog").close();
  if (chosen === null) return;
  const token = document.querySelector("#live [name=csrfmiddlewaretoken]");
  const { body } = await ask(page.disconnectUrl, {
    method: "POST",
    headers: { "X-CSRFToken": /** @type {HTMLInputElement} */ (token).value },
    body: new URLSearchParams({ user: chosen.userId }),
  });
  tell(body.message);
}

/**
 * Ask this site; whatever goes wrong is told in words.
 *
 * @param {string} address
 * @param {RequestInit} [options]
 * @returns {Promise<{ok: boolean, body: any}>}
 */
async function ask(address, options) {
  try {
    const answer = await fetch(address, { ...options, redirect: "error" });
    if (answer.headers.get("Content-Type")?.startsWith("application/json")) {
      return { ok: answer.ok, body: await answer.json() };
    }
    return { ok: false, body: { message: `You may not do that (${answer.status}).` } };
  } catch {
    return { ok: false, body: { message: "The site did not answer, or you are signed out." } };
  }
}

/** @param {string} sentence */
function tell(sentence) {
  byId("live-told").textContent = sentence;
}

byId("live-charts").append(...charts.map(({ element }) => element));
byId("live-process").addEventListener("change", drawFigures);
byId("live-search").addEventListener("submit", search);
byId("live-newest").addEventListener("click", () => {
  showNewest();
  byId("live-user").value = "";
  byId("live-user").focus();
});
byId("live-confirm").addEventListener("click", disconnect);
byId("live-cancel").addEventListener("click", () => byId("live-dialog").close());
byId("live-retry").addEventListener("click", () => client.reconnect());
client.addEventListener("statechange", () => {
  const { spoken } = describe(client.state, Date.now());
  if (spoken) announcer.say(spoken);
  drawState();
});
client.addEventListener("unsubscribed", (event) => {
  const { topic, reason } = /** @type {CustomEvent} */ (event).detail;
  if (topic !== page.newestTopic || reason === "client") return;
  refusal = "An administrator ended your access to this page.";
  announcer.say(refusal);
  drawState();
});
client.subscribe(page.newestTopic, { onMessage: onFigures }).catch(({ code, message }) => {
  // Out of reach is no refusal: the client goes on trying.
  if (code === "ACL_DENIED" || code === "BAD_TOPIC") refusal = message;
  drawState();
});
client.connect();
setInterval(drawState, 1_000);
drawState();
