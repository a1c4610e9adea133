"""The socket of a Socket.IO session: what a connection writes, as packets for Engine.IO."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from engineio.packet import MESSAGE, Packet
from msgspec import Struct

from .metrics import Metrics
from .protocol.exceptions import CloseCode
from .protocol.socketio import close_packets, packet_for

BATCH = 64 * 1024
"""Characters that Engine.IO takes at once, and holds until its transport has taken them."""
OVERHEAD = 64
"""What a packet that waits costs beyond its text."""


class Outgoing(asyncio.Queue[Any]):
    """Engine.IO's queue of one session, with bounds that it lacks.

    Attributes:
        characters: what waits.
        limit: over this `overflowed` is called; 0: no limit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.characters = 0
        self.limit = 0
        self.overflowed: Callable[[], None] = lambda: None
        self._batch = 0
        self._moved = asyncio.Event()

    async def get(self) -> Any:
        """Wait for the first packet of a batch."""
        self._batch = 0
        return await super().get()

    def get_nowait(self) -> Any:
        """Return a further packet, while the batch is small.

        Raises:
            asyncio.QueueEmpty: when it is not, or nothing waits.
        """
        if self._batch >= BATCH:
            raise asyncio.QueueEmpty
        return super().get_nowait()

    async def join(self) -> None:
        """Return at once: Engine.IO would wait for readers that may not come."""

    async def changed(self) -> None:
        """Return when something was taken or put."""
        self._moved.clear()
        await self._moved.wait()

    async def taken(self) -> None:
        """Return when nothing waits."""
        while not self.empty():
            await self.changed()

    def wake(self) -> None:
        """Have `changed` return."""
        self._moved.set()

    def clear(self) -> None:
        """Let go of what waits."""
        while not self.empty():
            self._batch = 0
            super().get_nowait()

    def _put(self, item: Any) -> None:
        super()._put(item)
        self.characters += _size(item)
        self._moved.set()
        if self.limit and self.characters - _size(item) > self.limit:
            self.limit = 0
            self.overflowed()

    def _get(self) -> Any:
        item = super()._get()
        self._batch += _size(item)
        self.characters -= _size(item)
        self._moved.set()
        return item


class Refusal(Struct, frozen=True):
    """Why `connect` failed.

    Attributes:
        retry: whether a client should try again by itself.
    """

    code: str
    message: str
    retry: bool


class SocketIoSocket:
    """Hands packets to Engine.IO, once the client was told that it is connected.

    Args:
        queue: what Engine.IO takes from.
        metrics: counts what is closed.
        max_buffer: characters that may wait when more is written; beyond, the reader is too slow.
        on_end: called once, when the session is to end.

    Attributes:
        ending: close code and reason, once this side ends it.
        connected: whether the client was told that it is connected; `told`: that, or why not.
    """

    def __init__(
        self, queue: Outgoing, metrics: Metrics, max_buffer: int, on_end: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._metrics = metrics
        self._max_buffer = max_buffer
        self._on_end = on_end
        self._early: list[str] = []
        self._early_characters = 0
        self._error: tuple[str, str] | None = None
        self._gone = False
        self.ending: tuple[int, str] | None = None
        self.connected = self.told = False
        queue.limit = max_buffer
        queue.overflowed = self._too_slow

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        """Queue texts; frames are a WebSocket's."""
        for text in texts:
            self.write_text(text)

    def write_text(self, text: bytes) -> None:
        """Queue one text; over the bound the session ends, and resumes by its sequences."""
        if self.over:
            return
        packet = packet_for(text)
        if self.connected:
            self._put(packet)
            return
        head = _head(text)
        if head.type == "error":
            self._error = self._error or (head.code, head.message)
        self._early.append(packet)
        self._early_characters += len(packet)
        if self._early_characters - len(packet) > self._max_buffer:
            self._too_slow()

    def open(self) -> None:
        """Write from now on, and first what waits: the client was told that it is connected."""
        self.connected = self.told = True
        early, self._early, self._early_characters = self._early, [], 0
        for packet in early:
            self._put(packet)

    @property
    def refusal(self) -> Refusal | None:
        """Why the client may not connect; None when it may."""
        if self._error is not None:
            retry = self.ending is not None and CloseCode(self.ending[0]).retry
            return Refusal(*self._error, retry)
        if self.ending is not None:
            code = CloseCode(self.ending[0])
            return Refusal(code.name, self.ending[1], code.retry)
        return None

    def close(self, code: int, reason: str) -> None:
        """End the session once what waits is written."""
        if self.over:
            return
        self._metrics.closes[str(int(code))] += 1
        self._queue.limit = 0
        self._early.clear()
        if self.connected:
            for packet in close_packets(int(code), reason):
                self._put(packet)
        self.ending = (int(code), reason)
        self._on_end()

    @property
    def over(self) -> bool:
        """Say whether nothing more is written."""
        return self._gone or self.ending is not None

    @property
    def congested(self) -> bool:
        """Say whether much waits to be written."""
        return self._queue.characters + self._early_characters > self._max_buffer // 4

    async def drained(self) -> bool:
        """Return when little waits to be written; False when the session ends."""
        while self.congested and not self.over:
            await self._queue.changed()
        return not self.over

    def stop(self) -> None:
        """Write nothing more: the client is gone."""
        self._gone = True
        self._queue.wake()

    def _put(self, packet: str) -> None:
        if not self.over:
            self._queue.put_nowait(Packet(MESSAGE, packet))

    def _too_slow(self) -> None:
        if not self.over:
            self._metrics.slow_readers += 1
            self._queue.clear()
            self.close(CloseCode.SLOW_CONSUMER, "too much waits to be read")


class _Head(Struct):
    type: str
    code: str = ""
    message: str = ""


_head = msgspec.json.Decoder(_Head).decode


def _size(item: Any) -> int:
    if item is None:
        return 0
    return OVERHEAD + (len(item.data) if isinstance(item.data, str) else 0)
