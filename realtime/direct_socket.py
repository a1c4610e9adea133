"""The direct write path: framed bytes to one socket, past Twisted's reactor where nothing waits."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection as TcpConnection
from zope.interface import implementer

from .compression import Compressor
from .metrics import Metrics
from .protocol.exceptions import CloseCode
from .protocol.websocket import frame_text

logger = logging.getLogger(__name__)

USER_TIMEOUT = 30_000
"""Milliseconds after which unacknowledged data ends a TCP connection (RFC 5482)."""


@implementer(IPushProducer)
class DirectSocket:
    """Writes to one socket: at once where nothing waits, into the transport's buffer else.

    Non-blocking `send` on the socket is six times as fast as `transport.write`, which goes
    through the reactor for every frame. Order is kept: from the first byte that has to wait, or
    that Autobahn writes, everything goes through the transport until its buffer is empty. It is
    the transport's producer, so it hears when the buffer is full.

    Args:
        metrics: counts what is closed.
        max_buffer: bytes that may wait when more is written; beyond, the reader is too slow. What
            is written itself does not count: an event may be larger than this.

    Attributes:
        ending: close code and reason, once this side ends it.
    """

    __slots__ = (
        "_closing",
        "_direct",
        "_drained",
        "_max_buffer",
        "_metrics",
        "_paused",
        "_protocol",
        "_send",
        "_transport",
        "ending",
    )

    def __init__(self, protocol: WebSocketProtocol, metrics: Metrics, max_buffer: int) -> None:
        self._protocol = protocol
        self._metrics = metrics
        self._transport = protocol.transport
        self._max_buffer = max_buffer
        self._closing = False
        self.ending: tuple[int, str] | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        # A TLS transport encrypts on its way, so there only its own write will do.
        plain = isinstance(self._transport, TcpConnection) and not self._transport.TLS
        self._direct = self._transport.socket.send if plain else None
        # What a delivery touches: `_direct` while nothing waits, else None.
        self._send: Callable[[bytes], int] | None = None
        if plain:
            self._transport.socket.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT
            )
        self._transport.unregisterProducer()
        self._transport.registerProducer(self, True)

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        """Write framed bytes."""
        send = self._send
        if send is None:
            self._write_in_turn(frames)
            return
        try:
            sent = send(frames)
        except OSError:
            # Full; or broken, then the reactor meets the same error and ends the connection.
            sent = 0
        if sent < len(frames):
            self.enqueue(frames[sent:])
            self._check(len(frames) - sent)

    def enqueue(self, data: bytes) -> None:
        """Write bytes through the transport, and what follows behind them."""
        self._send = None
        self._transport.write(data)

    def write_text(self, text: bytes) -> None:
        """Frame and write one JSON text."""
        self.write(frame_text(text), (text,))

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""
        if not self._closing:
            self._closing = True
            self._send = None
            self.ending = (int(code), reason)
            self._metrics.closes[str(int(code))] += 1
            self._wake()
            self._protocol.sendClose(code=int(code), reason=_short(reason))

    @property
    def congested(self) -> bool:
        """Say whether much waits to be written."""
        return self._paused

    async def drained(self) -> bool:
        """Return when nothing waits to be written; False when the socket closes."""
        while self._paused and not self._closing:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        return not self._closing

    def stop(self) -> None:
        """Write nothing more: the socket is gone."""
        self._closing = True
        self._send = None
        self._wake()

    def pauseProducing(self) -> None:
        """Hear from the transport that its buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Hear from the transport that its buffer is empty."""
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """Hear from the transport that the connection is lost."""
        self.stop()

    def _write_in_turn(self, frames: bytes) -> None:
        if self._closing or self._protocol.state != WebSocketProtocol.STATE_OPEN:
            return
        transport = self._transport
        if self._direct is None or transport._tempDataLen or transport.dataBuffer:
            transport.write(frames)
            self._check(len(frames))
        else:
            self._send = self._direct
            # Not a subclass's own: these are its frames already.
            DirectSocket.write(self, frames, ())

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _check(self, written: int) -> None:
        """Close a reader that is too slow; the stream has what it misses.

        Args:
            written: bytes that were added just now.
        """
        transport = self._transport
        waiting = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        if waiting - written <= self._max_buffer:
            return
        logger.info("slow reader closed client=%s waiting=%d", self._protocol.client_addr, waiting)
        # Whole writes that have not begun are let go, so that the close frame gets through
        # soon; the first may be the rest of a frame.
        keep = 0 if transport.dataBuffer else 1
        del transport._tempDataBuffer[keep:]
        transport._tempDataLen = sum(map(len, transport._tempDataBuffer))
        # Not from within a fan-out's loop over its sockets.
        asyncio.get_running_loop().call_soon(
            self.close, CloseCode.SLOW_CONSUMER, "too much waits to be read"
        )
        self._direct = None


class CompressingSocket(DirectSocket):
    """Writes to a client that agreed to permessage-deflate.

    Args:
        compressor: has the frames that all such sockets of the process share.
    """

    __slots__ = ("_compressor",)

    def __init__(
        self,
        protocol: WebSocketProtocol,
        metrics: Metrics,
        max_buffer: int,
        compressor: Compressor,
    ) -> None:
        super().__init__(protocol, metrics, max_buffer)
        self._compressor = compressor

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        """Write texts; `frames` are for sockets without compression."""
        super().write(self._compressor.frames(texts), texts)

    def write_text(self, text: bytes) -> None:
        """Frame and write one JSON text."""
        super().write(self._compressor.frame(text), (text,))


def _short(reason: str) -> str:
    """Return a close reason that fits in its frame (RFC 6455 §5.5: 123 bytes)."""
    return reason.encode()[:120].decode("utf-8", "ignore")
