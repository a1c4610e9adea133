"""What came from a client and waits to be handled, within a byte budget."""

from __future__ import annotations

import asyncio
from typing import Any

from daphne.ws_protocol import WebSocketProtocol

MESSAGE_OVERHEAD = 512
"""Bytes that a waiting message costs beyond its text."""
RECEIVE = "websocket.receive"


class InboundQueue:
    """What waits for the application: over the byte budget the transport stops reading.

    It has what is used here of an asyncio.Queue, whose four deques take 3 KB a socket.

    Attributes:
        held_back: whether it is over the budget.
    """

    __slots__ = ("_bytes", "_max_bytes", "_news", "_protocol", "_waiting", "held_back")

    def __init__(self, protocol: WebSocketProtocol, max_bytes: int) -> None:
        self._protocol = protocol
        self._max_bytes = max_bytes
        self._bytes = 0
        # Bounded by the budget to a few hundred, so taking the first one is cheap.
        self._waiting: list[tuple[dict[str, Any], int]] = []
        self._news: asyncio.Future[None] | None = None
        self.held_back = False

    def put_nowait(self, message: dict[str, Any], size: int = 0) -> None:
        """Queue one message for the application."""
        self._waiting.append((message, size))
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def put_message(self, payload: bytes, binary: bool) -> None:
        """Queue one message from the client.

        Raises:
            UnicodeDecodeError: when a text is not UTF-8.
        """
        content = {"bytes": payload} if binary else {"text": payload.decode()}
        size = len(payload) + MESSAGE_OVERHEAD
        self._bytes += size
        self.put_nowait({"type": RECEIVE, **content}, size)
        if self._bytes > self._max_bytes and not self.held_back:
            self.held_back = True
            self._protocol.transport.pauseProducing()

    async def get(self) -> dict[str, Any]:
        """Return the next message, and read on when enough was taken; for one reader."""
        while not self._waiting:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        message, size = self._waiting.pop(0)
        self._bytes -= size
        if self.held_back and self._bytes <= self._max_bytes // 2:
            self.held_back = False
            self._protocol.transport.resumeProducing()
            if self._protocol.data:
                self._protocol.consumeData()
        return message
