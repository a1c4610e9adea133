"""Socket.IO sessions: python-socketio speaks with clients, connections do everything else.

The library has the handshake, both transports and the upgrade between them. What it lacks and
`realtime/socketio_endpoint.py` and this module add: bounds on what waits, events that are handled
in order and answered when their answer is there, an end with a reason, and strict JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

import engineio
import msgspec
import socketio
from engineio.payload import Payload
from msgspec import Struct
from socketio.packet import CONNECT_ERROR, Packet

from .protocol.limits import RateLimit
from .protocol.socketio import BINARY, EVENT, loads
from .services import Services
from .socketio_session import ENTRY, Entry, SocketIoSession
from .socketio_socket import Outgoing

MAX_PACKETS = 10_000
"""Packets in one body: its bytes are bounded, and each packet counts against the rate limits."""
Payload.max_decode_packets = MAX_PACKETS

# At INFO the library logs what clients send, tokens too; above it mostly speaks of bad requests,
# which reach it no more, and of its own failures.
library_logger = logging.getLogger("realtime.socketio.library")
library_logger.setLevel(logging.ERROR)
failures = RateLimit(rate=1.0, burst=5)
"""Lines of the library that are logged."""
library_logger.addFilter(lambda record: failures.allows(record.created))


class StrictJson:
    """JSON as the rest of the gateway reads it."""

    loads = staticmethod(loads)

    @staticmethod
    def dumps(data: Any, **options: Any) -> str:
        """Return the text of a packet's data."""
        return msgspec.json.encode(data).decode()


class TextPacket(Packet):  # type: ignore[misc]
    """A packet without binary parts: what waits for them has no bound."""

    uses_binary_events = False
    json = StrictJson


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """Engine.IO with queues that know how much waits in them."""

    def create_queue(self, *args: Any, **kwargs: Any) -> Outgoing:
        """Return the queue of one session."""
        return Outgoing()


class Options(Struct, frozen=True):
    """What all sessions obey. Durations in seconds, sizes in bytes."""

    transports: Collection[str]
    heartbeat: float
    heartbeat_timeout: float
    max_frame: int
    max_buffer: int


class SocketIoServer(socketio.AsyncServer):  # type: ignore[misc]
    """python-socketio's server, whose clients are connections of the gateway.

    Attributes:
        sessions: by Engine.IO's session id.
    """

    def __init__(self, services: Services, options: Options) -> None:
        self._services = services
        self._max_buffer = options.max_buffer
        self.sessions: dict[str, SocketIoSession] = {}
        super().__init__(
            async_mode="asgi",
            serializer=TextPacket,
            async_handlers=False,
            transports=list(options.transports),
            ping_interval=options.heartbeat,
            ping_timeout=options.heartbeat_timeout - options.heartbeat,
            max_http_buffer_size=options.max_frame,
            http_compression=False,
            cors_allowed_origins=[],  # the endpoint says who may
            logger=library_logger,
            engineio_logger=library_logger,
        )
        self.on("connect", self._connect)
        self.on("disconnect", self._disconnect)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _handle_eio_connect(self, eio_sid: str, environ: Mapping[str, Any]) -> None:
        """Begin a session; from now on it has AUTH_DEADLINE to connect."""
        await super()._handle_eio_connect(eio_sid, environ)
        entry: Entry = environ["asgi.scope"][ENTRY]
        engine = self.eio.sockets[eio_sid]
        session = SocketIoSession(self._services, engine, entry, self._max_buffer)
        self.sessions[eio_sid] = session
        entry.begin(session)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        session = self.sessions.pop(eio_sid, None)
        if session is not None:
            session.close()

    async def _handle_eio_message(self, eio_sid: str, data: str) -> None:
        session = self.sessions.get(eio_sid)
        if session is None or session.socket.over:
            return
        if data[0] != EVENT:
            await session.count(len(data))
        if data[0] in BINARY:
            session.connection.refuse_binary()
            return
        try:
            await super()._handle_eio_message(eio_sid, data)
        except ValueError:
            session.violated("This is no packet of Socket.IO.")

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        session = self.sessions[eio_sid]
        if namespace not in (None, "/"):
            error = {"message": "There is one namespace here: the main one, '/'."}
            packet = TextPacket(CONNECT_ERROR, error, namespace)
            await self._send_packet(eio_sid, packet)
            return
        async with session.connecting:
            await super()._handle_connect(eio_sid, namespace, data)
        if session.socket.connected or session.socket.over:
            return
        if self.manager.sid_from_eio_sid(eio_sid, "/") is not None:
            await session.open()

    async def _handle_event(
        self, eio_sid: str, namespace: str | None, id: int | None, data: Any
    ) -> None:
        """Hand an event to the connection, which answers it when the answer is there."""
        session = self.sessions.get(eio_sid)
        if session is not None and session.socket.connected:
            await session.take(id, data)

    async def _connect(self, sid: str, environ: Mapping[str, Any], auth: Any) -> None:
        await environ["asgi.scope"][ENTRY].session.connect(auth)

    def _disconnect(self, sid: str, reason: str) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, "/")
        session = self.sessions.get(eio_sid) if eio_sid is not None else None
        if session is not None and reason == self.reason.CLIENT_DISCONNECT:
            session.leave()
