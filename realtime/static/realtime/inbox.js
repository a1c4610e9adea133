/**
 * The notifications that the page knows, newest first, and which of them are unread.
 *
 * Read is everything up to a mark, kept in localStorage so that all tabs of a user agree.
 *
 * @typedef {import("./frames.js").Message} Message
 * @typedef {{epoch: string | null, seq: number}} Mark
 */

const MOST_ITEMS = 500;

/**
 * Return the place where a user's mark is kept. Blocked storage remembers nothing.
 *
 * @param {string} userId
 */
export function markStore(userId) {
  const key = `gateway.read.${userId}`;
  return {
    key,
    /** @returns {Mark} */
    load() {
      try {
        const mark = JSON.parse(localStorage.getItem(key) ?? "null");
        if (Number.isSafeInteger(mark?.seq)) return { epoch: mark.epoch ?? null, seq: mark.seq };
      } catch {
        // As if nothing had been read yet.
      }
      return { epoch: null, seq: 0 };
    },
    /** @param {Mark} mark */
    save(mark) {
      try {
        localStorage.setItem(key, JSON.stringify(mark));
      } catch {
        // It holds for this page.
      }
    },
  };
}

export class Inbox {
  /** @type {Message[]} newest first */
  items = [];
  /** @type {string | null} the stream that the sequences belong to */
  epoch = null;
  /** @type {Mark} */
  #mark;

  /** @param {Mark} [mark] */
  constructor(mark = { epoch: null, seq: 0 }) {
    this.#mark = mark;
  }

  /** Everything up to here is read, as long as it is the same stream. */
  get mark() {
    return this.#mark;
  }

  /** @param {Mark} mark of another tab; it only ever moves on */
  set mark(mark) {
    if (mark.epoch !== this.#mark.epoch || mark.seq > this.#mark.seq) this.#mark = mark;
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
    return this.items.length >= MOST_ITEMS;
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
      .slice(0, MOST_ITEMS);
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
