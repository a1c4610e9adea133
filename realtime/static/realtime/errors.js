/**
 * Errors and close codes of the gateway, and what a client does about them.
 */

/** Error codes after which the same request may pass later. */
const PASSING = new Set(["UNAVAILABLE", "AUTH_UNAVAILABLE", "RATE_LIMITED", "TIMEOUT"]);

/** Close codes that this client treats by name; the rest follow from their range. */
export const CloseCode = Object.freeze({
  NORMAL: 1000,
  ABNORMAL: 1006,
  TOO_BIG: 1009,
  TOKEN_EXPIRED: 4003,
  HEARTBEAT_LOST: 4004,
  AUTH_FAILED: 4500,
  REVOKED: 4502,
  TOO_MANY_CONNECTIONS: 4504,
});

/**
 * Say whether a client that was closed with this code should come back.
 *
 * @param {number} code WebSocket close code
 */
export function comesBack(code) {
  return code < 4500 || code > 4999;
}

/**
 * A refusal or a failure, with a sentence for people as its message.
 *
 * `code` is one of the contract's error codes, or one that the client itself gives:
 * `TIMEOUT` (no answer by the deadline), `DISCONNECTED` (the connection was lost before the
 * answer came), `CLOSED` (close() was called), `DENIED` (the gateway does not want this client
 * back), `QUEUE_FULL` (too much waits to be published), `HANDLER` (an onMessage callback threw).
 */
export class GatewayError extends Error {
  /**
   * @param {string} code
   * @param {string} message a sentence for people
   * @param {string | null} [topic] the topic it is about, if any
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, topic = null, options = undefined) {
    super(message, options);
    this.name = "GatewayError";
    this.code = code;
    this.topic = topic;
  }

  /** Whether the same request may pass later. */
  get passing() {
    return PASSING.has(this.code);
  }
}

/**
 * Return the GatewayError of an `error` frame.
 *
 * @param {import("./frames.js").Frame} frame
 */
export function errorFrom(frame) {
  return new GatewayError(
    frame.code ?? "INTERNAL",
    frame.message ?? "The gateway gave no reason.",
    frame.topic ?? null,
  );
}
