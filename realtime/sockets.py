"""Sockets without the direct writer: under another ASGI server, or `runserver`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .metrics import Metrics
from .protocol.exceptions import CloseCode

logger = logging.getLogger(__name__)


class SendSocket:
    """Writes through ASGI `send`, one message a frame, from a task of its own.

    Args:
        metrics: counts what is closed.
        max_buffer: bytes that may wait when more is written; beyond, the reader is too slow.

    Attributes:
        ending: close code and reason, once this side ends it.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], Awaitable[None]],
        metrics: Metrics,
        max_buffer: int,
    ) -> None:
        self._send = send
        self._metrics = metrics
        self._max_buffer = max_buffer
        self._waiting: deque[tuple[int, dict[str, Any]]] = deque()
        self._bytes = 0
        self._closing = False
        self.ending: tuple[int, str] | None = None
        self._written = asyncio.Condition()
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        """Queue texts; framing is the server's."""
        for text in texts:
            self.write_text(text)

    def write_text(self, text: bytes) -> None:
        """Queue one text; over the bound the socket is closed as a slow consumer."""
        if self._closing:
            return
        if self._bytes > self._max_buffer:
            self._waiting.clear()
            self.close(CloseCode.SLOW_CONSUMER, "too much waits to be read")
            return
        self._bytes += len(text)
        self._waiting.append((len(text), {"type": "websocket.send", "text": text.decode()}))
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        """Close once what waits is written."""
        if not self._closing:
            self._closing = True
            self.ending = (int(code), reason)
            self._metrics.closes[str(int(code))] += 1
            message = {"type": "websocket.close", "code": int(code), "reason": reason[:120]}
            self._waiting.append((0, message))
            self._wake.set()

    @property
    def congested(self) -> bool:
        """Say whether much waits to be written."""
        return self._bytes > self._max_buffer // 4

    async def drained(self) -> bool:
        """Return when little waits to be written; False when the socket closes."""
        async with self._written:
            await self._written.wait_for(lambda: self._closing or not self.congested)
        return not self._closing

    def stop(self) -> None:
        """End the writing task: the socket is gone."""
        self._closing = True
        self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    size, message = self._waiting.popleft()
                    await self._send(message)
                    self._bytes -= size
                async with self._written:
                    self._written.notify_all()
        except Exception as exc:
            logger.debug("socket gone reason=%r", exc)
            self._closing = True
            async with self._written:
                self._written.notify_all()
