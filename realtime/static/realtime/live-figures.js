/**
 * What processes tell of themselves, as figures over time: each process apart, and all together.
 * Pure: no page, no clock.
 *
 * @typedef {{bounds: number[], counts: number[], total: number}} Histogram
 * @typedef {Record<string, any>} Figures a process's Snapshot, as realtime/snapshot.py has it
 * @typedef {{name: string, figures: Figures}} Process
 * @typedef {Record<string, number | null>} Values by the keys of CHARTS; null: none
 * @typedef {{ts: number, values: Values}} Point
 * @typedef {{now: Figures, before: Figures | null, base: Figures | null}} Span the latest, the one
 *   before it, and the oldest of the window
 * @typedef {{title: string, unit: string, lines: [key: string, name: string][]}} Chart
 */

/** How far back a chart reaches, ms. */
export const SPAN = 5 * 60_000;
/** Samples over which quantiles and counts are taken: ten seconds at one each two seconds. */
const WINDOW = 6;
/** ms without a sample after which a process is gone. */
const GONE = 15_000;

export const ALL = "";

const OUTCOMES = {
  auth: ["accepted", "denied", "unavailable"],
  published: ["ok", "duplicate", "failed"],
};
const WITHIN = "in 10 s";

/** @type {Chart[]} */
export const CHARTS = [
  chart("Connections", "", { connections: "open", sessions: "authenticated" }),
  chart("Subscriptions", "", { subscriptions: "subscriptions", topics: "topics" }),
  chart("Events", "/s", { eventsIn: "in", deliveries: "delivered" }),
  chart("Publish to delivery", "ms", quantiles("latency")),
  chart("Answers of the backend", "/s", outcomes("auth")),
  chart("Time to an answer", "ms", quantiles("auth_seconds")),
  chart("Published by clients", "/s", outcomes("published")),
  chart("Closed and refused", WITHIN, { closes: "closed by us", refused: "refused" }),
  chart("Errors told to clients", WITHIN, { errors: "errors" }),
  chart("Repairs", WITHIN, {
    holes: "holes repaired",
    redelivered: "sent again",
    slow: "slow readers closed",
  }),
  chart("Reconnects", WITHIN, { nats_reconnects: "NATS", layer_losses: "channel layer" }),
  chart("Event loop lag", "ms", quantiles("lag")),
  chart("Canary", "ms", { canary: "slowest round trip" }),
];

/**
 * @param {string} title
 * @param {string} unit
 * @param {Record<string, string>} lines name by key
 * @returns {Chart}
 */
function chart(title, unit, lines) {
  return { title, unit, lines: Object.entries(lines) };
}

/** @param {string} name of a histogram @returns {Record<string, string>} */
function quantiles(name) {
  return { [`${name}50`]: "p50", [`${name}95`]: "p95", [`${name}99`]: "p99" };
}

/** @param {"auth" | "published"} name @returns {Record<string, string>} */
function outcomes(name) {
  return Object.fromEntries(OUTCOMES[name].map((label) => [`${name}.${label}`, label]));
}

export class History {
  /** @type {Map<string, {samples: Figures[], points: Point[], ts: number}>} by process */
  #processes = new Map();
  /** @type {Point[]} */
  #all = [];

  /** The processes that are there, in the order of their names. */
  get names() {
    return [...this.#processes.keys()].sort();
  }

  /**
   * Take in what all processes told.
   *
   * @param {number} ts Unix ms
   * @param {Process[]} processes
   */
  add(ts, processes) {
    for (const { name, figures } of processes) {
      const known = this.#processes.get(name) ?? { samples: [], points: [], ts };
      // Another process of that id: what it counted does not go on from there.
      if (known.samples.at(-1)?.started !== figures.started) known.samples = [];
      known.samples.push(figures);
      if (known.samples.length > WINDOW) known.samples.shift();
      known.ts = ts;
      keep(known.points, { ts, values: valuesOf([spanOf(known.samples)]) });
      this.#processes.set(name, known);
    }
    for (const [name, known] of this.#processes) {
      if (ts - known.ts > GONE) this.#processes.delete(name);
    }
    const spans = [...this.#processes.values()].map(({ samples }) => spanOf(samples));
    keep(this.#all, { ts, values: valuesOf(spans) });
  }

  /**
   * Return the points of a process, or of all together.
   *
   * @param {string} name or ALL
   */
  points(name) {
    return name === ALL ? this.#all : (this.#processes.get(name)?.points ?? []);
  }

  /** @param {string} name @returns {Figures | undefined} the latest */
  figures(name) {
    return this.#processes.get(name)?.samples.at(-1);
  }
}

/** @param {Point[]} points @param {Point} point */
function keep(points, point) {
  points.push(point);
  while (points[0].ts < point.ts - SPAN) points.shift();
}

/** @param {Figures[]} samples @returns {Span} */
function spanOf(samples) {
  const alone = samples.length < 2;
  return {
    now: /** @type {Figures} */ (samples.at(-1)),
    before: alone ? null : /** @type {Figures} */ (samples.at(-2)),
    base: alone ? null : samples[0],
  };
}

/**
 * Return the figures of processes together.
 *
 * @param {Span[]} spans one a process
 * @returns {Values}
 */
export function valuesOf(spans) {
  /** @type {Values} */
  const values = {};
  for (const name of ["connections", "sessions", "subscriptions", "topics"]) {
    values[name] = sum(spans.map(({ now }) => now[name]));
  }
  values.eventsIn = rate(spans, ({ metrics }) => total(metrics.events));
  values.deliveries = rate(spans, ({ metrics }) => metrics.deliveries);
  for (const [name, labels] of Object.entries(OUTCOMES)) {
    for (const label of labels) {
      values[`${name}.${label}`] = rate(spans, ({ metrics }) => metrics[name][label] ?? 0);
    }
  }
  for (const name of ["closes", "refused", "errors"]) {
    values[name] = increase(spans, ({ metrics }) => total(metrics[name]));
  }
  for (const name of ["holes", "redelivered", "layer_losses"]) {
    values[name] = increase(spans, ({ metrics }) => metrics[name]);
  }
  values.slow = increase(spans, ({ metrics }) => metrics.closes["4001"] ?? 0);
  values.nats_reconnects = increase(spans, (figures) => figures.nats_reconnects);
  for (const name of ["latency", "auth_seconds", "lag"]) {
    const histogram = merged(spans, name);
    for (const percent of [50, 95, 99]) {
      const seconds = quantile(histogram, percent / 100);
      values[`${name}${percent}`] = seconds === null ? null : seconds * 1000;
    }
  }
  const canaries = spans.map(({ now }) => now.metrics.canary).filter((found) => found !== null);
  values.canary = canaries.length ? Math.max(...canaries) * 1000 : null;
  return values;
}

/** @param {number[]} numbers */
const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);

/** @param {Record<string, number>} counts */
const total = (counts) => sum(Object.values(counts));

/**
 * @param {Span[]} spans
 * @param {(figures: Figures) => number} read
 * @returns {number | null} a second
 */
function rate(spans, read) {
  const rates = [];
  for (const { now, before } of spans) {
    if (before !== null && now.taken > before.taken) {
      rates.push((read(now) - read(before)) / (now.taken - before.taken));
    }
  }
  return rates.length ? sum(rates) : null;
}

/**
 * @param {Span[]} spans
 * @param {(figures: Figures) => number} read
 * @returns {number | null} within the window
 */
function increase(spans, read) {
  const known = spans.filter(({ base }) => base !== null);
  const grown = known.map(({ now, base }) => read(now) - read(/** @type {Figures} */ (base)));
  return known.length ? sum(grown) : null;
}

/**
 * @param {Span[]} spans
 * @param {string} name
 * @returns {Histogram} what was counted within the window
 */
function merged(spans, name) {
  /** @type {Histogram} */
  const found = { bounds: [], counts: [], total: 0 };
  for (const { now, base } of spans) {
    if (base === null) continue;
    const { bounds, counts } = now.metrics[name];
    found.bounds = bounds;
    counts.forEach((/** @type {number} */ count, /** @type {number} */ index) => {
      found.counts[index] = (found.counts[index] ?? 0) + count - base.metrics[name].counts[index];
    });
  }
  return found;
}

/**
 * Return the value that a share of all do not exceed, as realtime/metrics.py does.
 *
 * @param {Histogram} histogram
 * @param {number} share 0 to 1
 * @returns {number | null} null without any
 */
export function quantile({ bounds, counts }, share) {
  const wanted = share * sum(counts);
  if (wanted === 0) return null;
  let seen = 0;
  for (const [index, bound] of bounds.entries()) {
    const here = counts[index];
    if (here && seen + here >= wanted) {
      const below = index ? bounds[index - 1] : 0;
      return below + ((bound - below) * (wanted - seen)) / here;
    }
    seen += here;
  }
  return bounds[bounds.length - 1];
}
