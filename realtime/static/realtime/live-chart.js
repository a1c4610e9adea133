/**
 * A small chart of one to three lines, with its figures in words beside it.
 *
 * @typedef {import("./live-figures.js").Chart} Chart
 * @typedef {import("./live-figures.js").Point} Point
 */

import { SPAN } from "./live-figures.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 80;
/** The least that a chart spans, ms: it widens to SPAN as it fills. */
const LEAST = 60_000;

/** @param {string} name @param {Record<string, string>} attributes */
function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/**
 * Return a number for people: three digits that count.
 *
 * @param {number | null | undefined} value
 */
export function shown(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  let digits = size >= 10 ? 1 : 2;
  if (size >= 100) digits = 0;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/**
 * Return a line, broken where there is no value.
 *
 * @param {{ts: number, value: number | null}[]} points
 * @param {object} frame
 * @param {number} frame.now at the right edge, Unix ms
 * @param {number} frame.span the width, ms
 * @param {number} frame.highest at the upper edge
 */
export function pathOf(points, { now, span, highest }) {
  let path = "";
  let open = false;
  for (const { ts, value } of points) {
    if (value === null) {
      open = false;
      continue;
    }
    const x = WIDTH * (1 - (now - ts) / span);
    const y = HEIGHT - 2 - (value / highest) * (HEIGHT - 4);
    path += `${open ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    open = true;
  }
  return path;
}

export class ChartView {
  /** @param {Chart} chart */
  constructor(chart) {
    this.chart = chart;
    this.element = document.createElement("figure");
    this.element.className = "live-chart";
    const caption = document.createElement("figcaption");
    caption.textContent = chart.unit ? `${chart.title} (${chart.unit})` : chart.title;
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" };
    this.picture = svg("svg", box);
    this.highest = document.createElement("span");
    this.highest.className = "live-highest";
    this.highest.setAttribute("aria-hidden", "true");
    const list = document.createElement("dl");
    this.lines = chart.lines.map(([key, name], index) => this.#line(list, key, name, index));
    this.element.append(caption, this.highest, this.picture, list);
  }

  /** @param {Point[]} points oldest first */
  draw(points) {
    const now = points.at(-1)?.ts ?? 0;
    const values = this.lines.flatMap(({ key }) => points.map((point) => point.values[key] ?? 0));
    const top = Math.max(...values, 0);
    this.highest.textContent = top ? shown(top) : "";
    const past = points.length ? now - points[0].ts : 0;
    const span = Math.min(Math.max(past, LEAST), SPAN);
    for (const { key, path, figure } of this.lines) {
      const mine = points.map(({ ts, values: found }) => ({ ts, value: found[key] ?? null }));
      path.setAttribute("d", pathOf(mine, { now, span, highest: top || 1 }));
      const text = shown(mine.at(-1)?.value);
      if (figure.textContent !== text) figure.textContent = text;
    }
    const seconds = Math.round(past / 1000);
    const { title, unit } = this.chart;
    const label = `${title}: at most ${shown(top)} ${unit}`.trim();
    this.picture.setAttribute("aria-label", `${label}, of the last ${seconds} seconds`);
  }

  /** @param {HTMLElement} list @param {string} key @param {string} name @param {number} index */
  #line(list, key, name, index) {
    const path = svg("path", { class: `line-${index}`, "vector-effect": "non-scaling-stroke" });
    this.picture.append(path);
    const swatch = svg("svg", { viewBox: "0 0 16 8", class: "swatch", "aria-hidden": "true" });
    swatch.append(svg("path", { class: `line-${index}`, d: "M0 4H16" }));
    const term = document.createElement("dt");
    term.append(swatch, name);
    const figure = document.createElement("dd");
    figure.textContent = "–";
    figure.dataset.key = key;
    const group = document.createElement("div");
    group.append(term, figure);
    list.append(group);
    return { key, path, figure };
  }
}
