/**
 * One topic that a client wants: its chain, its timer, its callback.
 *
 * @typedef {import("./frames.js").Message} Message
 * @typedef {import("./frames.js").Frame} Frame
 * @typedef {import("./chain.js").Gap} Gap
 * @typedef {import("./store.js").Position} Position
 *
 * @typedef {object} PresenceChange
 * @property {string} topic
 * @property {{userId: string, info: any}[]} joined
 * @property {string[]} left user ids
 *
 * @typedef {object} SubscribeOptions
 * @property {number} [since] last sequence already processed: what the stream holds after it
 *   comes first. Left out: where this user left off in this tab, else at the top
 * @property {string} [epoch] of the stream that `since` belongs to
 * @property {0 | 1} [qos] 1: every event is confirmed, and sent again until it is
 * @property {string} [durable] name under which the gateway keeps the confirmed position;
 *   implies QoS 1
 * @property {"auto" | "manual"} [ack] QoS 1, auto: confirmed once onMessage has returned (or
 *   its promise is fulfilled; after three failures it counts as done, and an `error` event says
 *   so); manual: by `client.ack(message)`
 * @property {(message: Message) => unknown} [onMessage]
 * @property {(change: PresenceChange) => unknown} [onPresence] is told who comes and goes
 *
 * @typedef {object} Hooks what a subscription needs of its client
 * @property {(frame: Frame) => boolean} send
 * @property {(fromSeq: number) => Promise<unknown>} replay rejects when it is refused
 * @property {(type: string, detail: unknown) => void} emit
 * @property {(position: Position) => void} moved
 */

import { Chain } from "./chain.js";
import { GatewayError } from "./errors.js";
import { Receipts } from "./receipts.js";

const REPLAYS = 2; // questions for the same hole, then it is given up

export class Subscription {
  /** Whether the gateway has confirmed it on the present connection. */
  joined = false;
  #placed;
  #hooks;
  #timeout;
  /** @type {Receipts | null} null: QoS 0 */
  #receipts = null;
  #replays = 0;
  #progressAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} runs while events are missing */
  #timer;

  /**
   * @param {string} topic
   * @param {SubscribeOptions} options
   * @param {Hooks} hooks
   * @param {number} timeout ms without progress, then a hole is asked for again or given up
   */
  constructor(topic, options, hooks, timeout) {
    this.topic = topic;
    this.options = options;
    this.#hooks = hooks;
    this.#timeout = timeout;
    this.chain = new Chain({ last: options.since ?? null, epoch: options.epoch ?? null });
    this.#placed = options.since !== undefined;
    // A durable position cannot move without confirmations.
    if (options.qos === 1 || options.durable !== undefined) {
      this.#receipts = new Receipts(() => {
        if (this.position === null) return;
        hooks.send({ type: "ack", topic, seqNo: this.position });
      });
    }
  }

  /** The last sequence that is done with: everything up to it needs not be sent again. */
  get position() {
    const first = this.#receipts?.first ?? null;
    return first === null ? this.chain.last : first - 1;
  }

  /**
   * Start from a position of the user that is here now; null: from the top.
   *
   * A `since` that the caller gave comes first, once: it was not another user's.
   *
   * @param {Position | null} position
   */
  place(position) {
    if (this.#placed) {
      this.#placed = false;
      return;
    }
    this.restart();
    this.#receipts?.forget();
    this.chain = new Chain({ last: position?.seq ?? null, epoch: position?.epoch ?? null });
  }

  /** Return the frame that asks for this subscription. */
  frame() {
    const { qos, durable, onPresence } = this.options;
    const { epoch } = this.chain;
    const since = this.position;
    return {
      type: "subscribe",
      topic: this.topic,
      ...(since !== null && { since, ...(epoch !== null && { epoch }) }),
      ...(qos && { qos }),
      ...(durable && { durable }),
      ...(onPresence && { presence: true }),
    };
  }

  /** Note that the gateway cannot look for what is missing now: that is no reason to give up. */
  excuse() {
    this.#replays = 0;
    this.#progressAt = Date.now();
  }

  /** Note that the connection is gone. */
  restart() {
    this.joined = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#replays = 0;
    this.chain.restart();
  }

  /**
   * @param {Frame} frame `subscribed`
   * @returns {boolean} whether the stream turned out to be another one than before
   */
  subscribed(frame) {
    this.joined = true;
    const durable = this.options.durable !== undefined && this.position === null;
    const renewed = this.chain.subscribed(/** @type {any} */ (frame), durable);
    if (renewed) this.#receipts?.forget();
    this.#moved();
    this.#watch();
    return renewed;
  }

  /** @param {Message} message */
  receive(message) {
    const { deliver, gap, repeat } = this.chain.accept(message);
    if (repeat && this.#receipts?.repeated(Number(message.seqNo))) this.#handle(message);
    if (gap !== null) this.#gap(gap);
    this.#deliver(deliver);
    if (this.chain.held.length > 0 && this.#timer === undefined) this.#replay();
    this.#watch();
  }

  /** @param {PresenceChange} change */
  present(change) {
    try {
      this.options.onPresence?.(change);
    } catch (error) {
      this.#failed(error);
    }
    this.#hooks.emit("presence", change);
  }

  /** @param {Gap} gap */
  skip(gap) {
    const deliver = this.chain.skip(gap);
    if (deliver === null) return;
    this.#gap(gap);
    this.#deliver(deliver);
    this.#moved();
    this.#watch();
  }

  /**
   * @param {string} epoch
   * @returns {boolean} whether that is another stream than before
   */
  reset(epoch) {
    if (!this.chain.reset(epoch)) return false;
    this.#receipts?.forget();
    this.#moved();
    this.#watch();
    return true;
  }

  /**
   * Have what the stream holds from a sequence on delivered again.
   *
   * @param {number} fromSeq
   */
  rewind(fromSeq) {
    this.chain.rewind(fromSeq);
    this.#receipts?.forget(fromSeq);
    this.#moved();
    this.#watch();
  }

  /**
   * Confirm everything up to an event.
   *
   * @param {Message} message
   */
  confirm(message) {
    if (message.seqNo === null) return; // Ephemeral: nobody waits for it.
    this.#receipts?.doneUpTo(message.seqNo);
    this.#moved();
  }

  /** @param {Message[]} messages */
  #deliver(messages) {
    if (messages.length === 0) return;
    this.#progressAt = Date.now();
    for (const message of messages) {
      if (message.seqNo !== null) this.#receipts?.add(message.seqNo);
      this.#handle(message);
      this.#hooks.emit("message", message);
    }
    this.#moved();
  }

  /** @param {Message} message */
  async #handle(message) {
    const { ack, onMessage } = this.options;
    try {
      const result = onMessage?.(message);
      // What is no promise is done with now, and not a turn later.
      if (result instanceof Promise) await result;
    } catch (error) {
      const again = ack !== "manual" && this.#receipts?.failed(Number(message.seqNo));
      if (again) return;
      this.#failed(error);
    }
    if (ack === "manual" || message.seqNo === null) return;
    this.#receipts?.done(message.seqNo);
    this.#moved();
  }

  /** @param {unknown} cause what onMessage threw */
  #failed(cause) {
    console.error(cause);
    const message = "A message could not be handled.";
    this.#hooks.emit("error", new GatewayError("HANDLER", message, this.topic, { cause }));
  }

  #moved() {
    const seq = this.position;
    if (seq !== null) this.#hooks.moved({ seq, epoch: this.chain.epoch });
  }

  /** @param {Gap} gap */
  #gap({ fromSeq, toSeq }) {
    this.#hooks.emit("gap", { topic: this.topic, fromSeq, toSeq });
  }

  /** See to it that what is missing comes, or is given up. */
  #watch() {
    if (!this.chain.behind) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#replays = 0;
    } else if (this.#timer === undefined) {
      this.#progressAt = Date.now();
      this.#wait(this.#timeout);
    }
  }

  /** @param {number} delay ms */
  #wait(delay) {
    this.#timer = setTimeout(() => this.#overdue(), delay);
  }

  #overdue() {
    // With QoS 1 the gateway sends no more until some of what it sent is confirmed.
    if (this.#receipts !== null && this.#receipts.first !== null) this.#progressAt = Date.now();
    const left = this.#progressAt + this.#timeout - Date.now();
    if (left > 0) {
      this.#wait(left);
      return;
    }
    this.#timer = undefined;
    if (this.#replays < REPLAYS) {
      this.#replay();
    } else {
      this.#replays = 0;
      const { deliver, gap } = this.chain.giveUp();
      if (gap !== null) this.#gap(gap);
      this.#deliver(deliver);
      this.#moved();
    }
    this.#watch();
  }

  #replay() {
    this.#replays += 1;
    this.#hooks.replay(Number(this.chain.last) + 1).catch((error) => {
      if (error.passing) this.excuse();
    });
  }
}
