/**
 * The messages on the page. An element stays where it is while others come and go round it, so
 * that the keyboard's focus and the reader's place are kept.
 *
 * @typedef {import("./chat-room.js").Line} Line
 */

const WORDS = { sending: "sending…", sent: "sent", failed: "not sent." };
const NEAR = 60; // px from the end that still count as the end
const TOGETHER = 5 * 60_000; // ms in which one person's messages share a heading

export class ChatList {
  /** @type {Map<string, HTMLElement>} by key */
  #items = new Map();
  #list;
  #scroll;
  #user;
  #retry;

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} scroll what scrolls
   * @param {string} user whose messages are "mine"
   * @param {(key: string) => void} retry
   */
  constructor(list, scroll, user, retry) {
    this.#list = list;
    this.#scroll = scroll;
    this.#user = user;
    this.#retry = retry;
  }

  /** Whether the reader is at the newest message. */
  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  /**
   * Show these lines; the place that is read stays where it is.
   *
   * @param {Line[]} lines
   */
  show(lines) {
    const end = this.atEnd;
    const before = this.#scroll.scrollHeight;
    const first = this.#list.firstElementChild;
    const wanted = new Set(lines.map(({ key }) => key));
    for (const [key, item] of this.#items) {
      if (wanted.has(key)) continue;
      if (item.contains(document.activeElement)) this.#scroll.focus({ preventScroll: true });
      item.remove();
      this.#items.delete(key);
    }
    for (const [index, line] of lines.entries()) this.#place(line, index, lines[index - 1]);
    if (end) this.toEnd();
    else if (this.#list.firstElementChild !== first) {
      this.#scroll.scrollTop += this.#scroll.scrollHeight - before;
    }
  }

  /** @param {Line} line @param {number} index @param {Line | undefined} previous */
  #place(line, index, previous) {
    const item = this.#items.get(line.key) ?? this.#make(line);
    this.#items.set(line.key, item);
    const together =
      previous !== undefined && previous.user === line.user && line.ts - previous.ts < TOGETHER;
    item.classList.toggle("follows", together && previous.name === line.name);
    drawDelivery(item, line);
    const place = this.#list.children[index];
    if (place === item) return;
    // Moving what has the focus would lose it; its own place comes by moving the others.
    if (item.contains(document.activeElement) && item.isConnected) {
      while (this.#list.children[index] !== item) this.#list.append(this.#list.children[index]);
    } else {
      this.#list.insertBefore(item, place ?? null);
    }
  }

  /** @param {Line} line */
  #make({ key, user, name, text, ts }) {
    const item = document.createElement("li");
    item.className = "line";
    item.classList.toggle("mine", user === this.#user);
    const who = span("name", user === this.#user ? "You" : name);
    const time = document.createElement("time");
    const date = new Date(ts);
    time.dateTime = date.toISOString();
    time.title = date.toLocaleString();
    time.textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const head = document.createElement("p");
    head.className = "head";
    head.append(who, " ", time);
    const words = document.createElement("p");
    words.className = "text";
    words.textContent = text;
    const foot = document.createElement("p");
    foot.className = "foot";
    const retry = document.createElement("button");
    retry.type = "button";
    retry.className = "quiet";
    retry.textContent = "Retry";
    retry.hidden = true;
    retry.addEventListener("click", () => {
      // The button goes: the reader stays in the conversation.
      this.#scroll.focus({ preventScroll: true });
      this.#retry(key);
    });
    foot.append(span("delivery", ""), " ", retry);
    item.append(head, words, foot);
    return item;
  }
}

/** @param {HTMLElement} item @param {Line} line */
function drawDelivery(item, { delivery, problem }) {
  item.dataset.delivery = delivery ?? "";
  const words = delivery === null ? "" : WORDS[delivery];
  const said = /** @type {HTMLElement} */ (item.querySelector(".delivery"));
  const full = delivery === "failed" ? `${words} ${problem}` : words;
  if (said.textContent !== full) said.textContent = full;
  /** @type {HTMLElement} */ (item.querySelector(".foot")).hidden = delivery === null;
  /** @type {HTMLElement} */ (item.querySelector(".foot button")).hidden = delivery !== "failed";
}

/** @param {string} name @param {string} text */
function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}
