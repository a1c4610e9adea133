/**
 * The notifications that the page knows, newest first, and which of them are unread.
 *
 * Read is everything up to a mark (read-mark.js).
 *
 * @typedef {import("./frames.js").Message} Message
 * @typedef {import("./read-mark.js").Mark} Mark
 */

import { NOTHING } from "./read-mark.js";

const MOST_ITEMS = 500;

export class Inbox {
  /** @type {Message[]} newest first */
  items = [];
  /** @type {string | null} the stream that the sequences belong to */
  epoch = null;
  /** @type {Mark} */
  #mark = NOTHING;
  #most;

  /** @param {number} [most] items that are kept; beyond it the oldest go */
  constructor(most = MOST_ITEMS) {
    this.#most = most;
  }

  /** Everything up to here is read, as long as it is the same stream. */
  get mark() {
    return this.#mark;
  }

  /**
   * @param {Mark} mark of another device or tab; it only ever moves on: the server's answer that
   *   nothing was marked may come after what was marked since
   */
  set mark(mark) {
    if (mark.seq === 0) return;
    if (mark.epoch !== this.#mark.epoch || mark.seq > this.#mark.seq) this.#mark = mark;
  }

  /**
   * Go back to a mark: what was marked could not be kept.
   *
   * @param {Mark} mark
   */
  restore(mark) {
    this.#mark = mark;
  }

  get unread() {
    return this.items.filter((message) => this.isUnread(message)).length;
  }

  /** The lowest sequence that is known; undefined when there is none. */
  get oldest() {
    return this.items.at(-1)?.seqNo ?? undefined;
  }

  /** Whether more of them would push others out. */
  get full() {
    return this.items.length >= this.#most;
  }

  /** @param {Message} message */
  isUnread({ seqNo }) {
    const { epoch, seq } = this.#mark;
    const sameStream = epoch === null || this.epoch === null || epoch === this.epoch;
    return !sameStream || Number(seqNo) > seq;
  }

  /**
   * Take in messages; those known already are left out.
   *
   * @param {Message[]} messages
   * @returns {Message[]} the new ones, newest first
   */
  add(messages) {
    const known = new Set(this.items.map(({ seqNo }) => seqNo));
    const fresh = messages.filter(({ seqNo }) => seqNo !== null && !known.has(seqNo));
    this.items = [...this.items, ...fresh]
      .sort((one, other) => Number(other.seqNo) - Number(one.seqNo))
      .slice(0, this.#most);
    return this.items.filter((message) => fresh.includes(message));
  }

  /** Move the mark to the newest. */
  markAllRead() {
    const seq = this.items[0]?.seqNo;
    if (seq) this.#mark = { epoch: this.epoch, seq };
  }

  /** Forget everything: the stream was recreated. */
  clear() {
    this.items = [];
  }
}
