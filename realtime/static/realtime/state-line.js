/**
 * The line that says the state of the connection in words, with what helps: "Try now", or
 * logging in again.
 */

import { hide } from "./focus.js";
import { client, watchState } from "./site.js";

/**
 * Keep the line up to date.
 *
 * @param {object} options
 * @param {HTMLElement} options.line
 * @param {(sentence: string) => void} options.say reads out what changed
 * @param {(description: import("./words.js").Description) => import("./words.js").Description}
 *   [options.adapt] what the page has to say itself of a state
 * @returns {() => void} brings it up to date when what `adapt` says has changed
 */
export function stateLine({ line, say, adapt = (description) => description }) {
  const part = (/** @type {string} */ name) =>
    /** @type {HTMLElement} */ (line.querySelector(`[data-${name}]`));
  const [text, retry, login] = ["text", "retry", "login"].map(part);
  /** @type {import("./words.js").Description} */
  let description;
  let lastName = client.state.name;

  const draw = () => {
    const { long, tone, ...helps } = adapt(description);
    if (text.textContent !== long) text.textContent = long;
    line.dataset.tone = tone;
    login.hidden = !helps.login;
    // Whoever pressed "Try now" stays at the line that says what came of it.
    if (helps.retry) retry.hidden = false;
    else hide(retry, line);
  };
  retry.addEventListener("click", () => client.reconnect());
  watchState((next) => {
    const { name } = client.state;
    description = next;
    draw();
    if (name === lastName) return;
    lastName = name;
    if (next.spoken) say(next.spoken);
  });
  return draw;
}
