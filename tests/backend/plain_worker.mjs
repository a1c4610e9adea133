// Answers the gateway's auth requests: npm install @nats-io/transport-node jsonwebtoken
import { connect } from "@nats-io/transport-node";
import jwt from "jsonwebtoken";

const { hostname, port, username, password } = new URL(process.env.NATS_URL);
const key = process.env.JWT_KEY ?? "";
if (key.length < 32) throw new Error("JWT_KEY is 32 bytes at least (RFC 7518 §3.2).");

function answer({ token }) {
  try {
    const claims = jwt.verify(token, key, { algorithms: ["HS256"] });
    if (!claims.sub || !claims.exp) return { success: false, error: "sub or exp is missing." };
    return { success: true, user_id: claims.sub, expires_at: claims.exp };
  } catch (error) {
    if (!(error instanceof jwt.JsonWebTokenError)) throw error;
    return { success: false, error: "The token is not valid." };
  }
}

const broker = await connect({
  servers: `${hostname}:${port || 4222}`,
  user: username,
  pass: password,
  maxReconnectAttempts: -1,
});
broker.subscribe("gateway.auth", {
  queue: "auth",
  callback: (error, message) => {
    if (error) return console.error(error.message);
    try {
      message.respond(JSON.stringify(answer(message.json())));
    } catch (failure) {
      // Left unanswered: the client is told to come back.
      console.error(failure.message);
    }
  },
});
process.once("SIGTERM", () => broker.drain());
await broker.closed();
