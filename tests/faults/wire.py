"""A WebSocket by hand, to send what no library sends and to leave unread what every one reads."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import zlib
from contextlib import suppress
from typing import Any, NamedTuple, Self

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
COMPRESSED = 0b100
"""The reserved bit of a compressed message (RSV1, RFC 7692 §6)."""
DEADLINE = 30.0
"""Seconds for one step, unless told otherwise."""


class Received(NamedTuple):
    """One frame from the gateway."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """Return the code of a close frame."""
        if self.opcode != CLOSE or len(self.payload) < 2:
            return None
        return int.from_bytes(self.payload[:2], "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: bytes | None = None,
) -> bytes:
    """Return a frame (RFC 6455 §5.2), right or wrong as wanted.

    Args:
        rsv: the three reserved bits.
        length: the length bytes as they shall be, after the mask bit's byte.
    """
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    size = len(payload)
    if length is not None:
        head += bytes([bit | length[0]]) + length[1:]
    elif size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    # A mask of zeros leaves the payload as it is.
    return head + (b"\0\0\0\0" if masked else b"") + payload


def text(**fields: Any) -> bytes:
    """Return a text frame with one JSON object."""
    return frame(TEXT, json.dumps(fields).encode())


def compressed(payload: bytes) -> bytes:
    """Return a message's payload as a client compresses it, with the usual window."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def upgrade(port: int, *more: str, key: str | None = None) -> bytes:
    """Return an upgrade request with further header lines."""
    key = base64.b64encode(os.urandom(16)).decode() if key is None else key
    lines = [
        "GET /ws/ HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class RawSocket:
    """A connection on which every byte is ours. Use it as `async with RawSocket(port) as raw`.

    Args:
        receive_buffer: SO_RCVBUF in bytes.

    Attributes:
        head: status and headers of the answer to the upgrade.
    """

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.port = port
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            self.widen(receive_buffer)
        self.data = b""
        self.head = b""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, ("127.0.0.1", self.port))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.socket.close()

    def widen(self, size: int) -> None:
        """Set SO_RCVBUF."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    async def send(self, data: bytes, timeout: float = DEADLINE) -> None:
        """Send bytes as they are."""
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, timeout: float = DEADLINE) -> bytes:
        """Return what comes next, nothing at the end of the connection."""
        with suppress(ConnectionError):
            async with asyncio.timeout(timeout):
                return await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        return b""

    async def shake(self, *more: str) -> int:
        """Send the upgrade request and return the HTTP status of the answer."""
        await self.send(upgrade(self.port, *more))
        return await self.status()

    async def status(self) -> int:
        """Return the HTTP status that comes next, 0 when the connection ends instead."""
        while b"\r\n\r\n" not in self.data:
            data = await self.read()
            if not data:
                return 0
            self.data += data
        self.head, self.data = self.data.split(b"\r\n\r\n", 1)
        return int(self.head.split(b" ", 2)[1])

    async def open(self, token: str, *topics: str) -> None:
        """Shake hands, authenticate and subscribe."""
        assert await self.shake() == 101
        await self.send(text(type="connect", token=token))
        await self.until("ready")
        for topic in topics:
            await self.send(text(type="subscribe", topic=topic))
            await self.until("subscribed")

    async def until(self, kind: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """Return the next JSON frame of a type.

        Raises:
            AssertionError: when the connection ends before one comes.
        """
        while (received := await self.receive(timeout)) is not None:
            if received.opcode == TEXT:
                value: dict[str, Any] = json.loads(received.payload)
                if value.get("type") == kind:
                    return value
            assert received.opcode != CLOSE, f"closed with {received.code} before {kind}"
        raise AssertionError(f"ended before {kind}")

    async def receive(self, timeout: float = DEADLINE) -> Received | None:
        """Return the next frame, None when the connection ended."""
        while (received := self._take()) is None:
            data = await self.read(timeout)
            if not data:
                return None
            self.data += data
        return received

    async def ending(self, timeout: float = DEADLINE) -> int | None:
        """Read to the end; return the close code, None when there was no close frame.

        Raises:
            TimeoutError: when the connection stays open.
        """
        async with asyncio.timeout(timeout):
            while (received := await self.receive(timeout)) is not None:
                if received.opcode == CLOSE:
                    return received.code
        return None

    def _take(self) -> Received | None:
        if len(self.data) < 2:
            return None
        size, head = self.data[1] & 0x7F, 2
        if size == 126:
            head = 4
        elif size == 127:
            head = 10
        if len(self.data) < head:
            return None
        if head > 2:
            size = int.from_bytes(self.data[2:head], "big")
        if len(self.data) < head + size:
            return None
        received = Received(self.data[0] & 0x0F, self.data[head : head + size])
        self.data = self.data[head + size :]
        return received
