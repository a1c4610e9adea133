/**
 * The link to the gateway: connects, and comes back by itself when the connection ends, at once
 * when the machine wakes, and never when the gateway says so.
 *
 * @typedef {import("./frames.js").Frame} Frame
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Change} Change
 *
 * @typedef {object} LinkHandlers
 * @property {(frame: Frame) => void} frame a frame came; a `ready` without `id` comes first on
 *   every connection
 * @property {(code: number) => void} lost the connection, or the attempt, ended
 * @property {(state: Readonly<State>) => void} state the state changed
 * @property {() => void} hide the page may be gone after this
 * @property {(error: GatewayError) => void} error the token could not be had
 */

import { Connection } from "./connection.js";
import { CloseCode, comesBack, GatewayError } from "./errors.js";
import { CLOSED, reduce } from "./state.js";
import { watchWake } from "./wake.js";

const ATTEMPT_SPACING = 1_000; // ms between attempts, however often the machine wakes

export class Link {
  /** @type {Readonly<State>} */
  state = CLOSED;
  #url;
  #Socket;
  #token;
  #timing;
  #backoff;
  #handlers;
  /** @type {Connection | null} from the opening of its socket on */
  #connection = null;
  /** Counts attempts, so that an overtaken one notices. */
  #attempt = 0;
  #attemptedAt = 0;
  /** @type {number | null} the wait that the gateway asked for, ms */
  #afterMs = null;
  /** What the gateway's last `error` frame said, for a close that follows it. */
  #lastError = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {(() => void) | null} */
  #unwatch = null;

  /**
   * @param {object} parts
   * @param {string} parts.url
   * @param {typeof WebSocket} parts.Socket
   * @param {() => string | null | Promise<string | null>} parts.token
   * @param {import("./connection.js").Timing} parts.timing
   * @param {import("./backoff.js").Backoff} parts.backoff
   * @param {LinkHandlers} parts.handlers
   */
  constructor({ url, Socket, token, timing, backoff, handlers }) {
    this.#url = url;
    this.#Socket = Socket;
    this.#token = token;
    this.#timing = timing;
    this.#backoff = backoff;
    this.#handlers = handlers;
  }

  /** Whether frames can be sent. */
  get connected() {
    return this.#connection?.ready === true;
  }

  /** Connect, unless that is under way. */
  start() {
    if (this.state.name !== "closed" && this.state.name !== "denied") return;
    this.#unwatch ??= watchWake({
      wake: () => this.#wake(),
      offline: () => this.#offline(),
      hide: () => this.#handlers.hide(),
    });
    this.#open();
  }

  /** Disconnect until `start`. */
  stop() {
    this.#unwatch?.();
    this.#unwatch = null;
    // First, so that what is open learns that it was closed, and not merely disconnected.
    this.#change({ type: "close" });
    this.#abandon();
  }

  /** Connect now instead of when the wait is over, or after a denial. */
  retryNow() {
    if (this.state.name === "closed" || this.state.name === "denied") this.start();
    else if (this.state.retryAt !== null) this.#open();
  }

  /**
   * @param {Frame} frame
   * @returns {boolean} whether there was a connection to send it over
   */
  send(frame) {
    if (!this.#connection?.ready) return false;
    return this.#connection.send(frame);
  }

  async #open() {
    this.#abandon();
    const attempt = ++this.#attempt;
    this.#attemptedAt = Date.now();
    this.#lastError = "";
    this.#change({ type: "attempt" });
    let token;
    try {
      token = await within(this.#timing.connectTimeout, this.#token);
    } catch (error) {
      if (attempt === this.#attempt) this.#tokenFailed(error);
      return;
    }
    if (attempt !== this.#attempt) return;
    const socket = new this.#Socket(this.#url);
    this.#connection = new Connection(socket, token, this.#timing, {
      frame: (frame) => this.#receive(frame),
      ended: ({ code, reason }) => this.#ended(code, reason),
    });
  }

  /** Let go of the connection, the attempt or the wait, without a word to the handlers. */
  #abandon() {
    this.#attempt += 1;
    clearTimeout(this.#retry);
    const connection = this.#connection;
    this.#connection = null;
    if (connection === null) return;
    connection.end(CloseCode.NORMAL, "");
    this.#handlers.lost(CloseCode.NORMAL);
  }

  /** @param {Frame} frame */
  #receive(frame) {
    const unasked = frame.type === "error" && (frame.id ?? null) === null;
    this.#lastError = unasked ? (frame.message ?? "") : "";
    if (frame.type === "reconnect") {
      this.#afterMs = Math.max(0, Number(frame.afterMs) || 0);
      this.#connection?.end(CloseCode.NORMAL, "The gateway asked to come back later.");
      return;
    }
    this.#handlers.frame(frame);
    if (frame.type === "ready" && this.state.name !== "open") {
      this.#backoff.opened(Date.now());
      this.#change({ type: "ready" });
    }
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #ended(code, reason) {
    if (this.#connection === null) return; // abandoned
    this.#connection = null;
    const stable = this.#backoff.ended(Date.now());
    const said = this.#lastError || reason;
    if (!comesBack(code)) this.#change({ type: "denied", code, reason: said });
    this.#handlers.lost(code);
    if (!comesBack(code)) return;
    // An expired token says nothing about the gateway's health: a fresh one may come at once.
    const fresh = code === CloseCode.TOKEN_EXPIRED && stable;
    const delay = this.#afterMs ?? (fresh ? 0 : this.#backoff.next());
    this.#afterMs = null;
    this.#comeBack(delay, code, said);
  }

  /** @param {unknown} error */
  #tokenFailed(error) {
    const cause = error instanceof Error ? error : new Error(String(error));
    const known = error instanceof GatewayError;
    const failure = known
      ? error
      : new GatewayError("AUTH_REQUIRED", "No token could be had.", null, { cause });
    this.#handlers.error(failure);
    this.#handlers.lost(CloseCode.ABNORMAL);
    if (failure.code === "AUTH_FAILED") {
      this.#change({ type: "denied", code: CloseCode.AUTH_FAILED, reason: failure.message });
    } else {
      this.#comeBack(this.#backoff.next(), CloseCode.ABNORMAL, failure.message);
    }
  }

  /**
   * @param {number} delay ms
   * @param {number} code
   * @param {string} reason
   */
  #comeBack(delay, code, reason) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), delay);
    const online = globalThis.navigator?.onLine !== false;
    this.#change({ type: "lost", retryAt: Date.now() + delay, online, code, reason });
  }

  #wake() {
    if (this.state.name === "offline") this.#change({ type: "network", online: navigator.onLine });
    if (this.#connection?.ready) {
      this.#connection.probe();
      return;
    }
    const waiting = this.state.retryAt !== null;
    const since = Date.now() - this.#attemptedAt;
    // An attempt made before the machine slept hangs in a network that is gone.
    const stuck = this.#connection !== null && since > this.#timing.probeTimeout;
    if (!waiting && !stuck) return;
    if (since >= ATTEMPT_SPACING) {
      this.#open();
    } else if (waiting && Number(this.state.retryAt) > Date.now() + ATTEMPT_SPACING) {
      const { code, reason } = this.state;
      this.#comeBack(ATTEMPT_SPACING - since, Number(code), reason);
    }
  }

  #offline() {
    // The word of the browser is a hint: what still answers is not lost.
    if (this.#connection?.ready) this.#connection.probe();
    else this.#change({ type: "network", online: false });
  }

  /** @param {Change} change */
  #change(change) {
    const before = this.state;
    this.state = reduce(before, change);
    if (this.state !== before) this.#handlers.state(this.state);
  }
}

/**
 * @template T
 * @param {number} timeout ms
 * @param {() => T | Promise<T>} call
 * @returns {Promise<T>}
 */
async function within(timeout, call) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    const error = new GatewayError("TIMEOUT", "The token did not come in time.");
    timer = setTimeout(() => reject(error), timeout);
  });
  try {
    return await Promise.race([call(), /** @type {Promise<never>} */ (late)]);
  } finally {
    clearTimeout(timer);
  }
}
