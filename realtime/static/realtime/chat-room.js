/**
 * What a room holds: the events of its topic in their order, and behind them what this page has
 * written and nobody has confirmed yet.
 *
 * @typedef {import("./frames.js").Message} Message
 * @typedef {"sending" | "sent" | "failed"} Delivery
 *
 * @typedef {object} Line
 * @property {string} key stays the same while the line lives
 * @property {number | null} seqNo null until it was stored
 * @property {string} user
 * @property {string} name
 * @property {string} text
 * @property {number} ts Unix ms
 * @property {Delivery | null} delivery null: somebody else's, or written earlier
 * @property {string} problem why it failed, in words
 */

const MOST = 1_000;

export class Room {
  /** @type {Map<string, Line>} */
  #lines = new Map();

  /** The lines in their order. */
  get lines() {
    return [...this.#lines.values()].sort(
      (one, other) => (one.seqNo ?? Infinity) - (other.seqNo ?? Infinity) || one.ts - other.ts,
    );
  }

  /** The lowest sequence that is known; undefined when there is none. */
  get oldest() {
    const known = [...this.#lines.values()].flatMap(({ seqNo }) => (seqNo === null ? [] : [seqNo]));
    return known.length > 0 ? Math.min(...known) : undefined;
  }

  /** Whether as much is shown as a page should hold. */
  get full() {
    return this.#lines.size >= MOST;
  }

  /**
   * Take in an event.
   *
   * @param {Message} message
   * @returns {Line | null} its line; null when it was known, if only as one of our own
   */
  add({ messageId, seqNo, data, ts }) {
    const own = this.#lines.get(messageId);
    // A messageId is unique for its user only: nobody else's event takes the place of a line.
    const key = own && (own.seqNo === null || own.seqNo === seqNo) ? messageId : `#${seqNo}`;
    const known = this.#lines.get(key);
    const { user, name, text } = speech(data);
    const delivery = known?.delivery ? /** @type {const} */ ("sent") : null;
    const line = { key, seqNo, user, name, text, ts, delivery, problem: "" };
    this.#lines.set(key, line);
    if (this.#lines.size > MOST) this.#dropOldest();
    return known === undefined ? line : null;
  }

  /**
   * Note what this page sends, before anybody has confirmed it.
   *
   * @param {{key: string, user: string, name: string, text: string}} line
   */
  write({ key, user, name, text }) {
    const ts = this.#lines.get(key)?.ts ?? Date.now();
    const line = { key, seqNo: null, user, name, text, ts, delivery: /** @type {const} */ ("sending") };
    this.#lines.set(key, { ...line, problem: "" });
  }

  /**
   * @param {string} key
   * @param {number} seqNo
   */
  confirm(key, seqNo) {
    const line = this.#lines.get(key);
    if (line) this.#lines.set(key, { ...line, seqNo, delivery: "sent", problem: "" });
  }

  /**
   * @param {string} key
   * @param {string} problem in words
   */
  fail(key, problem) {
    const line = this.#lines.get(key);
    // Its event may have come although the confirmation did not.
    if (line?.delivery === "sending") this.#lines.set(key, { ...line, delivery: "failed", problem });
  }

  /** Forget what was stored: the stream was recreated. */
  clear() {
    for (const [key, { seqNo }] of this.#lines) if (seqNo !== null) this.#lines.delete(key);
  }

  #dropOldest() {
    const oldest = this.oldest;
    for (const [key, { seqNo }] of this.#lines) if (seqNo === oldest) this.#lines.delete(key);
  }
}

/**
 * Return what somebody said. The payload can be anything, and says itself whose it is: the name
 * is a claim (docs/pages.md).
 *
 * @param {any} data
 */
function speech(data) {
  const { user = "", name = "", text } = typeof data === "object" && data !== null ? data : {};
  const words = typeof text === "string" ? text : JSON.stringify(data) ?? "";
  return { user: String(user), name: String(name).slice(0, 60) || "someone", text: words };
}
