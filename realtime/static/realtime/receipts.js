/**
 * QoS 1: which delivered events are not done with yet, and when to tell the gateway.
 *
 * What is done is confirmed as a position, "all up to here", so that one lost `ack` frame does
 * no harm: the next one says the same and more.
 */

const TRIES = 3; // for an event whose handler fails
const PAUSE = 10; // ms between two `ack` frames: the gateway limits frames a second

export class Receipts {
  /** @type {Map<number, {tries: number, failed: boolean}>} by sequence */
  #open = new Map();
  #confirm;
  /** @type {ReturnType<typeof setTimeout> | undefined} runs after a confirmation */
  #timer;
  #due = false;

  /** @param {() => void} confirm tells the gateway the present position */
  constructor(confirm) {
    this.#confirm = confirm;
  }

  /** The lowest sequence that is not done with; null when everything is. */
  get first() {
    return this.#open.size > 0 ? Math.min(...this.#open.keys()) : null;
  }

  /** @param {number} sequence of an event that is handed out now */
  add(sequence) {
    this.#open.set(sequence, { tries: 0, failed: false });
  }

  /**
   * Note that an event is done with.
   *
   * @param {number} sequence
   */
  done(sequence) {
    if (this.#open.delete(sequence)) this.confirm();
  }

  /**
   * Note that an event, and all before it, are done with.
   *
   * @param {number} sequence
   */
  doneUpTo(sequence) {
    for (const open of [...this.#open.keys()]) if (open <= sequence) this.#open.delete(open);
    this.confirm();
  }

  /**
   * Note that the handler of an event failed.
   *
   * @param {number} sequence
   * @returns {boolean} whether it is tried again, when the gateway sends it again
   */
  failed(sequence) {
    const receipt = this.#open.get(sequence);
    if (receipt === undefined) return false;
    receipt.tries += 1;
    receipt.failed = true;
    return receipt.tries < TRIES;
  }

  /**
   * Take in an event that came again: its confirmation was lost, or its handler had failed.
   *
   * @param {number} sequence
   * @returns {boolean} whether to hand it out again
   */
  repeated(sequence) {
    const receipt = this.#open.get(sequence);
    if (receipt === undefined) this.confirm();
    if (!receipt?.failed) return false;
    receipt.failed = false;
    return true;
  }

  /**
   * Forget events that are sent again anyway.
   *
   * @param {number} [fromSeq]
   */
  forget(fromSeq = 0) {
    for (const open of [...this.#open.keys()]) if (open >= fromSeq) this.#open.delete(open);
  }

  /** Tell the gateway soon how far everything is done with. */
  confirm() {
    this.#due = true;
    if (this.#timer === undefined) this.#tell();
  }

  #tell() {
    this.#timer = undefined;
    if (!this.#due) return;
    this.#due = false;
    this.#confirm();
    this.#timer = setTimeout(() => this.#tell(), PAUSE);
  }
}
