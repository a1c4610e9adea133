/**
 * A series of prices, and its picture as the `d` of SVG paths. Pure: no page, no clock.
 *
 * @typedef {{ts: number, price: number, change: number}} Tick
 */

const MOST = 600;
/** How far back a chart reaches, ms. */
export const SPAN = 3 * 60_000;

export class Series {
  /** @type {Tick[]} oldest first */
  ticks = [];

  /** @returns {Tick | undefined} */
  get last() {
    return this.ticks.at(-1);
  }

  /** @param {Tick} tick */
  add(tick) {
    this.ticks.push(tick);
    if (this.ticks.length > MOST) this.ticks.shift();
  }

  /**
   * Return the ticks that a chart ending at `now` shows.
   *
   * @param {number} now Unix ms
   */
  within(now) {
    return this.ticks.filter(({ ts }) => ts > now - SPAN);
  }
}

/**
 * Return the lowest and highest price, a little apart even when they are one.
 *
 * @param {Tick[]} ticks
 * @returns {{low: number, high: number}}
 */
export function rangeOf(ticks) {
  const prices = ticks.map(({ price }) => price);
  const low = Math.min(...prices);
  const high = Math.max(...prices);
  const air = (high - low || high * 0.001 || 1) * 0.08;
  return { low: low - air, high: high + air };
}

/**
 * Return a line and the area below it, over the whole width: the newest at the right.
 *
 * @param {Tick[]} ticks
 * @param {{width: number, height: number}} box
 * @returns {{line: string, area: string}} empty below two ticks
 */
export function pathsOf(ticks, { width, height }) {
  if (ticks.length < 2) return { line: "", area: "" };
  const { low, high } = rangeOf(ticks);
  const start = ticks[0].ts;
  const length = ticks[ticks.length - 1].ts - start || 1;
  const points = ticks.map(({ ts, price }) => {
    const x = ((ts - start) / length) * width;
    const y = height - ((price - low) / (high - low)) * height;
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  const line = `M${points.join("L")}`;
  return { line, area: `${line}L${width} ${height}L0 ${height}Z` };
}
