/**
 * Live prices: many ephemeral topics over one socket, drawn once a frame however many came.
 *
 * @typedef {import("./frames.js").Message} Message
 */

import { Announcer } from "./announcer.js";
import { pathsOf, rangeOf, Series } from "./price-series.js";
import { client } from "./site.js";
import { stateLine } from "./state-line.js";

const SVG = "http://www.w3.org/2000/svg";
const CHART = { width: 640, height: 280 };
const SPARK = { width: 96, height: 28 };
const SILENCE = 6_000; // ms without a price, then it is said
const MEASURE = 5_000; // ms over which updates are counted

/**
 * @param {string} id
 * @returns {any}
 */
const byId = (id) => document.getElementById(id);

/** @type {{symbol: string, name: string, topic: string}[]} */
const topics = JSON.parse(byId("topics").textContent);
const announcer = new Announcer(byId("announcer"));
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
/** @type {Map<string, {name: string, series: Series, row: Row}>} by symbol */
const board = new Map();
let chosen = topics[0].symbol;
let paused = false;
let drawing = false;
/** @type {number[]} when prices came, Unix ms */
let arrivals = [];
let since = Date.now();

/** A row of the table; its elements are made once, so that nothing in it loses the focus. */
class Row {
  /** @param {string} symbol @param {string} name */
  constructor(symbol, name) {
    this.element = document.createElement("tr");
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "quiet pick";
    this.button.append(text("b", symbol), text("span", name));
    this.button.addEventListener("click", () => choose(symbol));
    const head = document.createElement("th");
    head.scope = "row";
    head.append(this.button);
    const spark = document.createElementNS(SVG, "svg");
    spark.setAttribute("viewBox", `0 0 ${SPARK.width} ${SPARK.height}`);
    spark.setAttribute("class", "spark");
    spark.setAttribute("aria-hidden", "true");
    this.line = document.createElementNS(SVG, "path");
    this.line.setAttribute("class", "stroke");
    spark.append(this.line);
    const trend = document.createElement("td");
    trend.className = "trend";
    trend.append(spark);
    this.price = text("td", "–", "number price");
    this.change = text("td", "", "number change");
    this.element.append(head, trend, this.price, this.change);
  }

  /** @param {Series} series @param {boolean} isChosen */
  draw(series, isChosen) {
    this.button.setAttribute("aria-pressed", String(isChosen));
    if (series.last === undefined) return;
    this.line.setAttribute("d", pathsOf(series.within(series.last.ts).slice(-90), SPARK).line);
    const price = money.format(series.last.price);
    if (this.price.textContent !== price) this.price.textContent = price;
    drawChange(this.change, series.last.change);
    this.element.dataset.way = wayOf(series.last.change);
  }
}

/** @param {string} tag @param {string} words @param {string} [name] of the class */
function text(tag, words, name = "") {
  const made = document.createElement(tag);
  made.textContent = words;
  made.className = name;
  return made;
}

/** @param {number} change in % */
function wayOf(change) {
  if (change === 0) return "same";
  return change > 0 ? "up" : "down";
}

/** @param {HTMLElement} element @param {number} change in % */
function drawChange(element, change) {
  const arrow = { up: "▲", down: "▼", same: "■" }[wayOf(change)];
  element.textContent = `${arrow} ${change > 0 ? "+" : ""}${money.format(change)} %`;
  element.dataset.way = wayOf(change);
}

/** @param {string} symbol */
function choose(symbol) {
  chosen = symbol;
  draw();
}

/** Draw in the next frame; in a page that is not seen there is none, and nothing is drawn. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const [symbol, { series, row }] of board) row.draw(series, symbol === chosen);
    drawChart();
  });
}

function drawChart() {
  const { name, series } = /** @type {NonNullable<ReturnType<typeof board.get>>} */ (
    board.get(chosen)
  );
  byId("chart-name").textContent = name;
  const { last } = series;
  const ticks = last === undefined ? [] : series.within(last.ts);
  const { line, area } = pathsOf(ticks, CHART);
  byId("chart-line").setAttribute("d", line);
  byId("chart-area").setAttribute("d", area);
  byId("chart-price").textContent = last === undefined ? "–" : money.format(last.price);
  byId("chart-change").textContent = "";
  byId("chart").dataset.way = last === undefined ? "same" : wayOf(last.change);
  if (last === undefined || ticks.length < 2) {
    byId("chart-summary").textContent = "Waiting for prices…";
    byId("axis-low").textContent = byId("axis-high").textContent = "";
    return;
  }
  drawChange(byId("chart-change"), last.change);
  const { low, high } = rangeOf(ticks);
  const seconds = Math.round((last.ts - ticks[0].ts) / 1000);
  byId("axis-low").textContent = `low ${money.format(low)}`;
  byId("axis-high").textContent = `high ${money.format(high)}`;
  byId("chart-summary").textContent = `the last ${seconds} s`;
}

/** @param {string} symbol @param {Message} message */
function onPrice(symbol, { data, ts }) {
  const { price, change } = data ?? {};
  if (!Number.isFinite(price) || !Number.isFinite(change)) return;
  since = Date.now();
  arrivals.push(since);
  board.get(symbol)?.series.add({ ts, price, change });
  tellProblem("");
  if (!paused) draw();
}

/** Say how much comes, and that nothing does. */
function measure() {
  const now = Date.now();
  arrivals = arrivals.filter((at) => at > now - MEASURE);
  byId("rate").textContent = (arrivals.length / (MEASURE / 1000)).toFixed(1);
  if (client.state.name === "open" && now - since > SILENCE && byId("problem").hidden) {
    tellProblem("No prices come. They are published by “make run”, or by “manage.py demo_prices”.");
  }
}

/** @param {string} words */
function tellProblem(words) {
  if (byId("problem").textContent === words) return;
  byId("problem").textContent = words;
  byId("problem").hidden = words === "";
}

function drawGrid() {
  for (const part of [0.25, 0.5, 0.75]) {
    const line = document.createElementNS(SVG, "line");
    const y = String(CHART.height * part);
    for (const [key, value] of Object.entries({ x1: "0", x2: String(CHART.width), y1: y, y2: y })) {
      line.setAttribute(key, value);
    }
    byId("chart-grid").append(line);
  }
}

for (const { symbol, name, topic } of topics) {
  const row = new Row(symbol, name);
  board.set(symbol, { name, series: new Series(), row });
  byId("board").append(row.element);
  client
    .subscribe(topic, { onMessage: (message) => onPrice(symbol, message) })
    .catch(({ code, message }) => {
      const hint = " An administrator can allow it with an access rule for live.prices.>.";
      if (code === "ACL_DENIED") tellProblem(message + hint);
    });
}
client.addEventListener("unsubscribed", (event) => {
  const { topic, reason } = /** @type {CustomEvent} */ (event).detail;
  if (reason === "acl" && topics.some((one) => one.topic === topic)) {
    tellProblem("An administrator ended your access to a price.");
  }
});
byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Go on" : "Pause";
  announcer.say(paused ? "The prices stand still." : "The prices go on.");
  if (!paused) draw();
});
stateLine({ line: byId("state"), say: (sentence) => announcer.say(sentence) });
client.addEventListener("statechange", () => (since = Date.now()));
document.addEventListener("visibilitychange", () => {
  since = Date.now();
  draw();
});
setInterval(measure, 1_000);
drawGrid();
draw();
