/**
 * The log of frames in both directions, newest last. Everything is text, never markup.
 *
 * @typedef {object} Entry
 * @property {"out" | "in" | "note"} direction
 * @property {string} type of the frame; of a note: what it is about
 * @property {string} text as it went over the wire; of a note: a sentence
 * @property {"" | "good" | "bad"} [tone]
 * @property {string} [took] how long the answer took, in words
 */

const MOST = 500;
const NAMES = { out: "Sent", in: "Received", note: "" };
const ARROWS = { out: "→", in: "←", note: "•" };

export class Log {
  #list;
  #empty;
  #text = "";
  #direction = "";

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} empty what is shown while there is nothing
   */
  constructor(list, empty) {
    this.#list = list;
    this.#empty = empty;
  }

  /** @param {Entry} entry */
  add({ direction, type, text, tone = "", took = "" }) {
    const item = document.createElement("li");
    item.className = "entry";
    Object.assign(item.dataset, { direction, type, tone });
    const head = [
      part("arrow", ARROWS[direction], { "aria-hidden": "true" }),
      part("visually-hidden", NAMES[direction]),
      part("when", new Date().toISOString().slice(11, 23)),
      part("type", type),
      part("took", took),
    ];
    if (direction === "note") item.append(...head, part("words", text));
    else item.append(frameOf(head, text));
    const below = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight;
    this.#list.append(item);
    while (this.#list.childElementCount > MOST) this.#list.firstElementChild?.remove();
    this.#filterOne(item);
    this.#drawEmpty();
    // Whoever scrolled up is reading.
    if (below < 40) this.#list.scrollTop = this.#list.scrollHeight;
  }

  clear() {
    this.#list.replaceChildren();
    this.#drawEmpty();
  }

  /**
   * @param {string} text that an entry has to contain
   * @param {string} direction empty: both
   */
  filter(text, direction) {
    this.#text = text.trim().toLowerCase();
    this.#direction = direction;
    for (const item of this.#list.children) this.#filterOne(/** @type {HTMLElement} */ (item));
    this.#drawEmpty();
  }

  /** @param {HTMLElement} item */
  #filterOne(item) {
    const { direction } = item.dataset;
    const other = this.#direction !== "" && direction !== "note" && direction !== this.#direction;
    const text = item.querySelector(".wire, .words")?.textContent ?? "";
    item.hidden = other || !`${item.dataset.type} ${text}`.toLowerCase().includes(this.#text);
  }

  #drawEmpty() {
    const all = this.#list.childElementCount;
    const shown = this.#list.querySelectorAll(".entry:not([hidden])").length;
    this.#list.hidden = shown === 0;
    this.#empty.hidden = shown > 0;
    this.#empty.textContent =
      all > 0
        ? `None of the ${all} entries matches the filter.`
        : "Nothing yet. Press “Connect”, then send something.";
  }
}

/**
 * A frame in one line, that opens to its tidy form.
 *
 * @param {HTMLElement[]} head
 * @param {string} text
 */
function frameOf(head, text) {
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.append(...head, part("wire", text));
  const pre = document.createElement("pre");
  pre.textContent = tidy(text);
  details.append(summary, pre);
  return details;
}

/**
 * Return JSON in a form for people; other text as it is.
 *
 * @param {string} text
 */
export function tidy(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/**
 * @param {string} name
 * @param {string} text
 * @param {Record<string, string>} [attributes]
 */
function part(name, text, attributes = {}) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
