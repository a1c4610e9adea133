/** Types of client.js, for TypeScript. What each thing does is told there; durations are ms. */

/** A frame from the gateway, as docs/protocol.md describes it. */
export interface Frame {
  type: string;
  [field: string]: any;
}

/** An event of a topic. */
export interface Message<Data = any> {
  topic: string;
  /** The subscription it came by, where that is a pattern such as `room.*`. */
  pattern: string | null;
  /** Stream sequence; null on an ephemeral topic. */
  seqNo: number | null;
  /** The sequence before it on this topic. */
  prevSeqNo: number | null;
  messageId: string;
  /** The payload; a Uint8Array where it was not JSON. */
  data: Data;
  /** When it was stored, Unix ms. */
  ts: number;
  redelivered: boolean;
}

export interface Subscribed extends Frame {
  type: "subscribed";
  topic: string;
  /** The top of the topic; 0 when it is empty. */
  seqNo: number;
  epoch: string;
  /** False: the stream no longer held everything after `since`. */
  recovered: boolean;
}

export interface Ack extends Frame {
  type: "ack";
  messageId: string;
  status: "ok" | "duplicate";
  /** Absent on an ephemeral topic. */
  seqNo?: number;
}

export interface Ready extends Frame {
  type: "ready";
  sessionId: string;
  userId: string;
  /** Unix seconds; null: never. */
  expiresAt: number | null;
  /** Seconds. */
  heartbeat: number;
  epoch: string;
  subscriptions: string[];
}

export interface Member {
  userId: string;
  connections: number;
  info: Record<string, unknown> | null;
}

export interface State {
  name: "connecting" | "open" | "reconnecting" | "offline" | "denied" | "closed";
  /** When the next attempt starts, Unix ms; null: none waits. */
  retryAt: number | null;
  /** Close code of the connection that was lost. */
  code: number | null;
  reason: string;
}

export interface Position {
  seq: number;
  epoch: string | null;
}

export interface PositionStore {
  load(userId: string): Record<string, Position>;
  save(userId: string, positions: Record<string, Position>): void;
}

/** What makes sockets: the global WebSocket, or the class of the package `ws`. */
export type WebSocketClass = new (url: string) => {
  readonly readyState: number;
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
};

export interface ClientOptions {
  /** Default: /ws/ on this page's host; outside of a page the whole address. */
  url?: string;
  /** Default: the global one, which Node has from 22 on. */
  WebSocket?: WebSocketClass;
  /** Asked for before every connection; left out: the Django session cookie counts. */
  token?: string | (() => string | Promise<string>);
  /** Where positions outlive a reload; default: sessionStorage; null: memory. */
  storage?: PositionStore | null;
  backoff?: { base?: number; cap?: number; stableAfter?: number; random?: () => number };
  connectTimeout?: number;
  replyTimeout?: number;
  /** Over reconnects; below the gateway's deduplication window. */
  publishTimeout?: number;
  replayTimeout?: number;
  heartbeatGrace?: number;
  probeTimeout?: number;
}

export interface SubscribeOptions<Data = any> {
  /** Last sequence already processed. Left out: where this user left off, else the top. */
  since?: number;
  /** Of the stream that `since` belongs to. */
  epoch?: string;
  qos?: 0 | 1;
  /** Name under which the gateway keeps the confirmed position; implies QoS 1. */
  durable?: string;
  ack?: "auto" | "manual";
  onMessage?: (message: Message<Data>) => unknown;
  /** Is told who comes to the topic and who leaves it; start with `client.presence(topic)`. */
  onPresence?: (change: PresenceChange) => unknown;
}

/** Users who came to a topic, and the ids of those who left it. */
export interface PresenceChange {
  topic: string;
  joined: { userId: string; info: Record<string, unknown> | null }[];
  left: string[];
}

/** The events of a client, and what each has in `detail`. */
export interface ClientEvents {
  statechange: State;
  message: Message;
  gap: { topic: string; fromSeq: number; toSeq: number };
  reset: { topic: string; epoch: string };
  presence: PresenceChange;
  unsubscribed: { topic: string; reason: string };
  expiring: { expiresAt: number };
  error: GatewayError;
}

export class GatewayError extends Error {
  constructor(code: string, message: string, topic?: string | null, options?: { cause?: unknown });
  readonly code: string;
  readonly topic: string | null;
  /** Whether the same request may pass later. */
  get passing(): boolean;
}

export const CloseCode: Readonly<
  Record<
    | "NORMAL"
    | "ABNORMAL"
    | "TOO_BIG"
    | "TOKEN_EXPIRED"
    | "HEARTBEAT_LOST"
    | "AUTH_FAILED"
    | "REVOKED"
    | "TOO_MANY_CONNECTIONS",
    number
  >
>;

export function memoryStore(): PositionStore;
export function webStore(area?: () => Storage, prefix?: string): PositionStore;

/** An EventTarget, of the events above and no others. */
export class GatewayClient {
  constructor(options?: ClientOptions);
  get state(): Readonly<State>;
  /** Null before the first `ready`. */
  get userId(): string | null;
  /** Unix seconds; null: never, or not known yet. */
  get expiresAt(): number | null;
  get topics(): string[];
  connect(): void;
  reconnect(): void;
  close(): void;
  subscribe<Data = any>(topic: string, options?: SubscribeOptions<Data>): Promise<Subscribed>;
  unsubscribe(topic: string): Promise<void>;
  publish(
    topic: string,
    payload: unknown,
    options?: { messageId?: string; timeout?: number },
  ): Promise<Ack>;
  request<Reply = any>(
    topic: string,
    payload?: unknown,
    options?: { timeout?: number },
  ): Promise<Reply>;
  history(topic: string, options?: { limit?: number; before?: number }): Promise<Message[]>;
  presence(topic: string): Promise<Member[]>;
  replay(topic: string, fromSeq: number): Promise<void>;
  refresh(token: string): Promise<Ready>;
  ack(message: Message): void;
  addEventListener<Type extends keyof ClientEvents>(
    type: Type,
    listener: (event: CustomEvent<ClientEvents[Type]>) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof ClientEvents>(
    type: Type,
    listener: (event: CustomEvent<ClientEvents[Type]>) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
}
