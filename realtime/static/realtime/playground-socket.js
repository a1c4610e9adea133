/**
 * The playground's own socket: raw, so that nothing is added and nothing hidden, with the times
 * that answers took.
 */

import { parseFrame } from "./frames.js";

/** What close codes mean, for people (docs/protocol.md). */
const MEANINGS = new Map([
  [1000, "closed from this side"],
  [1001, "the gateway goes away"],
  [1006, "the connection broke, or was refused before it opened"],
  [1009, "a frame was larger than the gateway accepts"],
  [4000, "the process ends: connect again"],
  [4001, "too much waited to be read"],
  [4002, "nobody could say who you are: try again"],
  [4003, "the token expired"],
  [4004, "the gateway heard nothing from here"],
  [4005, "an event was never acknowledged"],
  [4500, "the login or token was denied"],
  [4501, "no 'connect' came in time"],
  [4502, "an administrator ended the session, or you logged out"],
  [4503, "this page may not use your login"],
  [4504, "too many connections are open"],
]);

export class PlaygroundSocket {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, number>} when a frame was sent, by its id or messageId */
  #sent = new Map();
  #handlers;

  /**
   * @param {string} url
   * @param {object} handlers
   * @param {() => void} handlers.opened
   * @param {(text: string, frame: Record<string, any> | null, took: string) => void} handlers.came
   * @param {(code: number, words: string) => void} handlers.closed
   */
  constructor(url, handlers) {
    this.url = url;
    this.#handlers = handlers;
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  get idle() {
    return this.#socket === null;
  }

  connect() {
    if (!this.idle) return;
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    this.#sent.clear();
    socket.onopen = () => this.#handlers.opened();
    socket.onmessage = ({ data }) => this.#came(String(data));
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      const meaning = MEANINGS.get(code) ?? "a code of WebSocket's own";
      this.#handlers.closed(code, reason ? `${meaning} (“${reason}”)` : meaning);
    };
  }

  close() {
    this.#socket?.close(1000);
  }

  /** @param {string} text */
  send(text) {
    this.#socket?.send(text);
    const frame = parseFrame(text);
    const now = performance.now();
    if (frame?.id !== undefined) this.#sent.set(`id ${frame.id}`, now);
    if (frame?.type === "publish") this.#sent.set(`message ${frame.messageId}`, now);
  }

  /** @param {string} text */
  #came(text) {
    const frame = parseFrame(text);
    const key = frame?.type === "message" ? `message ${frame.messageId}` : `id ${frame?.id}`;
    const sent = this.#sent.get(key);
    this.#sent.delete(key);
    const took = sent === undefined ? "" : `${(performance.now() - sent).toFixed(1)} ms`;
    this.#handlers.came(text, frame, took);
  }
}
