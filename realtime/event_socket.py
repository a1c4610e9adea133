"""The socket of an event stream: what a connection writes, as server-sent events over ASGI."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .metrics import Metrics
from .protocol.event_stream import COMMENT, Cursor, encode_close, encode_event, head_of
from .protocol.exceptions import CloseCode

logger = logging.getLogger(__name__)

RETRY_MS = (2000, 5000)
"""Between these a client is told how long to wait before it comes back."""
CHUNK = 64 * 1024
"""Bytes handed to the server at once."""
PATIENCE = 30.0
"""Seconds that a reader may take no byte, as TCP_USER_TIMEOUT is for WebSockets."""


class EventSocket:
    """Keeps what is to be written, up to a bound, until `pump` hands it to the server.

    It is a push producer to Twisted's request, so it hears when the client does not read.

    Args:
        cursor: the topics that are asked for; frames about others are left out.
        metrics: counts what is closed.
        max_buffer: bytes that may wait when more is written; beyond, the reader is too slow.

    Attributes:
        ending: close code and reason, once this side ends it.
        errors: code and message of the `error` frames written so far.
        stuck: whether the reader was too slow.
    """

    def __init__(self, cursor: Cursor, metrics: Metrics, max_buffer: int) -> None:
        self._cursor = cursor
        self._metrics = metrics
        self._max_buffer = max_buffer
        hint = f"retry: {random.randint(*RETRY_MS)}\n\n".encode()
        self._waiting: deque[bytes] = deque([hint])
        self._bytes = len(hint)
        self._paused = False
        self._moved = asyncio.Event()
        self.ending: tuple[int, str] | None = None
        self._gone = False
        self.errors: list[tuple[str, str]] = []
        self.stuck = False

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        """Queue texts; frames are a WebSocket's."""
        for text in texts:
            self.write_text(text)

    def write_text(self, text: bytes) -> None:
        """Queue one text; over the bound the stream ends, and resumes by its last id."""
        if self._over:
            return
        head = head_of(text)
        if head.type == "error":
            self.errors.append((head.code or "", head.message or ""))
        asked = self._cursor.positions
        if head.held is not None and asked and head.held not in asked:
            return
        moved = self._cursor.follow(head)
        before = self._bytes
        self._queue(encode_event(text, self._cursor.event_id if moved else ""))
        if before > self._max_buffer:
            self._metrics.slow_readers += 1
            self._waiting.clear()
            self._bytes = 0
            self.stuck = True
            logger.info("event stream ended: its reader is too slow")
            self.close(CloseCode.SLOW_CONSUMER, "too much waits to be read")

    def close(self, code: int, reason: str) -> None:
        """End the stream once what waits is written."""
        if not self._over:
            self.ending = (int(code), reason)
            self._metrics.closes[str(int(code))] += 1
            self._queue(encode_close(int(code), reason))

    @property
    def congested(self) -> bool:
        """Say whether much waits to be written."""
        return self._paused or self._bytes > self._max_buffer // 4

    async def drained(self) -> bool:
        """Return when little waits to be written; False when the stream ends."""
        while self.congested and not self._over:
            await self._wait()
        return not self._over

    def stop(self) -> None:
        """Write nothing more: the client is gone."""
        self._gone = True
        self._moved.set()

    def pauseProducing(self) -> None:  # noqa: N802
        """Hear from Twisted that the client does not read."""
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        """Hear from Twisted that it reads on."""
        self._paused = False
        self._moved.set()

    def stopProducing(self) -> None:  # noqa: N802
        """Hear from Twisted that the connection is lost."""
        self._paused = False
        self.stop()

    async def pump(
        self, send: Callable[[dict[str, Any]], Awaitable[None]], heartbeat: float
    ) -> None:
        """Write what waits until the stream ends; a comment where nothing does.

        Args:
            heartbeat: seconds between comments.
        """
        try:
            while self._waiting or not self._over:
                if self._paused and not self.stuck:
                    async with asyncio.timeout(PATIENCE):
                        await self._wait()
                elif self.stuck:
                    return
                elif self._waiting:
                    body = {"type": "http.response.body", "body": self._take(), "more_body": True}
                    async with asyncio.timeout(PATIENCE):
                        await send(body)
                    self._moved.set()
                else:
                    await self._wait_or_beat(heartbeat)
        except TimeoutError:
            self.stuck = True
            logger.info("event stream ended: its reader took nothing for %.0f s", PATIENCE)

    @property
    def _over(self) -> bool:
        return self._gone or self.ending is not None

    async def _wait_or_beat(self, heartbeat: float) -> None:
        try:
            async with asyncio.timeout(heartbeat):
                await self._wait()
        except TimeoutError:
            self._queue(COMMENT)

    async def _wait(self) -> None:
        """Return when something changed."""
        self._moved.clear()
        await self._moved.wait()

    def _queue(self, chunk: bytes) -> None:
        self._waiting.append(chunk)
        self._bytes += len(chunk)
        self._moved.set()

    def _take(self) -> bytes:
        """Return the next chunks, together at most a little over CHUNK bytes."""
        taken: list[bytes] = []
        size = 0
        while self._waiting and size < CHUNK:
            taken.append(self._waiting.popleft())
            size += len(taken[-1])
        self._bytes -= size
        return b"".join(taken)
