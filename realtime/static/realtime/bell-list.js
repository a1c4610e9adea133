/**
 * The list in the bell. What stays is never taken out of the page and put back, so that neither
 * the keyboard's focus nor the place of a screen reader is lost when something arrives.
 *
 * @typedef {import("./frames.js").Message} Message
 */

import { contentOf } from "./content.js";
import { ago } from "./words.js";

export class BellList {
  /** @type {Map<Message, HTMLElement>} */
  #items = new Map();
  #list;
  #heir;

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} heir takes the focus when the item that had it is gone
   */
  constructor(list, heir) {
    this.#list = list;
    this.#heir = heir;
  }

  /**
   * Show these messages, in this order.
   *
   * @param {Message[]} messages
   * @param {(message: Message) => boolean} isUnread
   */
  show(messages, isUnread) {
    const wanted = new Set(messages);
    for (const [message, item] of this.#items) {
      if (wanted.has(message)) continue;
      if (item.contains(document.activeElement)) this.#heir.focus({ preventScroll: true });
      item.remove();
      this.#items.delete(message);
    }
    for (const [index, message] of messages.entries()) {
      const item = this.#items.get(message) ?? make(message);
      this.#items.set(message, item);
      const unread = isUnread(message);
      item.classList.toggle("rt-bell-unread", unread);
      /** @type {HTMLElement} */ (item.querySelector(".rt-bell-new")).hidden = !unread;
      const place = this.#list.children[index];
      if (place !== item) this.#list.insertBefore(item, place ?? null);
    }
    this.#list.hidden = messages.length === 0;
  }

  /** Bring the relative times up to date. */
  tick() {
    const now = Date.now();
    for (const time of this.#list.querySelectorAll("time")) {
      time.textContent = ago(Date.parse(time.dateTime), now);
    }
  }
}

/** @param {Message} message */
function make({ data, ts }) {
  const { title, body, json, url, level } = contentOf(data);
  const item = element("li", "item");
  item.dataset.rtLevel = level;
  const head = element("p", "line");
  if (url === null) {
    head.append(element("span", "title", title));
  } else {
    const link = /** @type {HTMLAnchorElement} */ (element("a", "title", title));
    link.classList.add("rt-bell-link");
    link.href = url;
    link.rel = "noopener noreferrer";
    head.append(link);
  }
  const time = /** @type {HTMLTimeElement} */ (element("time", "time", ago(ts, Date.now())));
  time.dateTime = new Date(ts).toISOString();
  time.title = new Date(ts).toLocaleString();
  head.append(time);
  item.append(element("span", "new", "New"), head);
  if (body || json) item.append(element("p", "body", body || json));
  return item;
}

/**
 * @param {string} tag
 * @param {string} name of the class, without the prefix
 * @param {string} [text]
 */
export function element(tag, name, text = "") {
  const made = document.createElement(tag);
  made.className = `rt-bell-${name}`;
  made.textContent = text;
  return made;
}
