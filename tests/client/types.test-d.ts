// Compiled, never run: what a TypeScript program may write against the package's types.
import {
  CloseCode,
  GatewayClient,
  GatewayError,
  memoryStore,
  type Message,
  type State,
} from "realtime-gateway-client";

const client = new GatewayClient({
  url: "wss://example.com/ws/",
  WebSocket: globalThis.WebSocket,
  token: async () => "secret",
  storage: memoryStore(),
  backoff: { base: 100, cap: 1_000 },
  replyTimeout: 5_000,
});

client.addEventListener("statechange", ({ detail }) => {
  const state: State = detail;
  if (state.name === "denied" && state.code === CloseCode.REVOKED) client.close();
});
client.addEventListener("gap", ({ detail }) => detail.fromSeq + detail.toSeq);

async function use(): Promise<void> {
  client.connect();
  const { seqNo, recovered } = await client.subscribe<{ title: string }>("user.7.notifications", {
    since: 3,
    onMessage: (message: Message<{ title: string }>) => message.data.title.length,
    onPresence: ({ joined, left }) => joined.map(({ userId }) => userId).concat(left),
  });
  const ack = await client.publish("room.lobby", { text: "hi" }, { messageId: "m" });
  const duplicate: boolean = ack.status === "duplicate" || (recovered && seqNo > 0);
  const sum = await client.request<number>("rpc.sum", [1, 2], { timeout: 2_000 });
  const page: Message[] = await client.history("room.lobby", { limit: sum, before: 9 });
  page.forEach((message) => client.ack(message));
  const names: string[] = (await client.presence("room.lobby")).map(({ userId }) => userId);
  try {
    await client.unsubscribe(names[0] ?? "room.lobby");
  } catch (error) {
    if (error instanceof GatewayError && error.passing && duplicate) client.reconnect();
  }
}

// @ts-expect-error a topic is text
void client.subscribe(7);
// @ts-expect-error there is no such event
client.addEventListener("later", () => {});
// @ts-expect-error QoS 2 does not exist
void client.subscribe("room.lobby", { qos: 2 });

void use();
