"""A Socket.IO session: a connection on one side, Engine.IO's socket of a client on the other."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Any

from engineio.packet import CLOSE
from engineio.packet import Packet as EnginePacket
from socketio.exceptions import ConnectionRefusedError as Refused

from .connection import PENALTY, Connection
from .peer import Peer
from .protocol.exceptions import CloseCode
from .protocol.socketio import client_frame, connect_frame
from .services import Services
from .socketio_socket import SocketIoSocket

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to take why its session ends."""
ENTRY = "gateway.entry"
"""The key in an ASGI scope under which a request's Entry is."""


class Entry:
    """A request that may begin a session.

    Args:
        peer: who makes it.
        release: called once, when the session no longer counts for the address it came from.
    """

    def __init__(self, peer: Peer, release: Callable[[], None] | None = None) -> None:
        self.peer = peer
        self.begun = asyncio.Event()
        self._session: SocketIoSession | None = None
        self._release = release

    @property
    def session(self) -> SocketIoSession | None:
        """The session, once it has begun."""
        return self._session

    def begin(self, session: SocketIoSession) -> None:
        """Belong to a session."""
        self._session = session
        self.begun.set()

    def release(self) -> None:
        """Count the session no more."""
        if self._release is not None:
            release, self._release = self._release, None
            release()


class SocketIoSession:
    """One client: its Engine.IO socket on one side, a connection on the other.

    Attributes:
        ended: set when the transports are to let go of it; `gone`: when they have.
        connecting: held while the client is told whether it is connected.
    """

    def __init__(self, services: Services, engine: Any, entry: Entry, max_buffer: int) -> None:
        self._services = services
        self._engine = engine
        self.entry = entry
        self.socket = SocketIoSocket(engine.queue, services.metrics, max_buffer, self._end)
        self.connection = Connection(services, self.socket, entry.peer)
        self.ended, self.gone = asyncio.Event(), asyncio.Event()
        self._under_way: dict[str, object] = {}
        self.connecting = asyncio.Lock()
        self._finishing: asyncio.Task[None] | None = None

    @property
    def upgraded(self) -> bool:
        """Say whether a WebSocket carries it."""
        return bool(self._engine.upgraded)

    async def connect(self, auth: object) -> None:
        """Authenticate.

        Raises:
            Refused: with what the client is told; it then stays away.
        """
        await self.connection.receive(connect_frame(auth))
        refusal = self.socket.refusal
        if refusal is None:
            return
        if refusal.retry:
            # A client whose transport goes comes back; after a refusal by Socket.IO it does not.
            self.ended.set()
            await self._engine.close(wait=False, abort=True)
        elif self.socket.ending is None:
            self.socket.close(CloseCode.PROTOCOL_VIOLATION, refusal.message)
        self.socket.told = True
        raise Refused(refusal.message, {"code": refusal.code})

    async def open(self) -> None:
        """Write what waits, and subscribe to the inbound channels, to which events are listened."""
        self.socket.open()
        for name in sorted(self._services.options.limits.inbound):
            await self.connection.receive(client_frame("subscribe", [name], None, ""))

    async def take(self, number: int | None, data: Any) -> None:
        """Handle one event of the client."""
        if isinstance(data, list) and data and isinstance(data[0], str):
            frame = client_frame(data[0], data[1:], number, uuid.uuid4().hex)
            await self.connection.receive(frame)
        else:
            self.violated("An event is a list that begins with its name.")

    def begin(self, method: str) -> Callable[[], None] | None:
        """Return what ends a request that begins; None, and the session's end, for an overlap."""
        if method in self._under_way:
            self.violated("A client makes one request of a kind at a time.")
            return None
        mine = self._under_way[method] = object()

        def end() -> None:
            if self._under_way.get(method) is mine:
                del self._under_way[method]

        return end

    async def count(self, size: int) -> None:
        """Count what is no event against the rate limits; hold its sender back when over them."""
        session = self.connection.session
        if session.over_rate(size, now=asyncio.get_running_loop().time()) is not None:
            await asyncio.sleep(PENALTY)

    def violated(self, reason: str) -> None:
        """End a session whose client does not keep to the protocol."""
        self.socket.close(CloseCode.PROTOCOL_VIOLATION, reason)

    def leave(self) -> None:
        """End the session that the client has ended."""
        self.socket.stop()
        self._end()

    def close(self) -> None:
        """Let go of everything: the client is gone."""
        self.socket.stop()
        self.ended.set()
        self.gone.set()
        self.connection.close()
        self.entry.release()

    def _end(self) -> None:
        self.ended.set()
        if self._finishing is None:
            self._finishing = asyncio.get_running_loop().create_task(self._finish())

    async def _finish(self) -> None:
        """Let the client take why it ends; one that polls does so with its next request."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                async with self.connecting:
                    pass
                await self._engine.queue.taken()
                ending = self.socket.ending
                if self.socket.told and ending is not None and not CloseCode(ending[0]).retry:
                    await self.gone.wait()  # it goes by itself
        # Not together with what came before: a client would let go of that.
        self._engine.queue.put_nowait(EnginePacket(CLOSE))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._engine.queue.taken()
        await self._engine.close(wait=False, abort=True)
