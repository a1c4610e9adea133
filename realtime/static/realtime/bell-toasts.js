/**
 * Toasts: what just arrived, for a few seconds. They are not read out (the bell's live region
 * is), hold still under pointer and focus, and never take the focus.
 */

import { element } from "./bell-list.js";

const SECONDS = 6;
const MOST = 3;

export class Toasts {
  #area;
  #heir;
  #opened;

  /**
   * @param {HTMLElement} area
   * @param {HTMLElement} heir takes the focus when the toast that had it goes
   * @param {() => void} opened called when a toast is pressed
   */
  constructor(area, heir, opened) {
    this.#area = area;
    this.#heir = heir;
    this.#opened = opened;
  }

  /** @param {import("./content.js").Content} content */
  show({ title, body, level }) {
    while (this.#area.childElementCount >= MOST) this.#remove(this.#area.firstElementChild);
    const toast = element("div", "toast");
    toast.dataset.rtLevel = level;
    const open = element("button", "toast-open");
    open.setAttribute("type", "button");
    open.append(element("span", "toast-title", title));
    if (body) open.append(element("span", "toast-body", body));
    const dismiss = element("button", "toast-close", "×");
    dismiss.setAttribute("type", "button");
    dismiss.setAttribute("aria-label", "Dismiss");
    toast.append(open, dismiss);
    open.addEventListener("click", () => this.#opened());
    dismiss.addEventListener("click", () => this.#remove(toast));
    this.#area.append(toast);
    this.#expire(toast);
  }

  /** Take all of them away. */
  clear() {
    for (const toast of [...this.#area.children]) this.#remove(toast);
  }

  /** @param {Element | null} toast */
  #remove(toast) {
    if (toast?.contains(document.activeElement)) this.#heir.focus();
    toast?.remove();
  }

  /** @param {HTMLElement} toast */
  #expire(toast) {
    const end = () => {
      if (toast.matches(":hover, :focus-within")) setTimeout(end, 1_000);
      else this.#remove(toast);
    };
    setTimeout(end, SECONDS * 1_000);
  }
}
