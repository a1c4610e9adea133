/**
 * One connection: a WebSocket from its opening to its end, with the heartbeat that tells a
 * quiet one from a dead one.
 *
 * @typedef {import("./frames.js").Frame} Frame
 * @typedef {{code: number, reason: string}} Ending
 *
 * @typedef {object} Timing all in ms
 * @property {number} connectTimeout from the start until `ready`
 * @property {number} heartbeatGrace beyond the heartbeat without traffic, then it is dead
 * @property {number} probeTimeout for the answer to a ping after a wake-up
 */

import { parseFrame } from "./frames.js";
import { CloseCode } from "./errors.js";

const OPEN = 1; // WebSocket.OPEN

export class Connection {
  #socket;
  #timing;
  #handlers;
  #heartbeat = 25_000;
  #pingAt = 0;
  #ended = false;
  #ready = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} runs out when the peer is dead */
  #deadline;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #beat;

  /**
   * @param {WebSocket} socket just made
   * @param {string | null} token null: the Django session cookie is the credential
   * @param {Timing} timing
   * @param {object} handlers
   * @param {(frame: Frame) => void} handlers.frame a frame came, `ready` first
   * @param {(ending: Ending) => void} handlers.ended called once, at the end
   */
  constructor(socket, token, timing, handlers) {
    this.#socket = socket;
    this.#timing = timing;
    this.#handlers = handlers;
    this.#deadline = setTimeout(
      () => this.end(CloseCode.ABNORMAL, "The gateway did not answer in time."),
      timing.connectTimeout,
    );
    this.#socket.onopen = () => this.send({ type: "connect", ...(token !== null && { token }) });
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = ({ code, reason }) => this.#finish({ code, reason });
    // `close` follows; but an EventEmitter whose `error` nobody hears, as in Node's package ws,
    // ends the process.
    this.#socket.onerror = () => {};
  }

  /** Whether the gateway said `ready`. */
  get ready() {
    return this.#ready;
  }

  /**
   * @param {Frame} frame
   * @returns {boolean} whether it could be handed to the browser
   */
  send(frame) {
    if (this.#socket.readyState !== OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /**
   * Ask for a sign of life, and end the connection when none comes.
   *
   * @param {number} [timeout] ms
   */
  probe(timeout = this.#timing.probeTimeout) {
    clearTimeout(this.#beat);
    clearTimeout(this.#deadline);
    this.#pingAt = Date.now();
    this.send({ type: "ping" });
    this.#deadline = setTimeout(() => this.#unanswered(timeout), timeout);
  }

  /**
   * End it from this side. The closing handshake is not waited for: on a dead network it would
   * take the browser minutes to give it up.
   *
   * @param {number} code
   * @param {string} reason
   */
  end(code, reason) {
    this.#finish({ code, reason });
    try {
      this.#socket.close(CloseCode.NORMAL);
    } catch {
      // It never opened.
    }
  }

  /** @param {unknown} data */
  #receive(data) {
    if (this.#ended) return;
    const frame = parseFrame(data);
    if (frame?.type === "ready") {
      this.#ready = true;
      if (frame.heartbeat > 0) this.#heartbeat = frame.heartbeat * 1000;
    }
    if (this.#ready) this.#alive();
    if (frame !== null) this.#handlers.frame(frame);
  }

  /**
   * Note traffic. The next ping is set here, in the handler of a frame, and not by a timer:
   * browsers slow down timers that were set by timers in pages that have long been hidden
   * (https://developer.chrome.com/blog/timer-throttling-in-chrome-88), and the gateway would
   * take the page for dead.
   */
  #alive() {
    if (this.#deadline === undefined) return;
    clearTimeout(this.#deadline);
    clearTimeout(this.#beat);
    this.#deadline = undefined;
    this.#beat = setTimeout(() => this.probe(this.#timing.heartbeatGrace), this.#heartbeat);
  }

  /** @param {number} timeout ms */
  #unanswered(timeout) {
    const slept = Date.now() - this.#pingAt > timeout + this.#timing.heartbeatGrace;
    if (slept) {
      this.probe(); // The answer could not have been read: ask again.
    } else {
      this.end(CloseCode.HEARTBEAT_LOST, "The gateway stopped answering.");
    }
  }

  /** @param {Ending} ending */
  #finish(ending) {
    if (this.#ended) return;
    this.#ended = true;
    this.#ready = false;
    clearTimeout(this.#deadline);
    clearTimeout(this.#beat);
    this.#handlers.ended(ending);
  }
}
