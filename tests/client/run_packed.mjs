// Run by test_package.py: the packed client on a real gateway. Arguments: url, token, topic.
import { GatewayClient, GatewayError } from "realtime-gateway-client";

const [url, token, topic] = process.argv.slice(2);
const { WebSocket } = globalThis;
delete globalThis.WebSocket; // as in Node 20: the caller hands a class in

let missing = "";
try {
  new GatewayClient({ url });
} catch (error) {
  missing = error.message;
}
const client = new GatewayClient({ url, token, WebSocket });
const states = [];
const got = [];
client.addEventListener("statechange", ({ detail }) => states.push(detail.name));
client.connect();
const all = new Promise((resolve) => {
  client.subscribe(topic, {
    onMessage: ({ data }) => got.push(data) === 3 && resolve(),
  });
});
await client.presence(topic); // answered behind the subscription
const first = await client.publish(topic, 1, { messageId: `${topic}-1` });
const again = await client.publish(topic, 1, { messageId: `${topic}-1` });
await client.publish(topic, { two: 2 });
await client.publish(topic, [3]);
await all;
const refused = await client.subscribe("user.0.x").catch((error) => error);
const history = await client.history(topic);
client.close();

const denied = new GatewayClient({ url, token: "no.such.token", WebSocket });
const reason = new Promise((resolve) => {
  denied.addEventListener("statechange", ({ detail }) => {
    if (detail.name === "denied") resolve(detail.code);
  });
});
denied.connect();

console.log(
  JSON.stringify({
    missing,
    states,
    got,
    status: [first.status, again.status],
    refused: [refused instanceof GatewayError, refused.code],
    history: history.map(({ data }) => data),
    denied: await reason,
  }),
);
// It ends by itself: what was closed or denied keeps nothing alive.
