"""A WebSocket of a Socket.IO client: Engine.IO on one side, our server on the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from .consumers import WRITER
from .protocol.socketio import MESSAGE, is_transport_packet
from .socketio_server import SocketIoServer
from .socketio_session import CLOSE_TIMEOUT, ENTRY, Entry
from .sse import Receive, Scope, Send

logger = logging.getLogger(__name__)

NORMAL = 1000
"""The close code of a WebSocket whose session the client ended (RFC 6455 §7.4.1)."""


class SocketIoWebSocket:
    """Hands text both ways, as fast as the client reads; ASGI's `send` would buffer all of it."""

    def __init__(self, entry: Entry, scope: Scope, receive: Receive, send: Send) -> None:
        self._entry = entry
        self._scope = {**scope, ENTRY: entry}
        self._receive_message = receive
        self._send_message = send
        self._writer = scope.get("extensions", {}).get(WRITER)
        self._reading: asyncio.Future[dict[str, Any]] | None = None

    async def serve(self, server: SocketIoServer) -> None:
        """Serve the WebSocket until it closes."""
        work = server.handle_request(self._scope, self._receive, self._send)
        handling, overdue = map(asyncio.ensure_future, (work, self._overdue()))
        try:
            await asyncio.wait({handling, overdue}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [task for task in (overdue, handling, self._reading) if task is not None]
            for task in tasks:
                task.cancel()
            if self._writer is not None:
                self._writer.stop()
            _, crash, *_ = await asyncio.gather(*tasks, return_exceptions=True)
            if isinstance(crash, Exception):
                logger.error("socket.io request failed", exc_info=crash)

    async def _overdue(self) -> None:
        """Close it, when the client does not take what ends its session."""
        await self._entry.begun.wait()
        assert self._entry.session is not None
        await self._entry.session.ended.wait()
        await asyncio.sleep(CLOSE_TIMEOUT)
        with contextlib.suppress(Exception):
            await self._close()

    async def _receive(self) -> dict[str, Any]:
        while True:
            message = await self._next()
            session = self._entry.session
            if session is None or message["type"] != "websocket.receive":
                return message
            text = message.get("text")
            if text is None:
                session.connection.refuse_binary()
                await session.count(len(message.get("bytes") or b""))
            elif not is_transport_packet(text):
                session.violated("This is no packet of Engine.IO.")
            else:
                if not text.startswith(MESSAGE):
                    await session.count(len(text))
                return message

    async def _next(self) -> dict[str, Any]:
        """Return what the client sends; when its session ends, that it has gone."""
        session = self._entry.session
        if session is None:
            return await self._receive_message()
        if session.upgraded:
            session.entry.release()  # from now on it counts as a WebSocket
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._receive_message())
        ended = asyncio.ensure_future(session.ended.wait())
        either: set[asyncio.Future[Any]] = {self._reading, ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if session.ended.is_set() or not self._reading.done():
            return {"type": "websocket.disconnect", "code": NORMAL}
        message, self._reading = self._reading.result(), None
        return message

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            await self._close()
        elif message["type"] != "websocket.send" or self._writer is None:
            await self._send_message(message)
        elif await self._writer.drained():
            self._writer.write_text(message["text"].encode())
        else:
            raise ConnectionError("The client has gone.")

    async def _close(self) -> None:
        session = self._entry.session
        code, reason = (session and session.socket.ending) or (NORMAL, "")
        await self._send_message({"type": "websocket.close", "code": code, "reason": reason})
