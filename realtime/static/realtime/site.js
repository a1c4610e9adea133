/**
 * What every page of someone signed in has: the client, and the badge that says its state.
 */

import { sharedClient } from "./shared-client.js";
import { describe } from "./words.js";

export const client = sharedClient();

/**
 * Call a function with the present state in words: now, when it changes, and every second while
 * it counts down.
 *
 * @param {(description: import("./words.js").Description) => void} show
 */
export function watchState(show) {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let ticker;
  const update = () => {
    clearInterval(ticker);
    if (client.state.retryAt !== null) ticker = setInterval(tell, 1000);
    tell();
  };
  const tell = () => show(describe(client.state, Date.now()));
  client.addEventListener("statechange", update);
  update();
}

const badge = document.getElementById("badge");
if (badge !== null) {
  const text = /** @type {HTMLElement} */ (badge.querySelector("[data-text]"));
  badge.hidden = false;
  watchState(({ short, tone }) => {
    text.textContent = short;
    badge.dataset.tone = tone;
  });
}

client.connect();
