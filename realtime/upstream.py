"""What one connection asks of the backend and the stream: publish, request, history, presence.

Publishes are confirmed by the stream while later frames are handled; their answers keep the
order of the publishes. What may be under way at once is bounded, then reading pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from . import tracing
from .delivery import Socket
from .history import HISTORY_BYTES, newest
from .protocol.client_frames import History, Presence, Publish, Request
from .protocol.exceptions import GatewayError
from .protocol.gateway_frames import GatewayFrame, PublishAck, Reply, error_for
from .protocol.messages import MESSAGE_ID, MSG_ID, USER, Event, payload_data
from .protocol.session import Session
from .services import Send, Services

DEFAULT_HISTORY = 50
"""Events in a `history` page when the client names no limit."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Upstream:
    """The way from one socket to NATS.

    Args:
        send: writes a frame to the client.
        spawn: runs work beside the connection, for as long as it lives.
    """

    def __init__(
        self, services: Services, session: Session, socket: Socket, *, send: Send, spawn: Spawn
    ) -> None:
        self._services = services
        self._session = session
        self._socket = socket
        self._send = send
        self._spawn = spawn
        self._in_flight = asyncio.Semaphore(services.options.publishes_in_flight)
        self._last_answer: asyncio.Task[None] | None = None

    async def publish(self, frame: Publish) -> None:
        """Store an event and answer when the stream has it."""
        await self._in_flight.acquire()
        self._last_answer = self._spawn(self._answer(frame, self._last_answer))

    async def request(self, frame: Request) -> None:
        """Ask a backend and pass on what it replies."""
        self._session.check_topic("request", frame.topic)
        self._session.check_payload(bytes(frame.payload))
        await self._in_flight.acquire()
        self._spawn(self._ask(frame))

    async def history(self, frame: History) -> None:
        """Answer with a page of stored events, newest last, when what was asked before is read."""
        # Until then this client's frames wait too: many pages in one piece would close it.
        await self._socket.drained()
        self._session.check_subscription(frame.topic)
        events: Sequence[Event] = ()
        if self._services.fanout.durable(frame.topic):
            limit = frame.limit or DEFAULT_HISTORY
            events = await self._services.fanout.history.latest(frame.topic, limit, frame.before)
            # Rules may have changed while the stream was read.
            self._session.check_subscription(frame.topic)
            # A page that fits in no socket's buffer would close it; `before` has the rest.
            events = newest(events, HISTORY_BYTES)
        self._send(Reply(id=frame.id, data=[msgspec.Raw(event.text) for event in events]))

    async def presence(self, frame: Presence) -> None:
        """Answer with who is subscribed."""
        self._session.check_topic("subscribe", frame.topic)
        members = await self._services.presence.members(frame.topic)
        self._session.check_topic("subscribe", frame.topic)
        self._send(Reply(id=frame.id, data=members))

    async def _answer(self, frame: Publish, before: asyncio.Task[None] | None) -> None:
        answer: GatewayFrame
        try:
            answer = acknowledged = await self._store(frame)
            outcome = acknowledged.status
        except GatewayError as exc:
            exc.topic, exc.message_id = frame.topic, frame.message_id
            answer = error_for(exc, frame.id)
            outcome = "failed"
        finally:
            self._in_flight.release()
        self._services.metrics.published[outcome] += 1
        if before is not None:
            await asyncio.wait([before])
        self._send(answer)

    async def _store(self, frame: Publish) -> PublishAck:
        self._session.check_topic("publish", frame.topic)
        payload = bytes(frame.payload)
        self._session.check_payload(payload)
        user_id, broker = self._session.identity.user_id, self._services.broker
        headers = {
            MSG_ID: f"{user_id}:{frame.message_id}",
            MESSAGE_ID: frame.message_id,
            USER: user_id,
        }
        with tracing.sending("publish", frame.topic, headers) as sent:
            if not self._services.fanout.durable(frame.topic):
                await broker.publish(frame.topic, payload, headers=sent)
                return PublishAck(id=frame.id, message_id=frame.message_id, status="ok")
            stored = await broker.store(
                frame.topic, payload, headers=sent, timeout=self._services.options.store_timeout
            )
        return PublishAck(
            id=frame.id,
            message_id=frame.message_id,
            status="duplicate" if stored.duplicate else "ok",
            seq_no=stored.sequence,
        )

    async def _ask(self, frame: Request) -> None:
        answer: GatewayFrame
        try:
            asker = {USER: self._session.identity.user_id}
            with tracing.sending("request", frame.topic, asker) as headers:
                reply = await self._services.broker.request(
                    frame.topic,
                    bytes(frame.payload),
                    timeout=frame.timeout or self._services.options.request_timeout,
                    headers=headers,
                )
            answer = Reply(id=frame.id, data=payload_data(reply.data))
        except GatewayError as exc:
            exc.topic = frame.topic
            answer = error_for(exc, frame.id)
        finally:
            self._in_flight.release()
        self._send(answer)
