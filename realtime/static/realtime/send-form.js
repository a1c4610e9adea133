/**
 * The form by which staff send a notification, without leaving the page. Without this script it
 * is a plain form.
 */

import { randomId } from "./frames.js";

/** @param {HTMLFormElement} form */
export function enhanceForm(form) {
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("[type=submit]"));
  const result = /** @type {HTMLElement} */ (form.querySelector("[role=status]"));
  let sending = false;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) return;
    sending = true;
    button.setAttribute("aria-disabled", "true");
    tell(result, "Sending…");
    const { ok, message, errors } = await send(form);
    sending = false;
    button.removeAttribute("aria-disabled");
    tell(result, message, ok ? "good" : "bad");
    mark(form, errors);
    if (ok) clear(form);
  });
}

/**
 * @param {HTMLFormElement} form
 * @returns {Promise<{ok: boolean, message: string, errors: Record<string, string[]>}>}
 */
async function send(form) {
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(20_000),
    });
    if (response.headers.get("Content-Type") === "application/json") {
      return { ok: response.ok, ...(await response.json()) };
    }
    const message = `The server refused the form (${response.status}). Reload the page and try again.`;
    return { ok: false, message, errors: {} };
  } catch {
    const message = "The server did not answer. Nothing is lost: try again.";
    return { ok: false, message, errors: {} };
  }
}

/**
 * @param {HTMLElement} result
 * @param {string} text
 * @param {string} [tone]
 */
function tell(result, text, tone = "") {
  result.textContent = text;
  result.dataset.tone = tone;
}

/**
 * Say at each field what is wrong with it, and go to the first.
 *
 * @param {HTMLFormElement} form
 * @param {Record<string, string[]>} errors by field name
 */
function mark(form, errors) {
  /** @type {HTMLElement | undefined} */
  let first;
  for (const field of form.querySelectorAll(".field")) {
    const input = /** @type {HTMLInputElement} */ (field.querySelector("input, textarea"));
    const error = /** @type {HTMLElement} */ (field.querySelector(".error"));
    const wrong = errors[input.name]?.[0] ?? "";
    error.textContent = wrong;
    error.hidden = wrong === "";
    field.toggleAttribute("data-invalid", wrong !== "");
    if (wrong === "") {
      input.removeAttribute("aria-invalid");
    } else {
      input.setAttribute("aria-invalid", "true");
      first ??= input;
    }
    const described = [field.querySelector(".help")?.id, wrong && error.id].filter(Boolean);
    if (described.length > 0) input.setAttribute("aria-describedby", described.join(" "));
    else input.removeAttribute("aria-describedby");
  }
  first?.focus();
}

/**
 * Make room for the next one to the same user; it gets an id of its own.
 *
 * @param {HTMLFormElement} form
 */
function clear(form) {
  const input = (/** @type {string} */ name) =>
    /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
  input("title").value = "";
  input("message").value = "";
  input("nonce").value = randomId();
}
