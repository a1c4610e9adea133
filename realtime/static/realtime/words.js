/**
 * The state of the connection in words.
 *
 * @typedef {object} Description
 * @property {string} short for the badge
 * @property {string} long a sentence
 * @property {string} spoken what is read out when this state begins; empty: nothing
 * @property {"good" | "wait" | "bad"} tone
 * @property {boolean} retry whether "Try now" makes sense
 * @property {boolean} login whether logging in again helps
 */

import { CloseCode } from "./errors.js";

/**
 * @param {import("./state.js").State} state
 * @param {number} now Unix ms
 * @returns {Description}
 */
export function describe(state, now) {
  switch (state.name) {
    case "open":
      return words("Connected", "Connected", "good", { spoken: "Connected." });
    case "connecting":
      return words("Connecting…", "Connecting…", "wait");
    case "reconnecting": {
      const text = `Reconnecting${countdown(state.retryAt, now)}…`;
      const spoken = "The connection was lost. Reconnecting.";
      return words("Reconnecting…", text, "wait", { spoken, retry: state.retryAt !== null });
    }
    case "offline": {
      const long = "You are offline. This page reconnects when the network is back.";
      return words("Offline", long, "bad", { spoken: long, retry: state.retryAt !== null });
    }
    case "denied":
      return denied(state);
    case "closed":
      return words("Disconnected", "Disconnected", "bad", { retry: true });
  }
}

/** @param {import("./state.js").State} state */
function denied({ code, reason }) {
  if (code === CloseCode.AUTH_FAILED || code === CloseCode.REVOKED) {
    return words("Signed out", "Signed out.", "bad", { spoken: "Signed out.", login: true });
  }
  if (code === CloseCode.TOO_MANY_CONNECTIONS) {
    const long = "Too many pages are open. Close one, then try again.";
    return words("Not connected", long, "bad", { spoken: long, retry: true });
  }
  const long = `The gateway refused the connection${reason ? `: ${reason}` : "."}`;
  return words("Not connected", long, "bad", { spoken: long, retry: true });
}

/**
 * @param {number | null} retryAt Unix ms
 * @param {number} now Unix ms
 */
function countdown(retryAt, now) {
  const seconds = retryAt === null ? 0 : Math.ceil((retryAt - now) / 1000);
  return seconds > 0 ? ` in ${seconds} s` : "";
}

/**
 * @param {string} short
 * @param {string} long
 * @param {Description["tone"]} tone
 * @param {Partial<Description>} [more]
 * @returns {Description}
 */
function words(short, long, tone, { spoken = "", retry = false, login = false } = {}) {
  return { short, long, spoken, tone, retry, login };
}

const AGES = /** @type {const} */ ([
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
]);

/**
 * Return how long ago that was, in words.
 *
 * @param {number} ts Unix ms; a little ahead (clocks differ) counts as now
 * @param {number} now Unix ms
 */
export function ago(ts, now) {
  const seconds = Math.max(0, (now - ts) / 1000);
  const format = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, length] of AGES) {
    if (seconds >= length) return format.format(-Math.floor(seconds / length), unit);
  }
  return "just now";
}
