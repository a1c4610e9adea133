/**
 * What to show of a notification's payload, which can be anything.
 *
 * @typedef {"info" | "success" | "warning" | "error"} Level
 *
 * @typedef {object} Content everything is text, never markup
 * @property {string} title
 * @property {string} body
 * @property {string} json pretty JSON of a payload that has no text of its own
 * @property {string | null} url
 * @property {Level} level
 */

const MOST_CHARACTERS = 5_000;
const LEVELS = new Map(
  /** @type {[string, Level][]} */ ([
    ["info", "info"],
    ["success", "success"],
    ["warning", "warning"],
    ["warn", "warning"],
    ["error", "error"],
    ["danger", "error"],
    ["critical", "error"],
  ]),
);

/**
 * Return what to show of a payload: a string; an object with `title`, `body` (or `message`, or
 * `text`), `url` and `level`; or else whatever it is, as JSON.
 *
 * @param {unknown} data
 * @returns {Content}
 */
export function contentOf(data) {
  const content = { title: "", body: "", json: "", url: null, level: /** @type {Level} */ ("info") };
  if (data instanceof Uint8Array) return { ...content, ...fromBytes(data) };
  if (typeof data === "string") return { ...content, title: clipped(data) || "(empty)" };
  if (typeof data !== "object" || data === null || Array.isArray(data)) {
    return { ...content, ...asJson(data) };
  }
  const fields = /** @type {Record<string, unknown>} */ (data);
  const title = textOf(fields.title);
  const body = textOf(fields.body ?? fields.message ?? fields.text);
  const words = title || body ? { title: title || body, body: title ? body : "" } : asJson(data);
  const level = LEVELS.get(String(fields.level).toLowerCase()) ?? "info";
  return { ...content, ...words, level, url: linkOf(fields.url) };
}

/**
 * Return a link that is safe to follow: http(s), or relative to this site.
 *
 * @param {unknown} url
 * @param {string} [base]
 * @returns {string | null}
 */
export function linkOf(url, base = location.origin) {
  if (typeof url !== "string" || url === "") return null;
  try {
    const { protocol, href } = new URL(url, base);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}

/** @param {Uint8Array} bytes */
function fromBytes(bytes) {
  try {
    return { title: clipped(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) || "(empty)" };
  } catch {
    return { title: `${bytes.length} bytes that are not text` };
  }
}

/** @param {unknown} data */
function asJson(data) {
  return { title: "Notification", json: clipped(JSON.stringify(data, null, 2)) };
}

/** @param {unknown} value */
function textOf(value) {
  return typeof value === "string" || typeof value === "number" ? clipped(String(value)) : "";
}

/** @param {string} text */
function clipped(text) {
  const trimmed = text.trim();
  return trimmed.length > MOST_CHARACTERS ? `${trimmed.slice(0, MOST_CHARACTERS)}…` : trimmed;
}
