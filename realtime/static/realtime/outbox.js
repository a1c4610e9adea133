/**
 * Publishing exactly once: the same `messageId` is sent again after every reconnect until the
 * gateway has confirmed it or the deadline has passed. The stream drops repeats, for as long as
 * its deduplication window (five minutes by default): deadlines have to stay below that.
 *
 * @typedef {import("./frames.js").Frame} Frame
 *
 * @typedef {object} Letter
 * @property {Frame} frame
 * @property {number} bytes
 * @property {"waits" | "sent" | "rests"} state `rests`: refused for now
 * @property {(ack: Frame) => void} resolve
 * @property {(error: Error) => void} reject
 * @property {ReturnType<typeof setTimeout>} deadline
 * @property {ReturnType<typeof setTimeout>} [rest]
 */

import { errorFrom, GatewayError } from "./errors.js";

const WINDOW = 32; // sent and not confirmed; the gateway takes 64
const MOST_LETTERS = 1000;
const REST = 1000; // ms after a refusal that may pass

export class Outbox {
  /** @type {Map<string, Letter>} by messageId, in the order in which they were published */
  #letters = new Map();
  #send;

  /** @param {(frame: Frame) => boolean} send says whether the frame could be sent */
  constructor(send) {
    this.#send = send;
  }

  /**
   * Publish; the promise settles when the gateway has confirmed or refused it.
   *
   * @param {Frame} frame a `publish` frame with its `id`
   * @param {number} timeout ms
   * @returns {Promise<Frame>} the `ack` frame
   */
  post(frame, timeout) {
    const { messageId, topic } = frame;
    if (this.#letters.size >= MOST_LETTERS) {
      const message = `${MOST_LETTERS} messages already wait to be published; try again later.`;
      return Promise.reject(new GatewayError("QUEUE_FULL", message, topic));
    }
    if (this.#letters.has(messageId)) {
      const message = "A message with this messageId is already on its way.";
      return Promise.reject(new GatewayError("BAD_FRAME", message, topic));
    }
    return new Promise((resolve, reject) => {
      const expire = () => {
        const message = `The message was not confirmed within ${timeout / 1000} s.`;
        this.#take(messageId)?.reject(new GatewayError("TIMEOUT", message, topic));
        this.flush();
      };
      this.#letters.set(messageId, {
        frame,
        bytes: new TextEncoder().encode(JSON.stringify(frame)).length,
        state: "waits",
        resolve,
        reject,
        deadline: setTimeout(expire, timeout),
      });
      this.flush();
    });
  }

  /** Send what waits, as far as the window allows. */
  flush() {
    let room = WINDOW;
    for (const letter of this.#letters.values()) if (letter.state === "sent") room -= 1;
    for (const letter of this.#letters.values()) {
      if (room <= 0) return;
      if (letter.state !== "waits") continue;
      if (!this.#send(letter.frame)) return;
      letter.state = "sent";
      room -= 1;
    }
  }

  /**
   * Take in an `ack`, or an `error` that is about a message.
   *
   * @param {Frame} frame
   * @returns {boolean} whether it is about a letter of this outbox
   */
  settle(frame) {
    const letter = this.#letters.get(frame.messageId) ?? this.#byId(frame.id);
    if (letter === undefined) return false;
    if (frame.type === "error") {
      const error = errorFrom(frame);
      if (error.passing) {
        this.#rest(letter);
        return true;
      }
      this.#take(letter.frame.messageId)?.reject(error);
    } else {
      this.#take(letter.frame.messageId)?.resolve(frame);
    }
    this.flush();
    return true;
  }

  /** Note that the connection is gone: what was sent has to be sent again. */
  disconnected() {
    for (const letter of this.#letters.values()) {
      clearTimeout(letter.rest);
      letter.state = "waits";
    }
  }

  /** Note that the gateway closed the connection over a frame that is too big: the biggest. */
  tooBig() {
    const sent = [...this.#letters.values()].filter((letter) => letter.state === "sent");
    sent.sort((one, other) => other.bytes - one.bytes);
    if (sent.length === 0) return;
    const { messageId, topic } = sent[0].frame;
    const message = "The message is larger than the gateway accepts.";
    this.#take(messageId)?.reject(new GatewayError("TOO_LARGE", message, topic));
  }

  /**
   * Refuse everything that is open.
   *
   * @param {string} code
   * @param {string} message
   */
  refuse(code, message) {
    for (const [messageId, { frame }] of this.#letters) {
      this.#take(messageId)?.reject(new GatewayError(code, message, frame.topic));
    }
  }

  /** @param {Letter} letter */
  #rest(letter) {
    letter.state = "rests";
    letter.rest = setTimeout(() => {
      letter.state = "waits";
      this.flush();
    }, REST);
  }

  /** @param {any} id */
  #byId(id) {
    if (id === undefined || id === null) return undefined;
    for (const letter of this.#letters.values()) if (letter.frame.id === id) return letter;
    return undefined;
  }

  /** @param {string} messageId */
  #take(messageId) {
    const letter = this.#letters.get(messageId);
    if (letter === undefined) return undefined;
    this.#letters.delete(messageId);
    clearTimeout(letter.deadline);
    clearTimeout(letter.rest);
    return letter;
  }
}
