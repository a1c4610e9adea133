"""One connection: a WebSocket from its opening to its end, with a bounded way out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .frames import Frame, parse_frame
from .options import Timing

logger = logging.getLogger(__name__)

OUTGOING = 4096
"""Frames that may wait to be sent; with more, the connection is taken for dead."""

ABNORMAL = 1006  # RFC 6455 §7.4.1: there was no close frame


class Connection:
    """Frames in and out of one WebSocket.

    Use `opened` to make one. Frames are sent in the order of `send`, by a task of their own, so
    that who sends never waits; a network that takes none for `timing.send` seconds ends it.
    """

    def __init__(self, socket: ClientConnection, timing: Timing) -> None:
        self._socket = socket
        self._timing = timing
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(OUTGOING)
        self._writer = asyncio.create_task(self._write())

    @property
    def close_code(self) -> int:
        """The close code; 1006 where there was no close frame."""
        return self._socket.close_code or ABNORMAL

    @property
    def close_reason(self) -> str:
        """What the close frame says, for people."""
        return self._socket.close_reason or ""

    def send(self, text: bytes) -> bool:
        """Send a frame, without waiting; say whether it was taken."""
        if self._writer.done():
            return False
        try:
            self._outgoing.put_nowait(text)
        except asyncio.QueueFull:
            self._socket.transport.abort()
            return False
        return True

    async def receive(self) -> Frame | None:
        """Return the next frame that this client knows; None: the connection has ended."""
        try:
            while True:
                if (frame := parse_frame(await self._socket.recv())) is not None:
                    return frame
        except ConnectionClosed:
            return None

    async def close(self) -> None:
        """Close the WebSocket; what still waits to be sent is let go."""
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        await self._socket.close()

    async def _write(self) -> None:
        try:
            while True:
                text = await self._outgoing.get()
                async with asyncio.timeout(self._timing.send):
                    await self._socket.send(text, text=True)
        except ConnectionClosed:
            return
        except TimeoutError:
            logger.warning("connection takes no more data, giving it up")
            self._socket.transport.abort()


async def opened(
    url: str, *, headers: Mapping[str, str], compression: bool, max_size: int, timing: Timing
) -> Connection:
    """Return a new connection, on which nothing was said yet.

    Args:
        compression: offer permessage-deflate.
        max_size: bytes of the largest frame that is taken, inflated.

    Raises:
        OSError, TimeoutError, websockets.exceptions.WebSocketException: when there is none.
    """
    socket = await connect(
        url,
        additional_headers=dict(headers),
        compression="deflate" if compression else None,
        open_timeout=timing.connect,
        close_timeout=timing.close,
        ping_interval=timing.heartbeat,
        ping_timeout=timing.heartbeat,
        max_size=max_size,
    )
    return Connection(socket, timing)
