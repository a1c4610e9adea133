// Socket.IO with its Redis adapter, as its manual shows: a room for each topic.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const { PORT, REDIS_URL } = process.env;
const publisher = createClient({ url: REDIS_URL });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(publisher, subscriber),
  transports: ["websocket"],
  perMessageDeflate: false,
  // Longer than any run: the load generator does not answer Engine.IO's pings.
  pingInterval: 3600000,
});
io.on("connection", (socket) => {
  socket.on("subscribe", async (topic, confirm) => {
    await socket.join(topic);
    confirm("subscribed");
  });
});
http.listen({ port: Number(PORT), host: "127.0.0.1", backlog: 4096 });
