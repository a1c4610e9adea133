/**
 * When to come back: exponential backoff with full jitter.
 *
 * Full jitter (a uniform draw from zero to the ceiling) spreads the clients of a gateway that
 * went away the furthest: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export class Backoff {
  /**
   * @param {object} [options]
   * @param {number} [options.base] ceiling of the first delay, ms
   * @param {number} [options.cap] highest ceiling, ms
   * @param {number} [options.stableAfter] a connection this old starts the count anew, ms
   * @param {() => number} [options.random] uniform in [0, 1)
   */
  constructor({ base = 500, cap = 30_000, stableAfter = 10_000, random = Math.random } = {}) {
    this.base = base;
    this.cap = cap;
    this.stableAfter = stableAfter;
    this.random = random;
    /** Failures in a row. */
    this.failures = 0;
    /** @type {number | null} */
    this.openedAt = null;
  }

  /**
   * Note that a connection is open.
   *
   * @param {number} now ms
   */
  opened(now) {
    this.openedAt = now;
  }

  /**
   * Note that the connection, or the attempt, ended.
   *
   * @param {number} now ms
   * @returns {boolean} whether the connection had been stable
   */
  ended(now) {
    const stable = this.openedAt !== null && now - this.openedAt >= this.stableAfter;
    if (stable) this.failures = 0;
    this.openedAt = null;
    return stable;
  }

  /** Return the next delay in ms, and count one failure more. */
  next() {
    const ceiling = Math.min(this.cap, this.base * 2 ** this.failures);
    this.failures += 1;
    return this.random() * ceiling;
  }
}
