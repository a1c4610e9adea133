/**
 * The gateway's client for browsers and Node: one connection that comes back by itself, topics
 * without loss or repeats, publishing exactly once. No dependencies, no build step:
 *
 *     import { GatewayClient } from "/static/realtime/client.js";
 *     const client = new GatewayClient();
 *     client.addEventListener("statechange", ({ detail }) => console.log(detail.name));
 *     client.connect();
 *     client.subscribe("user.7.notifications", { onMessage: ({ data }) => console.log(data) });
 *
 * Events, each with what it is about in `detail`: `statechange` (a State, see state.js),
 * `message` (a Message), `gap` ({topic, fromSeq, toSeq}: lost for good), `reset` ({topic, epoch}),
 * `presence` ({topic, joined, left}), `unsubscribed` ({topic, reason}), `expiring` ({expiresAt}), `error` (a GatewayError).
 *
 * @typedef {import("./frames.js").Frame} Frame
 * @typedef {import("./frames.js").Message} Message
 * @typedef {import("./state.js").State} State
 * @typedef {import("./subscription.js").SubscribeOptions} SubscribeOptions
 * @typedef {import("./options.js").ClientOptions} ClientOptions
 */

import { Backoff } from "./backoff.js";
import { CloseCode, errorFrom, GatewayError } from "./errors.js";
import { messageFrom, randomId } from "./frames.js";
import { Link } from "./link.js";
import { addressOf, DEFAULTS, socketClass, tokenSource } from "./options.js";
import { Outbox } from "./outbox.js";
import { Replies } from "./replies.js";
import { Positions, memoryStore, webStore } from "./store.js";
import { Topics } from "./topics.js";

export { GatewayError, CloseCode, memoryStore, webStore };

const REFUSED = "The gateway refused the connection.";

export class GatewayClient extends EventTarget {
  #options;
  #positions;
  #link;
  #replies;
  #outbox;
  #topics;
  #token;
  /** @type {Frame | null} the last `ready` */
  #session = null;

  /** @param {ClientOptions} [options] */
  constructor(options = {}) {
    super();
    const { url, token, storage = webStore(), backoff } = options;
    this.#options = { ...DEFAULTS, ...options };
    this.#token = tokenSource(token);
    this.#positions = new Positions(storage ?? memoryStore());
    this.#link = new Link({
      url: addressOf(url),
      Socket: socketClass(options.WebSocket),
      token: this.#token,
      timing: this.#options,
      backoff: new Backoff(backoff),
      handlers: {
        frame: (frame) => this.#receive(frame),
        lost: (code) => this.#lost(code),
        state: (state) => this.#stateChanged(state),
        hide: () => this.#positions.flush(),
        error: (error) => this.#emit("error", error),
      },
    });
    const send = (/** @type {Frame} */ frame) => this.#link.send(frame);
    this.#replies = new Replies(send);
    this.#outbox = new Outbox(send);
    this.#topics = new Topics(
      this.#positions,
      {
        send,
        ask: (frame) => this.#ask(frame),
        emit: (type, detail) => this.#emit(type, detail),
        connected: () => this.#link.connected,
      },
      this.#options,
    );
  }

  /** @returns {Readonly<State>} */
  get state() {
    return this.#link.state;
  }

  /** Who the gateway says this is; null before the first `ready`. */
  get userId() {
    return this.#session?.userId ?? null;
  }

  /** When the credential ends, Unix s; null: never, or not known yet. */
  get expiresAt() {
    return this.#session?.expiresAt ?? null;
  }

  /** The topics that are wanted. */
  get topics() {
    return this.#topics.names;
  }

  /** Connect, and from now on come back by itself. */
  connect() {
    this.#link.start();
  }

  /** Connect now instead of when the wait is over, or again after a denial. */
  reconnect() {
    this.#link.retryNow();
  }

  /** Disconnect until `connect` is called; what is open is rejected. */
  close() {
    this.#positions.flush();
    this.#link.stop();
  }

  /**
   * Join a topic, and join it again after every reconnect from where it was left.
   *
   * Events reach `onMessage` and the `message` event in order and once. A call for a topic that
   * is held already replaces its options. A refusal rejects and ends it. A deadline that passes
   * because the gateway is out of reach rejects too, but the topic stays wanted.
   *
   * @param {string} topic or a pattern, such as `room.*`: events then say their own `topic`
   * @param {SubscribeOptions} [options]
   * @returns {Promise<Frame>} the `subscribed` frame
   */
  subscribe(topic, options = {}) {
    const subscribed = this.#topics.subscribe(topic, options);
    subscribed.catch(() => {}); // Who does not wait for it learns it from the events.
    return subscribed;
  }

  /**
   * Leave a topic. Its position is kept, so that a later `subscribe` misses nothing.
   *
   * @param {string} topic
   * @returns {Promise<void>}
   */
  unsubscribe(topic) {
    return this.#topics.unsubscribe(topic);
  }

  /**
   * Store and deliver a payload, exactly once however often the connection is lost.
   *
   * @param {string} topic
   * @param {unknown} payload anything that JSON can say
   * @param {{messageId?: string, timeout?: number}} [options] timeout in ms
   * @returns {Promise<Frame>} the `ack` frame: `status` is `ok` or `duplicate`
   */
  async publish(topic, payload, { messageId = randomId(), timeout } = {}) {
    this.#refuseWhenDenied(topic);
    const id = this.#replies.nextId();
    const frame = { type: "publish", id, topic, messageId, payload: payload ?? null };
    return this.#outbox.post(frame, timeout ?? this.#options.publishTimeout);
  }

  /**
   * Ask a backend.
   *
   * @param {string} topic
   * @param {unknown} [payload]
   * @param {{timeout?: number}} [options] how long the backend may take, ms
   * @returns {Promise<any>} what it answered
   */
  async request(topic, payload = null, { timeout } = {}) {
    const frame = { type: "request", topic, payload };
    if (timeout === undefined) return (await this.#ask(frame)).data;
    const patience = timeout + this.#options.replyTimeout;
    return (await this.#ask({ ...frame, timeout: timeout / 1000 }, patience)).data;
  }

  /**
   * Return a page of stored events, newest last.
   *
   * @param {string} topic
   * @param {{limit?: number, before?: number}} [options] before: only smaller sequences
   * @returns {Promise<Message[]>}
   */
  async history(topic, { limit, before } = {}) {
    const { data } = await this.#ask({ type: "history", topic, limit, before });
    return data.map(messageFrom);
  }

  /**
   * Return who is subscribed.
   *
   * @param {string} topic
   * @returns {Promise<any[]>}
   */
  async presence(topic) {
    return (await this.#ask({ type: "presence", topic })).data;
  }

  /**
   * Have what the stream holds of a topic from a sequence on delivered again.
   *
   * @param {string} topic
   * @param {number} fromSeq
   * @returns {Promise<void>} settles when the gateway has taken it up, or refused
   */
  replay(topic, fromSeq) {
    return this.#topics.replay(topic, fromSeq);
  }

  /**
   * Give the open session a new token.
   *
   * @param {string} token
   * @returns {Promise<Frame>} the new `ready` frame
   */
  refresh(token) {
    return this.#ask({ type: "refresh", token });
  }

  /**
   * Confirm an event, and all before it on its topic (QoS 1 with `ack: "manual"`).
   *
   * @param {Message} message
   */
  ack(message) {
    this.#topics.confirm(message);
  }

  /** @param {Frame} frame */
  #receive(frame) {
    const answered = this.#replies.settle(frame);
    switch (frame.type) {
      case "ready":
        return this.#ready(frame, answered);
      case "ack":
        return void this.#outbox.settle(frame);
      case "expiring":
        return this.#expiring(frame);
      case "error":
        this.#topics.receive(frame);
        if (answered || this.#outbox.settle(frame)) return;
        return this.#emit("error", errorFrom(frame));
      default:
        if (frame.topic !== undefined) this.#topics.receive(frame);
    }
  }

  /**
   * @param {Frame} frame
   * @param {boolean} refreshed it answers `refresh`: the session goes on
   */
  #ready(frame, refreshed) {
    this.#session = frame;
    if (refreshed) return;
    this.#topics.ready(frame);
    this.#replies.flush();
    this.#outbox.flush();
  }

  /** @param {Frame} frame */
  async #expiring({ expiresAt }) {
    this.#emit("expiring", { expiresAt });
    try {
      const token = await this.#token();
      if (token !== null) await this.refresh(token);
    } catch (error) {
      // The session ends at its time, and the next connection asks for a token again.
      this.#emit("error", error);
    }
  }

  /** @param {number} code */
  #lost(code) {
    if (code === CloseCode.TOO_BIG) this.#outbox.tooBig();
    this.#outbox.disconnected();
    this.#topics.disconnected();
    this.#replies.disconnected();
  }

  /** @param {Readonly<State>} state */
  #stateChanged({ name, reason }) {
    if (name === "denied" || name === "closed") {
      const code = name.toUpperCase();
      const message = name === "closed" ? "The client was closed." : reason || REFUSED;
      this.#topics.refuse(code, message);
      this.#replies.refuse(code, message);
      this.#outbox.refuse(code, message);
    }
    this.#emit("statechange", this.state);
  }

  /**
   * @param {Frame} frame
   * @param {number} [timeout] ms
   */
  async #ask(frame, timeout = this.#options.replyTimeout) {
    this.#refuseWhenDenied(frame.topic);
    return this.#replies.ask(frame, timeout);
  }

  /** @param {string | undefined} topic */
  #refuseWhenDenied(topic) {
    if (this.state.name !== "denied") return;
    throw new GatewayError("DENIED", this.state.reason || REFUSED, topic ?? null);
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
