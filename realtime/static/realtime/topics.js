/**
 * The topics that a client wants, joined on every connection from where they were left.
 *
 * @typedef {import("./frames.js").Frame} Frame
 * @typedef {import("./frames.js").Message} Message
 * @typedef {import("./subscription.js").SubscribeOptions} SubscribeOptions
 *
 * @typedef {object} TopicHooks what it needs of the client
 * @property {(frame: Frame) => boolean} send
 * @property {(frame: Frame) => Promise<Frame>} ask
 * @property {(type: string, detail: unknown) => void} emit
 * @property {() => boolean} connected
 *
 * @typedef {object} Waiting who waits for the first `subscribed`
 * @property {(frame: Frame) => void} resolve
 * @property {(error: Error) => void} reject
 */

import { errorFrom, GatewayError } from "./errors.js";
import { messageFrom } from "./frames.js";
import { Subscription } from "./subscription.js";

const JOIN_AGAIN = 2_000; // ms after a refusal that may pass

export class Topics {
  /** @type {Map<string, Subscription>} */
  #held = new Map();
  /** @type {Map<Subscription, Waiting>} */
  #waiting = new Map();
  /** @type {Set<string>} topics left by the user, should the gateway join them by itself */
  #left = new Set();
  #positions;
  #hooks;
  #timing;

  /**
   * @param {import("./store.js").Positions} positions
   * @param {TopicHooks} hooks
   * @param {{replyTimeout: number, replayTimeout: number}} timing ms
   */
  constructor(positions, hooks, timing) {
    this.#positions = positions;
    this.#hooks = hooks;
    this.#timing = timing;
  }

  /** The names of the topics that are wanted. */
  get names() {
    return [...this.#held.keys()];
  }

  /**
   * @param {string} topic
   * @param {SubscribeOptions} options
   * @returns {Promise<Frame>} the `subscribed` frame
   */
  subscribe(topic, options) {
    const subscription = this.#hold(topic, options);
    const { replyTimeout } = this.#timing;
    const promise = new Promise((resolve, reject) => {
      const message = `The gateway did not confirm the subscription in ${replyTimeout / 1000} s.`;
      const timer = setTimeout(
        () => this.#settle(subscription)?.reject(new GatewayError("TIMEOUT", message, topic)),
        replyTimeout,
      );
      this.#waiting.set(subscription, {
        resolve: (frame) => (clearTimeout(timer), resolve(frame)),
        reject: (error) => (clearTimeout(timer), reject(error)),
      });
    });
    if (this.#hooks.connected()) this.#join(subscription);
    return promise;
  }

  /** @param {string} topic */
  async unsubscribe(topic) {
    this.#drop(topic, new GatewayError("CLOSED", "It was unsubscribed from.", topic));
    this.#left.add(topic);
    if (!this.#hooks.connected()) return;
    try {
      await this.#hooks.ask({ type: "unsubscribe", topic });
    } catch (error) {
      // Not held, or gone with the connection: it is left either way.
      const gone = ["NOT_SUBSCRIBED", "DISCONNECTED"];
      if (!(error instanceof GatewayError && gone.includes(error.code))) throw error;
    }
  }

  /**
   * @param {string} topic
   * @param {number} fromSeq
   */
  async replay(topic, fromSeq) {
    const subscription = this.#held.get(topic);
    if (subscription === undefined) {
      throw new GatewayError("NOT_SUBSCRIBED", `'${topic}' is not subscribed to.`, topic);
    }
    subscription.rewind(fromSeq);
    await this.#ask(topic, fromSeq);
  }

  /** @param {Message} message */
  confirm(message) {
    this.#held.get(message.pattern ?? message.topic)?.confirm(message);
  }

  /**
   * Join everything: a connection is ready.
   *
   * @param {Frame} frame `ready`
   */
  ready({ userId, subscriptions }) {
    const another = this.#positions.open(userId);
    for (const topic of subscriptions ?? []) {
      if (this.#left.has(topic)) this.#hooks.send({ type: "unsubscribe", topic });
      else if (!this.#held.has(topic)) this.#hold(topic, {});
    }
    for (const subscription of this.#held.values()) {
      if (another) subscription.place(this.#positions.get(subscription.topic));
      this.#join(subscription);
    }
  }

  /** Note that the connection is gone. */
  disconnected() {
    for (const subscription of this.#held.values()) subscription.restart();
  }

  /**
   * Tell who waits that there will be no connection.
   *
   * @param {string} code
   * @param {string} message
   */
  refuse(code, message) {
    for (const subscription of [...this.#waiting.keys()]) {
      this.#settle(subscription)?.reject(new GatewayError(code, message, subscription.topic));
    }
  }

  /**
   * Take in a frame about a topic.
   *
   * @param {Frame} frame
   */
  receive(frame) {
    const subscription = this.#held.get(frame.pattern ?? frame.topic);
    if (subscription === undefined) return; // Left meanwhile.
    switch (frame.type) {
      case "message":
        return subscription.receive(messageFrom(frame));
      case "subscribed":
        if (subscription.subscribed(frame)) this.#reset(frame);
        return this.#settle(subscription)?.resolve(frame);
      case "presence":
        return subscription.present({
          topic: frame.topic,
          joined: frame.joined,
          left: frame.left,
        });
      case "gap":
        return subscription.skip({ fromSeq: frame.fromSeq, toSeq: frame.toSeq });
      case "reset":
        if (subscription.reset(frame.epoch)) this.#reset(frame);
        return;
      case "unsubscribed":
        return this.#unsubscribed(subscription, frame);
      case "error":
        if (errorFrom(frame).passing) subscription.excuse();
    }
  }

  /**
   * @param {string} topic
   * @param {SubscribeOptions} options
   */
  #hold(topic, options) {
    const old = this.#held.get(topic);
    const left = old?.position ?? null;
    const position =
      left === null ? this.#positions.get(topic) : { seq: left, epoch: old?.chain.epoch ?? null };
    old?.restart();
    if (old) this.#settle(old)?.reject(new GatewayError("CLOSED", "It was replaced.", topic));
    const hooks = {
      send: this.#hooks.send,
      replay: (/** @type {number} */ fromSeq) => this.#ask(topic, fromSeq),
      emit: this.#hooks.emit,
      moved: (/** @type {import("./store.js").Position} */ moved) =>
        this.#positions.set(topic, moved),
    };
    const subscription = new Subscription(topic, options, hooks, this.#timing.replayTimeout);
    if (options.since === undefined) subscription.place(position);
    this.#held.set(topic, subscription);
    this.#left.delete(topic);
    return subscription;
  }

  /** @param {Subscription} subscription */
  async #join(subscription) {
    const { topic } = subscription;
    try {
      await this.#hooks.ask(subscription.frame());
    } catch (error) {
      if (this.#held.get(topic) !== subscription || !(error instanceof GatewayError)) return;
      if (error.passing) {
        const again = () => {
          const wanted = this.#held.get(topic) === subscription && !subscription.joined;
          if (wanted && this.#hooks.connected()) this.#join(subscription);
        };
        setTimeout(again, JOIN_AGAIN);
      } else if (!["DISCONNECTED", "CLOSED", "DENIED"].includes(error.code)) {
        this.#drop(topic, error);
        const reason = error.code === "ACL_DENIED" ? "acl" : error.code;
        this.#hooks.emit("unsubscribed", { topic, reason });
      }
    }
  }

  /**
   * @param {Subscription} subscription
   * @param {Frame} frame `unsubscribed`
   */
  #unsubscribed({ topic }, { reason = "client" }) {
    if (reason === "client") return; // The answer to a request that `subscribe` overtook.
    const message =
      reason === "acl" ? "You may not see this any more." : "The gateway ended the subscription.";
    this.#drop(topic, new GatewayError("ACL_DENIED", message, topic));
    this.#hooks.emit("unsubscribed", { topic, reason });
  }

  /** @param {Frame} frame */
  #reset({ topic, epoch }) {
    this.#hooks.emit("reset", { topic, epoch });
  }

  /**
   * Ask for a replay. That has no answer of its own, but frames are handled in order: once a
   * `ping` sent behind it is answered, it has not been refused.
   *
   * @param {string} topic
   * @param {number} fromSeq
   */
  #ask(topic, fromSeq) {
    return Promise.race([
      this.#hooks.ask({ type: "replay", topic, fromSeq }),
      this.#hooks.ask({ type: "ping" }),
    ]);
  }

  /**
   * @param {string} topic
   * @param {Error} error for who still waits for it
   */
  #drop(topic, error) {
    const subscription = this.#held.get(topic);
    if (subscription === undefined) return;
    subscription.restart();
    this.#held.delete(topic);
    this.#settle(subscription)?.reject(error);
  }

  /** @param {Subscription} subscription */
  #settle(subscription) {
    const waiting = this.#waiting.get(subscription);
    this.#waiting.delete(subscription);
    return waiting;
  }
}
