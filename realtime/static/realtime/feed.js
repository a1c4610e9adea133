/**
 * The list on the page. Whatever comes from outside gets there as text, never as markup.
 *
 * The keyboard works as in the ARIA feed pattern
 * (https://www.w3.org/WAI/ARIA/apg/patterns/feed/): one stop for Tab, then Page Down and Page Up
 * (or the arrows) from article to article.
 *
 * @typedef {import("./frames.js").Message} Message
 */

import { contentOf } from "./content.js";
import { ago } from "./words.js";

const STEPS = new Map([
  ["PageDown", 1],
  ["ArrowDown", 1],
  ["PageUp", -1],
  ["ArrowUp", -1],
]);
const LEVEL_NAMES = { info: "", success: "Success", warning: "Warning", error: "Error" };

export class Feed {
  /**
   * By message, and not by its sequence: a stream that was started anew gives those again.
   *
   * @type {Map<Message, HTMLElement>}
   */
  #articles = new Map();
  #list;
  #template;

  /**
   * @param {HTMLElement} list
   * @param {HTMLTemplateElement} template
   */
  constructor(list, template) {
    this.#list = list;
    this.#template = template;
    list.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("focusin", (event) => this.#focused(event));
  }

  /**
   * Show these messages, in this order.
   *
   * @param {Message[]} messages
   * @param {(message: Message) => boolean} isUnread
   * @param {Set<Message>} [arrived] those that came just now
   */
  show(messages, isUnread, arrived = new Set()) {
    const wanted = new Set(messages);
    const focused = this.#focusedIndex();
    for (const [message, article] of this.#articles) {
      if (wanted.has(message)) continue;
      article.remove();
      this.#articles.delete(message);
    }
    /** @type {HTMLElement | null} */
    let before = null;
    for (const [index, message] of messages.entries()) {
      const article = this.#articleOf(message);
      article.classList.toggle("unread", isUnread(message));
      article.classList.toggle("arrived", arrived.has(message));
      article.setAttribute("aria-posinset", String(index + 1));
      article.setAttribute("aria-setsize", String(messages.length));
      /** @type {Element | null} */
      const place = before === null ? this.#list.firstElementChild : before.nextElementSibling;
      if (place !== article) this.#list.insertBefore(article, place);
      before = article;
    }
    this.#list.hidden = messages.length === 0;
    this.#placeTabStop();
    this.#keepFocus(focused);
  }

  /** Bring the relative times up to date. */
  tick() {
    const now = Date.now();
    for (const time of this.#list.querySelectorAll("time")) {
      time.textContent = ago(Date.parse(time.dateTime), now);
    }
  }

  /** @param {Message} message */
  #articleOf(message) {
    const article = this.#articles.get(message) ?? this.#make(message);
    this.#articles.set(message, article);
    return article;
  }

  /** @param {Message} message */
  #make(message) {
    const fragment = /** @type {DocumentFragment} */ (this.#template.content.cloneNode(true));
    const part = (/** @type {string} */ selector) =>
      /** @type {HTMLElement} */ (fragment.querySelector(selector));
    const { title, body, json, url, level } = contentOf(message.data);
    const article = part("article");
    const id = `notification-${message.seqNo}`;
    article.dataset.level = level;
    article.setAttribute("aria-labelledby", id);
    part(".title").id = id;
    fill(part(".level"), LEVEL_NAMES[level]);
    fill(part(".body"), body);
    fill(part(".json"), json);
    if (url === null) part(".title").textContent = title;
    else part(".title").append(linkTo(url, title));

    const time = /** @type {HTMLTimeElement} */ (part("time"));
    const date = new Date(message.ts);
    time.dateTime = date.toISOString();
    time.title = date.toLocaleString();
    time.textContent = ago(message.ts, Date.now());
    return article;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = STEPS.get(event.key);
    const target = /** @type {HTMLElement} */ (event.target);
    const article = target.closest("article");
    if (step === undefined || article === null || event.altKey || event.ctrlKey) return;
    // On a link inside an article the arrows scroll, as everywhere.
    if (event.key.startsWith("Arrow") && target !== article) return;
    event.preventDefault();
    const next = step > 0 ? article.nextElementSibling : article.previousElementSibling;
    if (next instanceof HTMLElement) next.focus();
  }

  /** @param {FocusEvent} event */
  #focused(event) {
    const article = /** @type {HTMLElement} */ (event.target).closest("article");
    if (article === null) return;
    for (const other of this.#articles.values()) other.tabIndex = other === article ? 0 : -1;
  }

  /** Return which article holds the keyboard's focus; -1: none. */
  #focusedIndex() {
    return [...this.#list.children].findIndex((one) => one.contains(document.activeElement));
  }

  /**
   * The article that was focused may be gone: its successor takes the focus, else the last one,
   * else what the list names for that.
   *
   * @param {number} index where it was
   */
  #keepFocus(index) {
    if (index < 0 || this.#focusedIndex() >= 0) return;
    const { children, dataset } = this.#list;
    const next = children[Math.min(index, children.length - 1)];
    const heir = next ?? document.getElementById(dataset.focusWhenEmpty ?? "");
    if (heir instanceof HTMLElement) heir.focus({ preventScroll: true });
  }

  /** Have Tab reach the newest article, unless the reader is in the list already. */
  #placeTabStop() {
    if (this.#list.contains(document.activeElement)) return;
    for (const article of this.#articles.values()) {
      article.tabIndex = article === this.#list.firstElementChild ? 0 : -1;
    }
  }
}

/**
 * @param {HTMLElement} element
 * @param {string} text
 */
function fill(element, text) {
  element.textContent = text;
  element.hidden = text === "";
}

/**
 * @param {string} url
 * @param {string} text
 */
function linkTo(url, text) {
  const link = document.createElement("a");
  link.href = url;
  link.rel = "noopener noreferrer";
  link.textContent = text;
  return link;
}
