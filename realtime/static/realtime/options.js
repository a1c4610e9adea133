/**
 * What a client can be told when it is made, and what holds where it is not told.
 *
 * @typedef {object} ClientOptions durations in ms
 * @property {string} [url] default: /ws/ on this page's host; outside of a page the whole address
 * @property {typeof WebSocket} [WebSocket] default: the global one, which Node has from 22 on
 * @property {string | (() => string | Promise<string>)} [token] asked for before every
 *   connection; left out: the Django session cookie is the credential
 * @property {import("./store.js").PositionStore | null} [storage] where positions outlive a
 *   reload; default: sessionStorage; null: memory
 * @property {ConstructorParameters<typeof import("./backoff.js").Backoff>[0]} [backoff]
 * @property {number} [connectTimeout] from the start of a connection until `ready`
 * @property {number} [replyTimeout] for answers
 * @property {number} [publishTimeout] until a message is confirmed, over reconnects; below the
 *   gateway's deduplication window (5 minutes by default)
 * @property {number} [replayTimeout] without progress, before a hole is asked for again
 * @property {number} [heartbeatGrace] without an answer to a heartbeat, then it is dead
 * @property {number} [probeTimeout] the same, when the machine may have slept
 */

export const DEFAULTS = Object.freeze({
  connectTimeout: 15_000,
  replyTimeout: 10_000,
  publishTimeout: 60_000,
  replayTimeout: 5_000,
  heartbeatGrace: 10_000,
  probeTimeout: 3_000,
});

/**
 * Return the WebSocket address of a gateway.
 *
 * @param {string} [url] may be relative to this page, and http(s)
 */
export function addressOf(url = "/ws/") {
  const page = globalThis.location?.href;
  if (page === undefined && !URL.canParse(url)) {
    throw new TypeError("Outside of a page the url has to be whole: 'wss://HOST/ws/'.");
  }
  const address = new URL(url, page);
  if (address.protocol === "http:") address.protocol = "ws:";
  if (address.protocol === "https:") address.protocol = "wss:";
  return address.href;
}

/**
 * Return the class that makes sockets.
 *
 * @param {typeof WebSocket} [given]
 * @returns {typeof WebSocket}
 */
export function socketClass(given = globalThis.WebSocket) {
  if (given !== undefined) return given;
  throw new TypeError(
    "There is no WebSocket here: hand one in as { WebSocket }, from the package 'ws' for example.",
  );
}

/**
 * Return a function that gives the token; null: there is none.
 *
 * @param {ClientOptions["token"]} [token]
 * @returns {() => string | null | Promise<string | null>}
 */
export function tokenSource(token) {
  return typeof token === "function" ? token : () => token ?? null;
}
