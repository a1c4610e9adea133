// An unmodified socket.io-client, driven by lines of JSON: commands come in, what happens goes out.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, options] = [process.argv[2], JSON.parse(process.argv[3])];
const say = (event, ...args) => console.log(JSON.stringify({ event, args }));
const socket = io(url, options);

socket.on("connect", () => say("connect"));
socket.io.on("open", () => socket.io.engine.on("upgrade", ({ name }) => say("upgrade", name)));
socket.on("disconnect", (reason) => say("disconnect", reason, socket.active));
socket.on("connect_error", (error) => say("connect_error", error.message, error.data ?? null, socket.active));
socket.io.on("reconnect_attempt", () => say("reconnect_attempt"));
socket.onAny(say);

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { emit, ack, bytes, call } = JSON.parse(line);
    if (call) socket[call]();
    else if (bytes) socket.emit(...emit, Buffer.alloc(bytes));
    else if (ack) socket.emit(...emit, (...args) => say(ack, ...args));
    else socket.emit(...emit);
  })
  .on("close", () => process.exit());
