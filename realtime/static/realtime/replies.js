/**
 * Questions and their answers: every question carries an `id` that its answer echoes, and has a
 * deadline.
 *
 * @typedef {import("./frames.js").Frame} Frame
 *
 * @typedef {object} Question
 * @property {Frame} frame
 * @property {boolean} sent
 * @property {(answer: Frame) => void} resolve
 * @property {(error: Error) => void} reject
 * @property {ReturnType<typeof setTimeout>} timer
 */

import { errorFrom, GatewayError } from "./errors.js";

export class Replies {
  /** @type {Map<number, Question>} in the order in which they were asked */
  #open = new Map();
  #lastId = 0;
  #send;

  /** @param {(frame: Frame) => boolean} send says whether the frame could be sent */
  constructor(send) {
    this.#send = send;
  }

  /** Return an id that no other frame of this client has. */
  nextId() {
    this.#lastId += 1;
    return this.#lastId;
  }

  /**
   * Ask now, or as soon as there is a connection.
   *
   * @param {Frame} frame
   * @param {number} timeout ms
   * @returns {Promise<Frame>}
   */
  ask(frame, timeout) {
    const id = this.nextId();
    return new Promise((resolve, reject) => {
      const expire = () => {
        this.#open.delete(id);
        const message = `The gateway did not answer within ${timeout / 1000} s.`;
        reject(new GatewayError("TIMEOUT", message, frame.topic));
      };
      const question = { ...frame, id };
      const timer = setTimeout(expire, timeout);
      const sent = this.#send(question);
      this.#open.set(id, { frame: question, sent, resolve, reject, timer });
    });
  }

  /** Send what waited for a connection. */
  flush() {
    for (const question of this.#open.values()) {
      if (!question.sent) question.sent = this.#send(question.frame);
    }
  }

  /**
   * Hand an answer to who asked.
   *
   * @param {Frame} frame
   * @returns {boolean} whether it answers an open question
   */
  settle(frame) {
    const question = this.#take(frame.id);
    if (question === undefined) return false;
    if (frame.type === "error") question.reject(errorFrom(frame));
    else question.resolve(frame);
    return true;
  }

  /** Give up on what was sent over a connection that is gone. */
  disconnected() {
    const message = "The connection was lost before the answer came.";
    for (const [id, { sent, frame }] of this.#open) {
      if (sent) this.#take(id)?.reject(new GatewayError("DISCONNECTED", message, frame.topic));
    }
  }

  /**
   * Refuse everything that is open.
   *
   * @param {string} code
   * @param {string} message
   */
  refuse(code, message) {
    for (const [id, { frame }] of this.#open) {
      this.#take(id)?.reject(new GatewayError(code, message, frame.topic));
    }
  }

  /** @param {any} id */
  #take(id) {
    const question = this.#open.get(id);
    if (question === undefined) return undefined;
    this.#open.delete(id);
    clearTimeout(question.timer);
    return question;
  }
}
