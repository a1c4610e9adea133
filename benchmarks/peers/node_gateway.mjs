// A minimal gateway in Node: `ws` and `nats`, topic -> set of sockets, stringify once an event.
// It verifies the JWT itself and stores nothing; with STREAM set, a publish waits for JetStream.
import jwt from "jsonwebtoken";
import { connect, StringCodec } from "nats";
import { WebSocketServer } from "ws";

const { PORT, NATS_URL, JWT_KEY, STREAM } = process.env;
const codec = StringCodec();
const nats = await connect({ servers: NATS_URL });
const stream = STREAM ? nats.jetstream() : null;
const topics = new Map();

function deliver(topic, data) {
  const entry = topics.get(topic);
  const text = JSON.stringify({ type: "message", topic, data: JSON.parse(codec.decode(data)) });
  const frame = Buffer.from(text);
  for (const socket of entry.sockets) socket.send(frame, { binary: false });
}

function join(topic, socket) {
  let entry = topics.get(topic);
  if (!entry) {
    entry = { sockets: new Set(), subscription: null };
    topics.set(topic, entry);
    entry.subscription = nats.subscribe(topic, {
      callback: (error, message) => error || deliver(topic, message.data),
    });
  }
  entry.sockets.add(socket);
  socket.topics.add(topic);
}

function leave(topic, socket) {
  const entry = topics.get(topic);
  entry.sockets.delete(socket);
  if (!entry.sockets.size) {
    entry.subscription.unsubscribe();
    topics.delete(topic);
  }
}

async function handle(socket, frame) {
  const say = (answer) => socket.send(JSON.stringify(answer));
  if (frame.type === "connect") {
    socket.user = jwt.verify(frame.token, JWT_KEY, { algorithms: ["HS256"] }).sub;
    say({ type: "ready", userId: socket.user });
  } else if (!socket.user) {
    socket.close(4500);
  } else if (frame.type === "subscribe") {
    join(frame.topic, socket);
    say({ type: "subscribed", topic: frame.topic });
  } else if (frame.type === "publish") {
    const data = codec.encode(JSON.stringify(frame.payload));
    if (stream) {
      const stored = await stream.publish(frame.topic, data, {
        msgID: `${socket.user}:${frame.messageId}`,
      });
      say({ type: "ack", messageId: frame.messageId, seqNo: stored.seq });
    } else {
      nats.publish(frame.topic, data);
      say({ type: "ack", messageId: frame.messageId });
    }
  }
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(PORT),
  perMessageDeflate: false,
  backlog: 4096,
});
server.on("connection", (socket) => {
  socket.topics = new Set();
  socket.on("message", (text) => {
    handle(socket, JSON.parse(text)).catch(() => socket.close(4500));
  });
  socket.on("error", () => {});
  socket.on("close", () => socket.topics.forEach((topic) => leave(topic, socket)));
});
