// Publishes a notification, stored once however often this runs: npm install @nats-io/transport-node
import { connect, headers } from "@nats-io/transport-node";

const { hostname, port, username, password } = new URL(process.env.NATS_URL);
const broker = await connect({
  servers: `${hostname}:${port || 4222}`,
  user: username,
  pass: password,
  inboxPrefix: "_INBOX_backend",
});
const once = headers();
once.set("Nats-Msg-Id", "orders/42/sent/user.7");
// JetStream's confirmation is the reply to a request.
const reply = await broker.request(
  "user.7.notifications",
  JSON.stringify({ text: "Order 42 is on its way." }),
  { timeout: 5000, headers: once },
);
const stored = reply.json();
if (stored.error) throw new Error(stored.error.description);
console.log(stored.seq, stored.duplicate ? "stored before" : "stored");
await broker.drain();
