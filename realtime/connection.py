"""A connection: one socket from `connect` to close. Frames in, frames out.

Frames are handled in order. What takes long does not hold up what follows: publishes are
confirmed by the stream while later frames are handled (answers keep their order), history is
written by deliveries, requests run beside.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from .authentication import Authenticator
from .bridge import is_durable
from .broker import Broker
from .delivery import AckPolicy, Delivery, Socket
from .fanout import Fanout, Feed
from .protocol import frames
from .protocol.exceptions import (
    AuthFailed,
    AuthUnavailable,
    BadFrame,
    CloseCode,
    GatewayError,
    SessionExpired,
)
from .protocol.frames import GatewayFrame, encode_frame, error_for, parse_frame
from .protocol.limits import RateLimit
from .protocol.messages import (
    MESSAGE_ID,
    MSG_ID,
    USER,
    AuthRequest,
    Event,
    Identity,
    payload_data,
)
from .protocol.session import Limits, Session, Ticket, read_ticket, sign_ticket

logger = logging.getLogger(__name__)

REAUTHORIZE_TRIES = 3
"""Times the backend is asked for new rules before the socket has to come back."""
FIRST_PAGE = 256
"""Events read at once by a resume, over all its topics."""
DEFAULT_HISTORY = 50
"""Events in a `history` page when the client names no limit."""
MAX_TIMER = 86400.0 * 24
"""Longest timer in seconds; some event loops take no longer ones."""

crashes = RateLimit(rate=1.0, burst=5)
"""Tracebacks that may be logged."""


class ConnectionOptions(Struct, frozen=True):
    """What every connection of a process shares. Durations in seconds."""

    limits: Limits
    ack: AckPolicy
    session_key: bytes
    session_max_age: float
    auth_deadline: float
    heartbeat: float
    store_timeout: float
    request_timeout: float
    publishes_in_flight: int
    expiry_notice: float = 60.0


class Services(Struct, frozen=True):
    """The parts of a process that connections use."""

    broker: Broker
    authenticator: Authenticator
    fanout: Fanout
    options: ConnectionOptions
    presence: Callable[[str], Awaitable[list[dict[str, Any]]]]
    connections: dict[str, set[Connection]]


class Peer(Struct, frozen=True):
    """What the upgrade request told about the other side."""

    ip: str
    user_agent: str | None
    origin: str | None
    session_key: str | None


class Start(Struct, frozen=True):
    """Where a subscription begins.

    Attributes:
        position: the last sequence that counts as had.
        since: what the client said it has; `gap`: up to where that cannot be had, 0: no gap.
        events: the first of what was missed.
    """

    position: int
    recovered: bool = True
    reset: bool = False
    since: int = 0
    gap: int = 0
    events: Sequence[Event] = ()


class Connection:
    """One socket.

    Args:
        socket: where frames are written; must outlive the connection.
        peer: who is there, as far as the upgrade request told.
    """

    def __init__(self, services: Services, socket: Socket, peer: Peer) -> None:
        self._services = services
        self._options = services.options
        self._socket = socket
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._session = Session(self._options.limits, now=self._loop.time())
        self._deliveries: dict[str, Delivery] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._answering: asyncio.Task[None] | None = None
        self._in_flight = asyncio.Semaphore(self._options.publishes_in_flight)
        self._timers: list[asyncio.TimerHandle] = []
        self._expiry: list[asyncio.TimerHandle] = []
        self._token: str | None = None
        self._reauthorizing = False
        self.closed = asyncio.Event()
        self.id = uuid.uuid4().hex[:12]
        self.opened_at = time.time()
        self._deadline = self._loop.call_later(self._options.auth_deadline, self._too_late)

    @property
    def user_id(self) -> str | None:
        """The user, None before `connect`."""
        return self._session.identity.user_id if self._session.authenticated else None

    @property
    def info(self) -> dict[str, Any] | None:
        """What the backend wants shown in presence."""
        return self._session.identity.info if self._session.authenticated else None

    @property
    def topics(self) -> set[str]:
        """The topics that this socket holds."""
        return self._session.topics

    async def receive(self, text: str | bytes) -> None:
        """Handle one frame. Never raises: what fails is told to the client."""
        frame_id: str | int | None = None
        try:
            frame = parse_frame(text)
            frame_id = frame.id
            self._session.admit(frame, now=self._loop.time())
            await _HANDLERS[type(frame)](self, frame)
        except BadFrame as exc:
            self._fail(exc, exc.frame_id if frame_id is None else frame_id)
        except GatewayError as exc:
            self._fail(exc, frame_id)
        except Exception:
            self._crashed(frame_id)

    def refuse_binary(self) -> None:
        """Answer a binary frame."""
        self._fail(BadFrame("Frames are text: send JSON in a text frame."), None)

    def close(self) -> None:
        """Let go of everything: the socket is gone."""
        self.closed.set()
        self._deadline.cancel()
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        for topic in tuple(self._deliveries):
            self._drop(topic)
        if self._session.authenticated:
            mine = self._services.connections.get(self._session.identity.user_id)
            if mine is not None:
                mine.discard(self)
                if not mine:
                    del self._services.connections[self._session.identity.user_id]
            logger.info("closed session=%s user=%s", self.id, self.user_id)

    def drain(self, after_ms: int) -> None:
        """Ask the client to come back later, because this process ends."""
        self._send(frames.Reconnect(after_ms=after_ms, reason="drain"))
        self._socket.close(CloseCode.GOING_AWAY, "drain")

    def disconnect(self, reason: str) -> None:
        """End the session for good: kicked, deactivated, logged out."""
        self._socket.close(CloseCode.REVOKED, reason)

    def revoke(self, topic: str, reason: str) -> None:
        """Take a topic away; nothing of it is delivered after this."""
        if topic in self._deliveries:
            self._drop(topic)
            self._send(frames.Unsubscribed(topic=topic, reason=reason))

    def reauthorize_soon(self, spread: float) -> None:
        """Ask the backend again within `spread` seconds, so that many do not ask at once."""
        if not self._reauthorizing:
            self._reauthorizing = True
            delay = random.uniform(0, spread)
            self._later(delay, lambda: self._spawn(self._reauthorize()))

    # Opening

    async def _connect(self, frame: frames.Connect) -> None:
        if frame.token is None and self._peer.session_key is None:
            raise AuthFailed("Send a token with 'connect', or log in on this site first.")
        self._token = frame.token
        identity = await self._authenticate()
        if self.closed.is_set():
            return
        self._deadline.cancel()
        self._session.authenticate(identity)
        self._services.connections.setdefault(identity.user_id, set()).add(self)
        self._expire_at(identity.expires_at)
        logger.info("opened session=%s user=%s ip=%s", self.id, identity.user_id, self._peer.ip)
        granted = await self._join_granted()
        self._send(self._ready(frame.id, [feed.topic for feed in granted]))
        resume = frame.session_id is not None and frame.last_seq_per_topic is not None
        for feed in granted:
            if not (resume and feed.topic in (frame.last_seq_per_topic or ())):
                await self._enter(feed, Start(feed.chain.last), None)
        if resume:
            wanted = frame.last_seq_per_topic or {}
            await self._resume(
                frames.Resume(
                    id=frame.id, session_id=frame.session_id or "", last_seq_per_topic=wanted
                )
            )
            for feed in granted:
                if feed.topic in wanted:
                    self._services.fanout.leave(feed)

    async def _authenticate(self) -> Identity:
        peer = self._peer
        identity = await self._services.authenticator.authenticate(
            AuthRequest(
                token=self._token,
                session_key=None if self._token is not None else peer.session_key,
                origin=peer.origin,
                ip=peer.ip,
                user_agent=peer.user_agent,
            )
        )
        if identity.expires_at is not None and identity.expires_at <= time.time():
            raise AuthFailed("This credential has expired; get a new one.")
        return identity

    def _ready(self, frame_id: str | int | None, subscriptions: list[str]) -> frames.Ready:
        identity, epoch = self._session.identity, self._services.fanout.epoch
        ticket = Ticket(identity.user_id, epoch, int(time.time()), self.id)
        return frames.Ready(
            id=frame_id,
            session_id=sign_ticket(ticket, self._options.session_key),
            user_id=identity.user_id,
            expires_at=identity.expires_at,
            heartbeat=self._options.heartbeat,
            epoch=epoch,
            subscriptions=subscriptions,
        )

    async def _join_granted(self) -> list[Feed]:
        """Join the topics that the backend grants unasked and that are not held yet."""
        feeds = []
        for topic in self._session.identity.subscriptions:
            try:
                if topic not in self._deliveries:
                    self._session.check_topic("subscribe", topic)
                    feeds.append(await self._services.fanout.join(topic))
            except GatewayError as exc:
                logger.warning("granted topic not joined topic=%s reason=%s", topic, exc)
        return feeds

    async def _refresh(self, frame: frames.Refresh) -> None:
        before, self._token = self._token, frame.token
        try:
            identity = await self._authenticate()
            if identity.user_id != self._session.identity.user_id:
                raise AuthFailed("This token is another user's.")
        except GatewayError as exc:
            # The session goes on with what it had, until that expires.
            self._token = before
            self._send(error_for(exc, frame.id))
            return
        await self._become(identity)
        self._send(self._ready(frame.id, sorted(self._deliveries)))

    async def _reauthorize(self) -> None:
        self._reauthorizing = False
        for attempt in range(REAUTHORIZE_TRIES):
            try:
                await self._become(await self._authenticate())
                return
            except AuthUnavailable:
                await asyncio.sleep(0.25 * 2**attempt)
            except AuthFailed as exc:
                self.disconnect(exc.message)
                return
        # Rules changed and nobody says how: better a reconnect than a leak.
        self._socket.close(CloseCode.AUTH_UNAVAILABLE, "the backend does not answer")

    async def _become(self, identity: Identity) -> None:
        """Take new rules and a new expiry; leave what is no longer allowed."""
        if identity.user_id != self._session.identity.user_id:
            self.disconnect("another user")
            return
        self._session.authenticate(identity)
        self._expire_at(identity.expires_at)
        for topic in tuple(self._deliveries):
            if not identity.rules.decide("subscribe", topic).allowed:
                self.revoke(topic, "acl")
        for feed in await self._join_granted():
            await self._enter(feed, Start(feed.chain.last), None)

    # Topics

    async def _subscribe(self, frame: frames.Subscribe) -> None:
        topic = frame.topic
        self._session.check_topic("subscribe", topic)
        held = self._deliveries.get(topic)
        if held is None:
            self._session.check_room()
        elif frame.since is None and held.tracked == bool(frame.qos):
            self._send(self._subscribed(held.feed, frame.id, recovered=True))
            return
        feed = await self._services.fanout.join(topic)
        try:
            start = await self._locate(feed, frame.since, frame.epoch)
            self._session.check_topic("subscribe", topic)
        except BaseException:
            self._services.fanout.leave(feed)
            raise
        await self._enter(feed, start, frame)

    async def _locate(
        self, feed: Feed, since: int | None, epoch: str | None, limit: int = 0
    ) -> Start:
        """Find where a client that has everything up to `since` goes on.

        Raises:
            Unavailable: when the stream does not answer.
        """
        if not feed.durable or since is None:
            return Start(feed.chain.last, recovered=since is None or feed.durable)
        reset = epoch is not None and epoch != self._services.fanout.epoch
        if not reset and since > feed.chain.last:
            top = await self._services.fanout.history.top(feed.topic)
            reset = since > max(top, feed.chain.last)
        if reset:
            since = 0
        if since >= feed.chain.last:
            return Start(since, recovered=not reset, reset=reset)
        page = await feed.page(since, limit)
        gap = 0
        if not page.complete:
            gap = page.events[0].sequence - 1 if page.events else feed.chain.last
        return Start(max(since, gap), page.complete and not reset, reset, since, gap, page.events)

    async def _enter(self, feed: Feed, start: Start, frame: frames.Subscribe | None) -> None:
        """Hold a topic from `start` on; the feed was joined for it."""
        if self.closed.is_set():
            self._services.fanout.leave(feed)
            return
        if start.reset:
            self._send(frames.Reset(topic=feed.topic, epoch=self._services.fanout.epoch))
        self._send(self._subscribed(feed, frame.id if frame else None, recovered=start.recovered))
        self._begin(feed, start, qos=frame.qos if frame else 0)

    def _begin(self, feed: Feed, start: Start, *, qos: int) -> None:
        self._drop(feed.topic)
        if start.gap > start.since:
            gap = frames.Gap(topic=feed.topic, from_seq=start.since + 1, to_seq=start.gap)
            self._send(gap)
        ack = self._options.ack if qos and feed.durable else None
        delivery = Delivery(feed, self._socket, start.position, ack=ack)
        self._deliveries[feed.topic] = delivery
        self._session.topics.add(feed.topic)
        delivery.start(start.events)

    def _subscribed(
        self, feed: Feed, frame_id: str | int | None, *, recovered: bool
    ) -> frames.Subscribed:
        return frames.Subscribed(
            id=frame_id,
            topic=feed.topic,
            seq_no=feed.chain.last,
            epoch=self._services.fanout.epoch,
            recovered=recovered,
        )

    def _drop(self, topic: str) -> None:
        delivery = self._deliveries.pop(topic, None)
        self._session.topics.discard(topic)
        if delivery is not None:
            delivery.stop()
            self._services.fanout.leave(delivery.feed)

    async def _unsubscribe(self, frame: frames.Unsubscribe) -> None:
        self._session.check_held(frame.topic)
        self._drop(frame.topic)
        self._send(frames.Unsubscribed(id=frame.id, topic=frame.topic, reason="client"))

    async def _resume(self, frame: frames.Resume) -> None:
        options = self._options
        ticket = read_ticket(
            frame.session_id, options.session_key, now=time.time(), max_age=options.session_max_age
        )
        if ticket.user_id != self._session.identity.user_id:
            raise SessionExpired("This sessionId is another user's: subscribe anew.")
        wanted = frame.last_seq_per_topic
        limit = max(FIRST_PAGE // max(len(wanted), 1), 1)
        found = await asyncio.gather(
            *(self._find(topic, since, ticket.epoch, limit) for topic, since in wanted.items())
        )
        starts = {start[0].topic: start for start in found if start is not None}
        topics = {
            topic: frames.Recovery(start.recovered, wanted[topic], feed.chain.last)
            for topic, (feed, start) in starts.items()
        }
        for topic, (_, start) in starts.items():
            if start.reset:
                self._send(frames.Reset(topic=topic, epoch=self._services.fanout.epoch))
        self._send(frames.Resumed(id=frame.id, session_id=frame.session_id, topics=topics))
        for feed, start in starts.values():
            if self.closed.is_set():
                self._services.fanout.leave(feed)
            else:
                self._begin(feed, start, qos=0)

    async def _find(
        self, topic: str, since: int, epoch: str, limit: int
    ) -> tuple[Feed, Start] | None:
        """Join and locate one topic of a resume; what fails is told, the others go on."""
        feed = None
        try:
            self._session.check_topic("subscribe", topic)
            if topic not in self._deliveries:
                self._session.check_room()
                self._session.topics.add(topic)
            feed = await self._services.fanout.join(topic)
            start = await self._locate(feed, since, epoch, limit)
            self._session.check_topic("subscribe", topic)
            return feed, start
        except GatewayError as exc:
            if topic not in self._deliveries:
                self._session.topics.discard(topic)
            if feed is not None:
                self._services.fanout.leave(feed)
            exc.topic = topic
            self._send(error_for(exc, None))
            return None

    async def _replay(self, frame: frames.Replay) -> None:
        self._session.check_held(frame.topic)
        self._deliveries[frame.topic].rewind(max(frame.from_seq - 1, 0))

    async def _ack(self, frame: frames.Ack) -> None:
        if frame.topic is not None and frame.seq_no is not None:
            self._session.check_held(frame.topic)
            self._deliveries[frame.topic].acknowledge(frame.seq_no, upto=True)
        elif frame.message_id is not None:
            for delivery in self._deliveries.values():
                sequence = delivery.sequence_of(frame.message_id)
                if sequence is not None:
                    delivery.acknowledge(sequence, upto=False)
        else:
            raise BadFrame("'ack' takes a messageId, or a topic and a seqNo.")

    # To the backend

    async def _publish(self, frame: frames.Publish) -> None:
        try:
            self._session.check_topic("publish", frame.topic)
            self._session.check_payload(bytes(frame.payload))
        except GatewayError as exc:
            exc.topic, exc.message_id = frame.topic, frame.message_id
            self._spawn_answer(self._refused(exc, frame.id))
            return
        await self._in_flight.acquire()
        self._spawn_answer(self._store(frame))

    async def _refused(self, exc: GatewayError, frame_id: str | int | None) -> GatewayFrame:
        return error_for(exc, frame_id)

    async def _store(self, frame: frames.Publish) -> GatewayFrame:
        """Publish for the client and return what to answer."""
        options, broker = self._options, self._services.broker
        user_id = self._session.identity.user_id
        headers = {
            MSG_ID: f"{user_id}:{frame.message_id}",
            MESSAGE_ID: frame.message_id,
            USER: user_id,
        }
        payload = bytes(frame.payload)
        try:
            if not is_durable(frame.topic, self._services.fanout.options.durable_topics):
                await broker.publish(frame.topic, payload, headers=headers)
                return frames.PublishAck(id=frame.id, message_id=frame.message_id, status="ok")
            stored = await broker.store(
                frame.topic, payload, headers=headers, timeout=options.store_timeout
            )
        except GatewayError as exc:
            exc.topic, exc.message_id = frame.topic, frame.message_id
            return error_for(exc, frame.id)
        finally:
            self._in_flight.release()
        return frames.PublishAck(
            id=frame.id,
            message_id=frame.message_id,
            status="duplicate" if stored.duplicate else "ok",
            seq_no=stored.sequence,
        )

    def _spawn_answer(self, answer: Coroutine[Any, Any, GatewayFrame]) -> None:
        """Run beside what follows, but answer after the publish before it."""
        self._answering = self._spawn(self._answer(answer, self._answering))

    async def _answer(
        self, answer: Coroutine[Any, Any, GatewayFrame], before: asyncio.Task[None] | None
    ) -> None:
        frame = await answer
        if before is not None:
            await asyncio.wait([before])
        self._send(frame)

    async def _request(self, frame: frames.Request) -> None:
        self._session.check_topic("request", frame.topic)
        self._session.check_payload(bytes(frame.payload))
        await self._in_flight.acquire()
        self._spawn(self._ask(frame))

    async def _ask(self, frame: frames.Request) -> None:
        try:
            reply = await self._services.broker.request(
                frame.topic,
                bytes(frame.payload),
                timeout=frame.timeout or self._options.request_timeout,
                headers={USER: self._session.identity.user_id},
            )
            self._send(frames.Reply(id=frame.id, data=payload_data(reply.data)))
        except GatewayError as exc:
            exc.topic = frame.topic
            self._fail(exc, frame.id)
        finally:
            self._in_flight.release()

    async def _history(self, frame: frames.History) -> None:
        self._session.check_topic("subscribe", frame.topic)
        events: list[Event] = []
        if is_durable(frame.topic, self._services.fanout.options.durable_topics):
            history = self._services.fanout.history
            limit = frame.limit or DEFAULT_HISTORY
            events = await history.latest(frame.topic, limit, frame.before)
        self._send(frames.Reply(id=frame.id, data=[msgspec.Raw(event.text) for event in events]))

    async def _presence(self, frame: frames.Presence) -> None:
        self._session.check_topic("subscribe", frame.topic)
        members = await self._services.presence(frame.topic)
        self._send(frames.Reply(id=frame.id, data=members))

    async def _ping(self, frame: frames.Ping) -> None:
        self._send(frames.Pong(id=frame.id))

    # Ending

    def _too_late(self) -> None:
        self._socket.close(CloseCode.AUTH_DEADLINE, "no 'connect' in time")

    def _expire_at(self, expires_at: float | None) -> None:
        for timer in self._expiry:
            timer.cancel()
        self._expiry.clear()
        if expires_at is None:
            return
        left = expires_at - time.time()
        notice = min(self._options.expiry_notice, left / 2)
        self._expiry += [
            self._later(left - notice, lambda: self._send(frames.Expiring(expires_at=expires_at))),
            self._later(
                left, lambda: self._socket.close(CloseCode.TOKEN_EXPIRED, "the token expired")
            ),
        ]

    def _later(self, delay: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        timer = self._loop.call_later(min(max(delay, 0), MAX_TIMER), call)
        self._timers.append(timer)
        return timer

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            self._crashed(None)

    def _send(self, frame: GatewayFrame) -> None:
        if not self.closed.is_set():
            self._socket.write_text(encode_frame(frame))

    def _fail(self, exc: GatewayError, frame_id: str | int | None) -> None:
        self._send(error_for(exc, frame_id))
        if exc.close is not None:
            self._socket.close(exc.close, exc.message)

    def _crashed(self, frame_id: str | int | None) -> None:
        if crashes.allows(self._loop.time()):
            logger.exception("frame failed session=%s user=%s", self.id, self.user_id)
        self._fail(GatewayError("Something went wrong here; it has been logged."), frame_id)


_HANDLERS: dict[type, Callable[[Connection, Any], Awaitable[None]]] = {
    frames.Connect: Connection._connect,
    frames.Setup: Connection._connect,
    frames.Subscribe: Connection._subscribe,
    frames.Unsubscribe: Connection._unsubscribe,
    frames.Publish: Connection._publish,
    frames.Ack: Connection._ack,
    frames.Resume: Connection._resume,
    frames.Replay: Connection._replay,
    frames.History: Connection._history,
    frames.Request: Connection._request,
    frames.Presence: Connection._presence,
    frames.Refresh: Connection._refresh,
    frames.Ping: Connection._ping,
}
