"""A connection: one socket from `connect` to close. Frames in, frames out.

Frames are handled in order. What takes long does not hold up what follows: publishes are
confirmed by the stream while later frames are handled (upstream.py), history is written by
deliveries (subscriptions.py, delivery.py). Who the client is, and until when, is in
authorization.py.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine
from typing import Any
from weakref import proxy

from . import lifecycle
from .authorization import Authorization
from .delivery import Socket
from .peer import Peer
from .protocol import client_frames, gateway_frames
from .protocol.client_frames import parse_frame
from .protocol.exceptions import BadFrame, BadTopic, CloseCode, GatewayError
from .protocol.gateway_frames import GatewayFrame, encode_frame, error_for
from .protocol.limits import RateLimit
from .protocol.session import Session
from .services import Services
from .subscriptions import Subscriptions
from .upstream import Upstream
from .weak import weakly

logger = logging.getLogger(__name__)

PENALTY = 0.005
"""Seconds that a frame over the limit costs its sender."""

crashes = RateLimit(rate=1.0, burst=5)
"""Tracebacks that may be logged."""
running: set[asyncio.Task[None]] = set()
"""Tasks of all connections: the event loop itself holds them weakly."""


class Connection:
    """One socket.

    Args:
        socket: where frames are written; must outlive the connection.
        peer: who is there, as far as the upgrade request told.

    Attributes:
        authorization: who the client is, as the backend says it.
        began: loop time at which it was opened.
        closed: done when the socket is gone.
    """

    def __init__(self, services: Services, socket: Socket, peer: Peer) -> None:
        self._services = services
        self._socket = socket
        self.peer = peer
        self._loop = asyncio.get_running_loop()
        self.session = Session(services.options.limits, now=self._loop.time())
        send, spawn = weakly(self._send), weakly(self._spawn)
        self._subscriptions = Subscriptions(services, self.session, socket, send)
        self._upstream = Upstream(services, self.session, socket, send=send, spawn=spawn)
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.id = uuid.uuid4().hex[:12]
        self.began = self._loop.time()
        lifecycle.opened(self.id, peer.ip, peer.transport)
        # A task that it spawns holds this connection.
        self.authorization = Authorization(
            proxy(self), services, self._subscriptions, socket, send=send, spawn=spawn
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
        frame: client_frames.AnyClientFrame | None = None
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
            ending = code, None if reason is None else self.authorization.loggable(reason)
            seconds = self._loop.time() - self.began
            lifecycle.closed(self.id, self.user_id, self.peer.ip, ending, seconds)
        # What was to be published still is: its tasks end by themselves, within a timeout.
        self._subscriptions.close()
        self.authorization.close()
        self._leave()

    def enter(self) -> None:
        """Count among the connections of its user."""
        self._services.connections.setdefault(self.session.identity.user_id, set()).add(self)

    def refuse(self, code: str, reason: str, user_id: str | None = None) -> None:
        """Log that the connection may not be; who refuses it also ends it."""
        user_id = user_id or self.user_id
        reason = self.authorization.loggable(reason)
        lifecycle.refused(self.peer.ip, code, reason, session=self.id, user=user_id)

    def drain(self, after_ms: int) -> None:
        """Ask the client to come back later, because this process ends."""
        self._send(gateway_frames.Reconnect(after_ms=after_ms, reason="drain"))
        self._socket.close(CloseCode.GOING_AWAY, "drain")

    def disconnect(self, reason: str) -> None:
        """End the session for good: kicked, deactivated, logged out."""
        self.authorization.disconnect(reason)

    def take_away(self, topic: str) -> None:
        """Take a topic away; nothing of it is delivered after this."""
        self._subscriptions.take_away(topic)

    def reauthorize_soon(self, spread: float, *, urgent: bool = True) -> None:
        """Ask the backend again within `spread` seconds, so that many do not ask at once.

        Args:
            urgent: something changed: suspend the session when the answer is overdue.
        """
        self.authorization.ask_soon(spread, urgent=urgent)

    async def _handle(self, frame: client_frames.AnyClientFrame) -> None:
        match frame:
            case client_frames.Ping():
                self._send(gateway_frames.Pong(id=frame.id))
            case client_frames.Publish():
                await self._upstream.publish(frame)
            case client_frames.Ack():
                await self._subscriptions.acknowledge(frame)
            case client_frames.Subscribe():
                await self._subscriptions.subscribe(frame)
            case client_frames.Unsubscribe():
                await self._subscriptions.unsubscribe(frame)
            case client_frames.Connect():
                await self.authorization.connect(frame)
            case client_frames.Resume():
                await self._subscriptions.resume(frame)
            case client_frames.Replay():
                await self._subscriptions.replay(frame)
            case client_frames.History():
                await self._upstream.history(frame)
            case client_frames.Request():
                await self._upstream.request(frame)
            case client_frames.Presence():
                await self._upstream.presence(frame)
            case client_frames.Refresh():
                await self.authorization.refresh(frame)

    def _leave(self) -> None:
        if self.session.authenticated:
            user_id = self.session.identity.user_id
            mine = self._services.connections.get(user_id, set())
            mine.discard(self)
            if not mine:
                self._services.connections.pop(user_id, None)

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
        if isinstance(frame, gateway_frames.Error):
            self._services.metrics.errors[frame.code] += 1
        if not self.closed.done():
            self._socket.write_text(encode_frame(frame))

    def _refuse(self, exc: GatewayError, frame: client_frames.AnyClientFrame | None) -> None:
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
