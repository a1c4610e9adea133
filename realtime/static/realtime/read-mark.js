/**
 * Up to where a user has read, kept by the server: all devices and tabs of the user agree.
 *
 * @typedef {{epoch: string | null, seq: number}} Mark
 */

const PATIENCE = 15_000; // ms

/** Nothing was ever marked. */
export const NOTHING = Object.freeze({ epoch: null, seq: 0 });

/**
 * Return the mark in what the server, or an event, says.
 *
 * @param {any} said
 * @returns {Mark}
 */
export function markFrom(said) {
  if (!Number.isSafeInteger(said?.seqNo)) return NOTHING;
  return { seq: said.seqNo, epoch: typeof said.epoch === "string" ? said.epoch : null };
}

/**
 * Return the server's keeper of the mark.
 *
 * @param {string} url
 * @param {string} csrf Django's token
 */
export function markKeeper(url, csrf) {
  return {
    load: () => ask(url, { method: "GET" }),
    /** @param {Mark} mark */
    save({ seq, epoch }) {
      const body = new URLSearchParams({ seqNo: String(seq), epoch: epoch ?? "" });
      return ask(url, { method: "POST", body, headers: { "X-CSRFToken": csrf } });
    },
  };
}

/**
 * Mark everything as read: at once on this page, and for all devices if the server takes it.
 *
 * @param {import("./inbox.js").Inbox} inbox
 * @param {ReturnType<typeof markKeeper>} keeper
 * @param {() => void} draw
 * @returns {Promise<string>} what went wrong, in words; empty: nothing
 */
export async function markAllRead(inbox, keeper, draw) {
  const before = inbox.mark;
  inbox.markAllRead();
  draw();
  try {
    inbox.mark = await keeper.save(inbox.mark);
    return "";
  } catch (error) {
    inbox.restore(before);
    return `Not marked as read. ${/** @type {Error} */ (error).message}`;
  } finally {
    draw();
  }
}

/**
 * @param {string} url
 * @param {RequestInit} init
 * @returns {Promise<Mark>} rejects with a sentence for people
 */
async function ask(url, init) {
  let response;
  try {
    response = await fetch(url, {
      ...init,
      headers: { Accept: "application/json", ...init.headers },
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch (cause) {
    throw new Error("The server did not answer. Try again.", { cause });
  }
  const json = response.headers.get("Content-Type") === "application/json";
  const said = json ? await response.json() : {};
  if (response.ok && json) return markFrom(said);
  throw new Error(said.message ?? `The server refused it (${response.status}). Reload the page.`);
}
