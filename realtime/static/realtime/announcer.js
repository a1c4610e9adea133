/**
 * What is read out by screen readers, gathered so that a burst is one sentence.
 */

const PAUSE = 1_000; // ms

export class Announcer {
  #region;
  /** @type {string[]} */
  #arrivals = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {HTMLElement} region an aria-live region */
  constructor(region) {
    this.#region = region;
  }

  /** @param {string} sentence */
  say(sentence) {
    // A region that gets the same text again stays silent.
    const repeated = this.#region.textContent === sentence;
    this.#region.textContent = repeated ? `${sentence}\u00a0` : sentence;
  }

  /** @param {string} title of a notification that arrived */
  arrived(title) {
    this.#arrivals.push(title);
    this.#timer ??= setTimeout(() => {
      const titles = this.#arrivals;
      this.#arrivals = [];
      this.#timer = undefined;
      const one = `New notification: ${titles[0]}`;
      this.say(titles.length === 1 ? one : `${titles.length} new notifications`);
    }, PAUSE);
  }
}
