/**
 * The state of the connection, as a pure function of what happened.
 *
 * @typedef {"connecting" | "open" | "reconnecting" | "offline" | "denied" | "closed"} StateName
 *
 * @typedef {object} State
 * @property {StateName} name
 * @property {number | null} retryAt when the next attempt starts, Unix ms; null: none waits
 * @property {number | null} code close code of the connection that was lost
 * @property {string} reason a sentence for people, where the gateway gave one
 *
 * @typedef {{type: "attempt"}
 *   | {type: "ready"}
 *   | {type: "lost", retryAt: number, online: boolean, code: number, reason: string}
 *   | {type: "network", online: boolean}
 *   | {type: "denied", code: number, reason: string}
 *   | {type: "close"}} Change
 */

/** @type {Readonly<State>} */
export const CLOSED = Object.freeze({ name: "closed", retryAt: null, code: null, reason: "" });

/**
 * Return the state after a change; the same object when nothing changed.
 *
 * @param {Readonly<State>} state
 * @param {Change} change
 * @returns {Readonly<State>}
 */
export function reduce(state, change) {
  const away = state.name === "reconnecting" || state.name === "offline";
  switch (change.type) {
    case "attempt":
      return away ? { ...state, retryAt: null } : { ...CLOSED, name: "connecting" };
    case "ready":
      return { ...CLOSED, name: "open" };
    case "lost": {
      const { retryAt, code, reason } = change;
      return { name: change.online ? "reconnecting" : "offline", retryAt, code, reason };
    }
    case "network":
      return away ? { ...state, name: change.online ? "reconnecting" : "offline" } : state;
    case "denied":
      return { name: "denied", retryAt: null, code: change.code, reason: change.reason };
    case "close":
      return CLOSED;
  }
}
