/**
 * Frames from the gateway: text to objects, and `message` frames to messages.
 *
 * @typedef {Record<string, any> & {type: string}} Frame
 *
 * @typedef {object} Message an event of a topic
 * @property {string} topic
 * @property {string | null} pattern the subscription it came by, where that is a pattern
 * @property {number | null} seqNo stream sequence; null on an ephemeral topic
 * @property {number | null} prevSeqNo the sequence before it on this topic
 * @property {string} messageId
 * @property {any} data the payload; a Uint8Array where it was not JSON
 * @property {number} ts when it was stored, Unix ms
 * @property {boolean} redelivered whether the gateway sent it before
 */

/**
 * Return the frame in `text`, or null when it is none.
 *
 * @param {unknown} text
 * @returns {Frame | null}
 */
export function parseFrame(text) {
  if (typeof text !== "string") return null;
  try {
    const frame = JSON.parse(text);
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/**
 * Return the message of a `message` frame (or of an event in a page of history).
 *
 * @param {Record<string, any>} frame
 * @returns {Message}
 */
export function messageFrom(frame) {
  return {
    topic: frame.topic,
    pattern: frame.pattern ?? null,
    seqNo: frame.seqNo ?? null,
    prevSeqNo: frame.prevSeqNo ?? null,
    messageId: frame.messageId,
    data: frame.encoding === "base64" ? bytesFrom(frame.data) : frame.data,
    ts: frame.ts,
    redelivered: frame.redelivered === true,
  };
}

/** @param {string} base64 */
function bytesFrom(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/**
 * Return a new random id (RFC 9562 UUID, version 4).
 *
 * crypto.randomUUID exists in secure contexts only, and a gateway on http://192.168.… is none;
 * getRandomValues exists everywhere.
 *
 * @param {Crypto} [crypto]
 */
export function randomId(crypto = globalThis.crypto) {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
