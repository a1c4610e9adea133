"""A connection: one socket from `connect` to close. Frames in, frames out.

Frames are handled in order. What takes long does not hold up what follows: publishes are
confirmed by the stream while later frames are handled (upstream.py), history is written by
deliveries (subscriptions.py, delivery.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import proxy

from msgspec import Struct

from . import lifecycle
from .delivery import Socket
from .protocol import frames
from .protocol.exceptions import (
    AuthFailed,
    BadFrame,
    BadTopic,
    CloseCode,
    GatewayError,
)
from .protocol.frames import GatewayFrame, encode_frame, error_for, parse_frame
from .protocol.limits import RateLimit
from .protocol.messages import AuthRequest, Identity
from .protocol.session import Session, Ticket, sign_ticket
from .reauthorization import Reauthorization
from .services import Services
from .subscriptions import Subscriptions
from .upstream import Upstream
from .weak import weakly

logger = logging.getLogger(__name__)

PENALTY = 0.005
"""Seconds that a frame over the limit costs its sender."""
CONNECT_TRIES = 3
"""Times the backend is asked about a new socket while its rules keep changing."""
MAX_TIMER = 86400.0 * 24
"""Longest timer in seconds; some event loops take no longer ones."""

crashes = RateLimit(rate=1.0, burst=5)
"""Tracebacks that may be logged."""
suspensions = RateLimit(rate=1.0, burst=5)
"""Suspended sessions that may be logged: a slow backend suspends many at once."""
running: set[asyncio.Task[None]] = set()
"""Tasks of all connections: the event loop itself holds them weakly."""


class Peer(Struct, frozen=True):
    """What the upgrade request told about the other side.

    Attributes:
        transport: by which way it comes.
    """

    ip: str
    user_agent: str | None
    origin: str | None
    session_key: str | None
    transport: str = "websocket"


class Connection:
    """One socket.

    Args:
        socket: where frames are written; must outlive the connection.
        peer: who is there, as far as the upgrade request told.

    Attributes:
        began: loop time at which it was opened.
    """

    def __init__(self, services: Services, socket: Socket, peer: Peer) -> None:
        self._services = services
        self._options = services.options
        self._socket = socket
        self.peer = peer
        self._loop = asyncio.get_running_loop()
        self.session = Session(self._options.limits, now=self._loop.time())
        send, spawn = weakly(self._send), weakly(self._spawn)
        self._subscriptions = Subscriptions(services, self.session, socket, send)
        self._upstream = Upstream(services, self.session, send, spawn)
        self._token: str | None = None
        # A task that it spawns holds this connection.
        self._reauthorization = Reauthorization(proxy(self), spawn)
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.id = uuid.uuid4().hex[:12]
        self.began = self._loop.time()
        lifecycle.opened(self.id, peer.ip, peer.transport)
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(
            self._options.auth_deadline, self._too_late
        )

    @property
    def user_id(self) -> str | None:
        """The user, None before `connect`."""
        return self.session.identity.user_id if self.session.authenticated else None

    @property
    def info(self) -> dict[str, Any] | None:
        """What the backend wants shown in presence."""
        return self.session.identity.info if self.session.authenticated else None

    @property
    def topics(self) -> set[str]:
        """The topics that this socket holds."""
        return self.session.topics

    async def receive(self, text: str | bytes) -> None:
        """Handle one frame. Never raises: what fails is told to the client."""
        frame: frames.AnyClientFrame | None = None
        limited = self.session.over_rate(len(text), now=self._loop.time())
        try:
            frame = parse_frame(text)
            if limited is None:
                self.session.admit(frame)
                await self._handle(frame)
            else:
                # Not raised: with a traceback it would hold this call, and the text, in a cycle.
                self._refuse(limited, frame)
        except BadFrame as exc:
            self._fail(exc, exc.frame_id if frame is None else frame.id)
        except GatewayError as exc:
            self._refuse(exc, frame)
        except Exception:
            self._crashed(frame.id if frame is not None else None)
        if limited is not None:
            # A flood is answered no faster than this, and so held back by TCP.
            await asyncio.sleep(PENALTY)

    def refuse_binary(self) -> None:
        """Answer a binary frame."""
        self._fail(BadFrame("Frames are text: send JSON in a text frame."), None)

    def close(self, code: int | None = None) -> None:
        """Let go of everything: the socket is gone.

        Args:
            code: with which the other side closed it, as far as that is known.
        """
        if not self.closed.done():
            self.closed.set_result(None)
            code, reason = self._socket.ending or (code, None)
            ending = code, None if reason is None else self._loggable(reason)
            seconds = self._loop.time() - self.began
            lifecycle.closed(self.id, self.user_id, self.peer.ip, ending, seconds)
        self._cancel_timer()
        self._reauthorization.close()
        # What was to be published still is: its tasks end by themselves, within a timeout.
        self._subscriptions.close()
        if self.session.authenticated:
            user_id = self.session.identity.user_id
            mine = self._services.connections.get(user_id, set())
            mine.discard(self)
            if not mine:
                self._services.connections.pop(user_id, None)

    def refuse(self, code: str, reason: str, user_id: str | None = None) -> None:
        """Log that the connection may not be; who refuses it also ends it."""
        user_id = user_id or self.user_id
        reason = self._loggable(reason)
        lifecycle.refused(self.peer.ip, code, reason, session=self.id, user=user_id)

    def drain(self, after_ms: int) -> None:
        """Ask the client to come back later, because this process ends."""
        self._send(frames.Reconnect(after_ms=after_ms, reason="drain"))
        self._socket.close(CloseCode.GOING_AWAY, "drain")

    def disconnect(self, reason: str) -> None:
        """End the session for good: kicked, deactivated, logged out."""
        self._socket.close(CloseCode.REVOKED, reason)

    def take_away(self, topic: str) -> None:
        """Take a topic away; nothing of it is delivered after this."""
        self._subscriptions.take_away(topic)

    def reauthorize_soon(self, spread: float, *, urgent: bool = True) -> None:
        """Ask the backend again within `spread` seconds, so that many do not ask at once.

        Args:
            urgent: something changed: suspend the session when the answer is overdue.
        """
        self._reauthorization.soon(spread, urgent=urgent)

    async def authenticate_again(self) -> Identity:
        """Return who the backend says it is by now."""
        return _unexpired(await self._services.authenticator.authenticate_again(self._question()))

    async def become(self, identity: Identity) -> None:
        """Take new rules and a new expiry; leave what is no longer allowed."""
        if self.closed.done():
            return
        if identity.user_id != self.session.identity.user_id:
            self.disconnect("another user")
            return
        self.session.authenticate(identity)
        self._expire_at(identity.expires_at)
        self._subscriptions.revoke_denied()
        if self.session.suspended and not self._reauthorization.overdue:
            self.session.suspended = False
            self._subscriptions.go_on()
        for feed in await self._subscriptions.join_granted():
            self._subscriptions.enter_granted(feed)

    def suspend(self) -> None:
        """Deliver and take nothing until the backend has said what the session still may."""
        self.session.suspended = True
        self._subscriptions.pause()
        if suspensions.allows(self._loop.time()):
            logger.warning("suspended session=%s user=%s reason=no answer", self.id, self.user_id)

    def send_away(self) -> None:
        """End the session for now: the backend does not say what it may."""
        self._socket.close(CloseCode.AUTH_UNAVAILABLE, "the backend does not answer")

    async def _handle(self, frame: frames.AnyClientFrame) -> None:
        match frame:
            case frames.Ping():
                self._send(frames.Pong(id=frame.id))
            case frames.Publish():
                await self._upstream.publish(frame)
            case frames.Ack():
                await self._subscriptions.acknowledge(frame)
            case frames.Subscribe():
                await self._subscriptions.subscribe(frame)
            case frames.Unsubscribe():
                await self._subscriptions.unsubscribe(frame)
            case frames.Connect():
                await self._connect(frame)
            case frames.Resume():
                await self._subscriptions.resume(frame)
            case frames.Replay():
                await self._subscriptions.replay(frame)
            case frames.History():
                await self._upstream.history(frame)
            case frames.Request():
                await self._upstream.request(frame)
            case frames.Presence():
                await self._upstream.presence(frame)
            case frames.Refresh():
                await self._refresh(frame)

    async def _connect(self, frame: frames.Connect) -> None:
        self._token = frame.token
        try:
            if frame.token is None and self.peer.session_key is None:
                raise AuthFailed("Send a token with 'connect', or log in on this site first.")
            identity = await self._authenticate_now()
        except GatewayError as exc:
            self.refuse(exc.code, exc.message)
            raise
        if self.closed.done():
            return
        mine = self._services.connections.get(identity.user_id, set())
        if not self._services.admission.room_for(len(mine)):
            reason = "too many connections of this user"
            self.refuse(CloseCode.TOO_MANY_CONNECTIONS.name, reason, identity.user_id)
            self._socket.close(CloseCode.TOO_MANY_CONNECTIONS, reason)
            return
        sibling = next(iter(mine), None)
        self.session.share_meter(sibling and sibling.session, now=self._loop.time())
        self._cancel_timer()
        self.session.authenticate(identity)
        self._services.connections.setdefault(identity.user_id, set()).add(self)
        self._expire_at(identity.expires_at)
        lifecycle.authenticated(self.id, identity.user_id, self.peer.ip)
        granted = await self._subscriptions.join_granted()
        self._send(self._ready(frame.id, [feed.topic for feed in granted]))
        try:
            if frame.session_id is not None and frame.last_seq_per_topic is not None:
                await self._subscriptions.resume(
                    frames.Resume(
                        id=frame.id,
                        session_id=frame.session_id,
                        last_seq_per_topic=frame.last_seq_per_topic,
                    )
                )
        finally:
            for feed in granted:
                self._subscriptions.enter_granted(feed)

    async def _authenticate_now(self) -> Identity:
        """Return who it is, by an answer that no change of rules or credentials overtook."""
        for _ in range(CONNECT_TRIES):
            changes = self._services.changes()
            identity = await self._authenticate()
            if changes == self._services.changes():
                return identity
        # It changes faster than the backend answers: ask again once control messages get here.
        self.reauthorize_soon(0)
        return identity

    async def _authenticate(self) -> Identity:
        return _unexpired(await self._services.authenticator.authenticate(self._question()))

    def _question(self) -> AuthRequest:
        peer = self.peer
        return AuthRequest(
            token=self._token,
            session_key=None if self._token is not None else peer.session_key,
            origin=peer.origin,
            ip=peer.ip,
            user_agent=peer.user_agent,
        )

    def _loggable(self, reason: str) -> str:
        return lifecycle.without_credential(reason, self._question())

    def _ready(self, frame_id: str | int | None, subscriptions: list[str]) -> frames.Ready:
        identity, epoch = self.session.identity, self._services.fanout.epoch
        ticket = Ticket(identity.user_id, epoch, int(time.time()), self.id)
        return frames.Ready(
            id=frame_id,
            session_id=sign_ticket(ticket, self._options.session_key),
            user_id=identity.user_id,
            expires_at=None if identity.expires_at is None else frames.whole(identity.expires_at),
            heartbeat=frames.whole(self._options.heartbeat),
            epoch=epoch,
            subscriptions=subscriptions,
        )

    async def _refresh(self, frame: frames.Refresh) -> None:
        # One question at a time: an older answer must not undo a newer one, nor a question be
        # asked with a token that may be refused.
        async with self._reauthorization.asking:
            await self._refresh_token(frame)

    async def _refresh_token(self, frame: frames.Refresh) -> None:
        before, self._token = self._token, frame.token
        try:
            identity = await self._authenticate()
            if identity.user_id != self.session.identity.user_id:
                raise AuthFailed("This token is another user's.")
        except GatewayError as exc:
            # The session goes on with what it had, until that expires.
            self._token = before
            self._send(error_for(exc, frame.id))
            return
        await self.become(identity)
        self._send(self._ready(frame.id, sorted(self.topics)))

    def _too_late(self) -> None:
        self._socket.close(CloseCode.AUTH_DEADLINE, "no 'connect' in time")

    def _expire_at(self, expires_at: float | None) -> None:
        """Run one timer: first to the notice, then to the end."""
        self._cancel_timer()
        if expires_at is not None:
            left = expires_at - time.time()
            notice = expires_at - min(self._options.expiry_notice, left / 2)
            self._call_at(notice, lambda: self._notify_expiry(expires_at))

    def _notify_expiry(self, expires_at: float) -> None:
        self._send(frames.Expiring(expires_at=frames.whole(expires_at)))
        self._call_at(expires_at, self._expire)

    def _call_at(self, when: float, work: Callable[[], None]) -> None:
        """Call at a Unix time, by as many timers one after the other as it takes."""
        left = max(when - time.time(), 0.0)
        if left > MAX_TIMER:
            self._timer = self._loop.call_later(MAX_TIMER, self._call_at, when, work)
        else:
            self._timer = self._loop.call_later(left, work)

    def _expire(self) -> None:
        self._socket.close(CloseCode.TOKEN_EXPIRED, "the token expired")

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(self._guard(work))
        running.add(task)
        task.add_done_callback(running.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            self._crashed(None)

    def _send(self, frame: GatewayFrame) -> None:
        if isinstance(frame, frames.Error):
            self._services.metrics.errors[frame.code] += 1
        if not self.closed.done():
            self._socket.write_text(encode_frame(frame))

    def _refuse(self, exc: GatewayError, frame: frames.AnyClientFrame | None) -> None:
        """Answer a frame with an error that names what the frame was about."""
        if exc.topic is None and not isinstance(exc, BadTopic):
            exc.topic = getattr(frame, "topic", None)
        exc.message_id = exc.message_id or getattr(frame, "message_id", None)
        self._fail(exc, getattr(frame, "id", None))

    def _fail(self, exc: GatewayError, frame_id: str | int | None) -> None:
        self._send(error_for(exc, frame_id))
        if exc.close is not None:
            self._socket.close(exc.close, exc.message)

    def _crashed(self, frame_id: str | int | None) -> None:
        if crashes.allows(self._loop.time()):
            logger.exception("frame failed session=%s user=%s", self.id, self.user_id)
        self._fail(GatewayError("Something went wrong here; it has been logged."), frame_id)


def _unexpired(identity: Identity) -> Identity:
    """Return an identity whose credential is still good, whatever the backend thinks of it.

    Raises:
        AuthFailed: when its time is over.
    """
    if identity.expires_at is not None and identity.expires_at <= time.time():
        raise AuthFailed("This credential has expired; get a new one.")
    return identity
