/**
 * The table of open connections. Rows stay what they are while their connection lives, so that
 * none loses the keyboard's focus to an update.
 *
 * @typedef {object} Shown a connection, as realtime/watch.py tells it
 * @property {string} session
 * @property {string} process
 * @property {string} userId
 * @property {string | null} name
 * @property {string} ip
 * @property {string} transport
 * @property {string[]} topics
 * @property {number} topicCount
 * @property {number} age seconds
 */

/** @param {number} seconds */
export function aged(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
}

/** @param {Shown} one */
export const nameOf = ({ name, userId }) => name ?? userId;

/** @param {Shown} one */
function topicsOf({ topics, topicCount }) {
  const more = topicCount - topics.length;
  return topics.join(", ") + (more > 0 ? `, and ${more} more` : "") || "none";
}

export class ConnectionTable {
  /** @type {Map<string, {row: HTMLTableRowElement, topics: HTMLElement, age: HTMLElement}>} */
  #rows = new Map();
  #body;
  #heir;
  #disconnect;

  /**
   * @param {HTMLElement} body
   * @param {HTMLElement} heir gets the focus of a row that goes
   * @param {((one: Shown) => void) | null} disconnect null: the viewer may not
   */
  constructor(body, heir, disconnect) {
    this.#body = body;
    this.#heir = heir;
    this.#disconnect = disconnect;
  }

  /** @param {Shown[]} connections newest first */
  draw(connections) {
    const wanted = new Set(connections.map(({ session }) => session));
    for (const [session, { row }] of this.#rows) {
      if (wanted.has(session)) continue;
      if (row.contains(document.activeElement)) this.#heir.focus();
      row.remove();
      this.#rows.delete(session);
    }
    /** @type {Element | null} */
    let before = null;
    for (const one of connections) {
      const known = this.#rows.get(one.session) ?? this.#add(one);
      fill(known.topics, topicsOf(one));
      fill(known.age, aged(one.age));
      const place = before === null ? this.#body.firstElementChild : before.nextElementSibling;
      // Moving a row would take its focus; those that are in their place stay.
      if (place !== known.row) this.#body.insertBefore(known.row, place);
      before = known.row;
    }
  }

  /** @param {Shown} one */
  #add(one) {
    const row = document.createElement("tr");
    row.dataset.session = one.session;
    const user = document.createElement("th");
    user.scope = "row";
    user.textContent = one.name === null ? one.userId : `${one.name} (${one.userId})`;
    const topics = document.createElement("td");
    const age = document.createElement("td");
    row.append(user, cell(one.ip), cell(one.transport), topics, age, cell(one.process));
    if (this.#disconnect !== null) {
      const disconnect = this.#disconnect;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button";
      button.textContent = "Disconnect";
      button.setAttribute("aria-label", `Disconnect ${nameOf(one)}`);
      button.addEventListener("click", () => disconnect(one));
      row.append(cell(button));
    }
    const known = { row, topics, age };
    this.#rows.set(one.session, known);
    return known;
  }
}

/** @param {string | Node} content */
function cell(content) {
  const made = document.createElement("td");
  made.append(content);
  return made;
}

/** @param {HTMLElement} element @param {string} text */
function fill(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
