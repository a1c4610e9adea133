/**
 * The sequence state of one topic: what to deliver, what to hold, what to drop.
 *
 * Pure: no clock, no timers, no socket. Every event names its own sequence (`seqNo`) and that
 * of the event before it on its topic (`prevSeqNo`), so a hole shows at once. The gateway keeps
 * this chain whole by itself; this is the second lock.
 *
 * @typedef {import("./frames.js").Message} Message
 * @typedef {{fromSeq: number, toSeq: number}} Gap sequences that can no longer be had
 * @typedef {{deliver: Message[], gap: Gap | null, repeat: boolean}} Verdict
 */

export class Chain {
  /**
   * @param {object} [options]
   * @param {number | null} [options.last] last sequence already seen; null: join at the top
   * @param {string | null} [options.epoch] of the stream that `last` belongs to
   * @param {number} [options.limit] most events held behind a hole
   */
  constructor({ last = null, epoch = null, limit = 1000 } = {}) {
    /** @type {number | null} */
    this.last = last;
    /** @type {string | null} */
    this.epoch = epoch;
    this.limit = limit;
    /** Highest sequence that the topic is known to have. */
    this.top = last ?? 0;
    /** The gateway said that not everything after `last` could be had. */
    this.lossy = false;
    /** @type {Message[]} in ascending order */
    this.held = [];
  }

  /** Whether events are known to exist that were not delivered yet. */
  get behind() {
    return this.last !== null && this.top > this.last;
  }

  /**
   * Take in an event.
   *
   * @param {Message} message
   * @returns {Verdict} what to deliver now, in order; `repeat` when it was delivered before
   */
  accept(message) {
    const { seqNo } = message;
    if (seqNo === null) return verdict([message]);
    const previous = message.prevSeqNo ?? 0;
    this.last ??= previous;
    this.top = Math.max(this.top, seqNo);
    if (seqNo <= this.last) return verdict([], null, true);
    let gap = null;
    if (previous > this.last) {
      if (!this.lossy) {
        this.#hold(message);
        return verdict([]);
      }
      gap = { fromSeq: this.last + 1, toSeq: previous };
    }
    this.lossy = false;
    this.last = seqNo;
    return verdict([message, ...this.#drain()], gap);
  }

  /**
   * Take in the gateway's answer to a subscription.
   *
   * Where `since` was sent, the missed events follow it, so the position stays: `seqNo`, the
   * top of the topic, only says how far there is to go.
   *
   * @param {{seqNo: number, epoch: string, recovered: boolean}} frame
   * @param {boolean} [durable] without `since` the gateway goes on from a position that it does
   *   not name, so the first event has to say where that is
   * @returns {boolean} whether the stream turned out to be a new one
   */
  subscribed({ seqNo, epoch, recovered }, durable = false) {
    const renewed = this.epoch !== null && this.last !== null && this.reset(epoch);
    this.epoch = epoch;
    this.lossy = this.last !== null && !recovered;
    if (!durable) this.last ??= seqNo;
    this.top = Math.max(this.top, seqNo);
    return renewed;
  }

  /**
   * Move on over sequences that can no longer be had.
   *
   * @param {Gap} gap
   * @returns {Message[] | null} what to deliver after it; null when it was known already
   */
  skip({ toSeq }) {
    this.lossy = false;
    if (this.last !== null && toSeq <= this.last) return null;
    const count = this.held.findIndex((message) => Number(message.seqNo) > toSeq);
    const covered = this.held.splice(0, count < 0 ? this.held.length : count);
    this.last = toSeq;
    this.top = Math.max(this.top, toSeq);
    return [...covered, ...this.#drain()];
  }

  /**
   * Stop waiting for a hole to be filled.
   *
   * @returns {Verdict}
   */
  giveUp() {
    if (!this.behind) return verdict([]);
    const next = this.held[0];
    const gap = { fromSeq: Number(this.last) + 1, toSeq: next?.prevSeqNo ?? this.top };
    this.last = gap.toSeq;
    return verdict(this.#drain(), gap);
  }

  /**
   * Forget the position: the stream was recreated and its sequences start anew.
   *
   * @param {string} epoch
   * @returns {boolean} false when that is the stream that the position belongs to
   */
  reset(epoch) {
    if (epoch === this.epoch) return false;
    this.epoch = epoch;
    this.last = 0;
    this.top = 0;
    this.held = [];
    this.lossy = false;
    return true;
  }

  /**
   * Go back, so that what the stream holds from `fromSeq` on is delivered again.
   *
   * @param {number} fromSeq
   */
  rewind(fromSeq) {
    this.last = Math.min(this.last ?? fromSeq, Math.max(0, fromSeq - 1));
  }

  /** Forget what is held: after a reconnect it is all sent again from `last` on. */
  restart() {
    this.held = [];
    this.top = this.last ?? 0;
    this.lossy = false;
  }

  /**
   * Keep an event that came too early. Beyond the limit it is let go: `top` remembers that it
   * exists, so that it is asked for again.
   *
   * @param {Message} message
   */
  #hold(message) {
    let index = this.held.length;
    while (index > 0 && Number(this.held[index - 1].seqNo) > Number(message.seqNo)) index -= 1;
    if (index > 0 && this.held[index - 1].seqNo === message.seqNo) return;
    if (this.held.length < this.limit) this.held.splice(index, 0, message);
  }

  /** Return the held events that are in order now. */
  #drain() {
    const ready = [];
    let message;
    while ((message = this.held[0]) && Number(message.prevSeqNo) <= Number(this.last)) {
      this.held.shift();
      if (Number(message.seqNo) <= Number(this.last)) continue;
      this.last = message.seqNo;
      ready.push(message);
    }
    return ready;
  }
}

/**
 * @param {Message[]} deliver
 * @param {Gap | null} [gap]
 * @param {boolean} [repeat]
 * @returns {Verdict}
 */
function verdict(deliver, gap = null, repeat = false) {
  return { deliver, gap, repeat };
}
