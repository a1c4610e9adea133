/**
 * Positions: the last sequence processed of each topic, kept over a reload.
 *
 * They are kept under the user id that `ready` names, so that the next user of the same tab
 * never starts from someone else's.
 *
 * @typedef {{seq: number, epoch: string | null}} Position
 *
 * @typedef {object} PositionStore
 * @property {(userId: string) => Record<string, Position>} load
 * @property {(userId: string, positions: Record<string, Position>) => void} save
 */

const WRITE_DELAY = 250; // ms; positions move with every event, storage is synchronous
const MOST_TOPICS = 200;

/**
 * Return a store in the page's memory: nothing survives a reload.
 *
 * @returns {PositionStore}
 */
export function memoryStore() {
  /** @type {Map<string, Record<string, Position>>} */
  const users = new Map();
  return {
    load: (userId) => users.get(userId) ?? {},
    save: (userId, positions) => void users.set(userId, positions),
  };
}

/**
 * Return a store in a Web Storage area; by default sessionStorage, which is the tab's own.
 *
 * Storage that is full, blocked or holds something else counts as empty: the client then joins
 * at the top, as on a first visit.
 *
 * @param {() => Storage} [area] a function, because naming a blocked area already throws
 * @param {string} [prefix]
 * @returns {PositionStore}
 */
export function webStore(area = () => sessionStorage, prefix = "gateway.positions.") {
  return {
    load(userId) {
      try {
        return positionsIn(JSON.parse(area().getItem(prefix + userId) ?? "{}"));
      } catch {
        return {};
      }
    },
    save(userId, positions) {
      try {
        area().setItem(prefix + userId, JSON.stringify(positions));
      } catch {
        // Full or blocked: see above.
      }
    },
  };
}

/**
 * @param {any} value
 * @returns {Record<string, Position>}
 */
function positionsIn(value) {
  const entries = Object.entries(value ?? {}).filter(
    ([, position]) => Number.isSafeInteger(position?.seq) && position.seq >= 0,
  );
  return Object.fromEntries(
    entries.map(([topic, { seq, epoch }]) => [topic, { seq, epoch: epoch ?? null }]),
  );
}

/** The positions of one user, written to the store a moment after they moved. */
export class Positions {
  /** @param {PositionStore} store */
  constructor(store) {
    this.store = store;
    /** @type {string | null} */
    this.userId = null;
    /** @type {Map<string, Position>} least recently moved first */
    this.topics = new Map();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /**
   * Turn to a user's positions.
   *
   * @param {string} userId
   * @returns {boolean} whether that is another user than before
   */
  open(userId) {
    if (userId === this.userId) return false;
    this.flush();
    this.userId = userId;
    this.topics = new Map(Object.entries(this.store.load(userId)));
    return true;
  }

  /** @param {string} topic */
  get(topic) {
    return this.topics.get(topic) ?? null;
  }

  /**
   * @param {string} topic
   * @param {Position} position
   */
  set(topic, position) {
    this.topics.delete(topic);
    this.topics.set(topic, position);
    if (this.topics.size > MOST_TOPICS) {
      this.topics.delete(/** @type {string} */ (this.topics.keys().next().value));
    }
    this.timer ??= setTimeout(() => this.flush(), WRITE_DELAY);
  }

  /** Write now. */
  flush() {
    if (this.timer === undefined || this.userId === null) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.store.save(this.userId, Object.fromEntries(this.topics));
  }
}
