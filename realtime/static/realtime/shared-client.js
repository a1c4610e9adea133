/**
 * One client for all of a page's modules: the bell, the badge, and the page itself.
 */

import { GatewayClient } from "./client.js";

/** @type {GatewayClient | null} */
let client = null;

/**
 * Return the page's client. Whoever comes first says with which options it is made.
 *
 * @param {import("./options.js").ClientOptions} [options]
 */
export function sharedClient(options) {
  client ??= new GatewayClient(options);
  return client;
}
