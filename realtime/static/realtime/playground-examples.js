/**
 * An example of each frame that a client can send (docs/protocol.md), and of wrong ones.
 *
 * @typedef {object} Known what the conversation has brought so far
 * @property {string} userId
 * @property {string} sessionId of the last `ready`
 * @property {Record<string, any> | null} message the last `message`
 * @property {number} id for the next frame
 *
 * @typedef {object} Example
 * @property {string} name
 * @property {string} meaning
 * @property {(known: Known) => Record<string, any> | string} frame text: sent as it is
 */

const ROOM = "room.lobby";

/** @type {Example[]} */
export const EXAMPLES = [
  {
    name: "connect",
    meaning: "The first frame. Without a token, your login on this site says who you are.",
    frame: ({ id }) => ({ type: "connect", id }),
  },
  {
    name: "connect with a token",
    meaning: "For clients without this site's cookie: manage.py token NAME prints one.",
    frame: ({ id }) => ({ type: "connect", id, token: "paste it here" }),
  },
  {
    name: "subscribe",
    meaning: "Join a topic, from now on.",
    frame: ({ id }) => ({ type: "subscribe", id, topic: ROOM }),
  },
  {
    name: "subscribe since a sequence",
    meaning: "Join a topic, and have what the stream holds after a sequence first.",
    frame: ({ id, userId }) => ({
      type: "subscribe",
      id,
      topic: `user.${userId}.notifications`,
      since: 0,
    }),
  },
  {
    name: "subscribe, QoS 1",
    meaning: "Join a topic; each event has to be acknowledged, and comes again until it is.",
    frame: ({ id }) => ({ type: "subscribe", id, topic: ROOM, qos: 1, durable: "playground" }),
  },
  {
    name: "unsubscribe",
    meaning: "Leave a topic.",
    frame: ({ id }) => ({ type: "unsubscribe", id, topic: ROOM }),
  },
  {
    name: "publish",
    meaning: "Store an event and deliver it. The same messageId is stored once.",
    frame: ({ id }) => ({
      type: "publish",
      id,
      topic: ROOM,
      messageId: `playground-${id}-${Date.now().toString(36)}`,
      payload: { text: "Hello from the playground" },
    }),
  },
  {
    name: "ack",
    meaning: "Confirm all events of a topic up to a sequence (QoS 1). It has no answer.",
    frame: ({ message }) => ({
      type: "ack",
      topic: message?.topic ?? ROOM,
      seqNo: message?.seqNo ?? 1,
    }),
  },
  {
    name: "resume",
    meaning: "Join several topics again after a reconnect, each from its sequence.",
    frame: ({ id, sessionId, message }) => ({
      type: "resume",
      id,
      sessionId: sessionId || "from an earlier ready",
      lastSeqPerTopic: { [message?.topic ?? ROOM]: message?.seqNo ?? 0 },
    }),
  },
  {
    name: "replay",
    meaning: "Have what the stream holds of a joined topic sent again.",
    frame: ({ id, message }) => ({
      type: "replay",
      id,
      topic: message?.topic ?? ROOM,
      fromSeq: message?.seqNo ?? 1,
    }),
  },
  {
    name: "history",
    meaning: "Ask for a page of stored events, newest last.",
    frame: ({ id }) => ({ type: "history", id, topic: ROOM, limit: 5 }),
  },
  {
    name: "presence",
    meaning: "Ask who is subscribed.",
    frame: ({ id }) => ({ type: "presence", id, topic: ROOM }),
  },
  {
    name: "request",
    meaning: "Ask a backend over NATS. It takes a rule for it, and a backend that answers.",
    frame: ({ id }) => ({ type: "request", id, topic: "rpc.sum", payload: [1, 2], timeout: 2 }),
  },
  {
    name: "refresh",
    meaning: "Give the open session a new token.",
    frame: ({ id }) => ({ type: "refresh", id, token: "paste it here" }),
  },
  { name: "ping", meaning: "Answered by pong.", frame: ({ id }) => ({ type: "ping", id }) },
  {
    name: "wrong: a missing field",
    meaning: "See how the gateway says what is wrong. The socket stays open.",
    frame: ({ id }) => ({ type: "subscribe", id }),
  },
  {
    name: "wrong: somebody else's topic",
    meaning: "What no rule allows is denied.",
    frame: ({ id, userId }) => ({
      type: "subscribe",
      id,
      topic: `user.${Number(userId) + 1 || "someone"}.notifications`,
    }),
  },
  { name: "wrong: no JSON", meaning: "Text that is no frame.", frame: () => "hello?" },
];
