"""The client of tests, with what only this project's own tests want to say and see."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from realtime.testing.client import Frame, RealtimeClient

from .recorder import Recorder
from .strict import strict_json
from .waiting import DEADLINE


class TestClient(RealtimeClient):
    """A client that speaks the protocol, or anything else that a test wants said.

    With `connect=False` it sends nothing by itself; with `read=False` it does not read either
    (`recv` reads one frame, `stop_reading` leaves the socket full).

    Args:
        url: `ws://HOST:PORT/ws/`.
        connect: send `connect` and wait for `ready`.
        connect_fields: more fields of that frame, such as sessionId and lastSeqPerTopic.
        recorder: where messages are recorded; one may serve a client's successive connections.
        read: read frames as they come.
        receive_buffer: SO_RCVBUF in bytes.
        compression: offer permessage-deflate, as browsers do; not unless a test is about it.
        options: those of RealtimeClient.
    """

    __test__ = False  # no test class, whatever its name says

    def __init__(
        self,
        url: str,
        *,
        connect: bool = True,
        connect_fields: Mapping[str, Any] | None = None,
        recorder: Recorder | None = None,
        read: bool = True,
        receive_buffer: int | None = None,
        compression: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(url, compression=compression, **options)
        self.recorder = recorder or Recorder()
        self._connect = connect
        self._connect_fields = dict(connect_fields or {})
        self._read = read
        self._receive_buffer = receive_buffer

    # The connection.

    async def open(self, **options: Any) -> None:
        """Make the WebSocket connection, without a frame."""
        if self._receive_buffer is not None:
            parts = urlsplit(self.url)
            options["sock"] = raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
        await super().open(**options)
        if not self._read:
            await self._end_reader()

    async def authenticate(self, **fields: Any) -> None:
        """Send `connect` where that is wanted, and wait for `ready` where frames are read."""
        fields = {**self._connect_fields, **fields}
        if not self._connect:
            return
        if self._read:
            await super().authenticate(**fields)
            return
        token = {} if self._token is None else {"token": self._token}
        await self.send("connect", **fields, **token)

    def abort(self) -> None:
        """Cut the connection without a close frame."""
        self.ws.transport.abort()

    async def stop_reading(self) -> None:
        """Read nothing more, not even from the socket: what comes fills its buffers."""
        await self._end_reader()
        self.ws.transport.pause_reading()

    async def _end_reader(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None

    async def expect_close(self, code: int, timeout: float = DEADLINE) -> None:
        """Wait for the close and require its code."""
        found = await self.closed(timeout)
        if found != code:
            self._fail(f"closed with {found}, not {code}")

    # Frames out.

    async def send_text(self, text: str | bytes) -> None:
        """Send a text frame as it is; bytes need not be UTF-8."""
        await self.ws.send(text, text=True)

    async def send_binary(self, data: bytes) -> None:
        """Send a binary frame."""
        await self.ws.send(data, text=False)

    def send_raw(self, data: bytes) -> None:
        """Write bytes to the TCP connection, past the WebSocket protocol."""
        self.ws.transport.write(data)

    async def error(self, type: str, **fields: Any) -> Frame:
        """Send a frame with an id and return the `error` that answers it."""
        return await self.ask(type, "error", **fields)

    # Frames in.

    async def recv(self, timeout: float = DEADLINE) -> str | bytes:
        """Return the next frame: text as str, binary as bytes. Only with `read=False`."""
        assert self._reader is None, "the client reads by itself: use expect, or read=False"
        return await asyncio.wait_for(self.ws.recv(), timeout)

    def parse(self, text: str | bytes) -> Frame:
        """Return the frame of a text that came, read as strictly as a browser reads it."""
        frame: Frame = strict_json(text)
        return frame

    def received(self, frame: Frame) -> None:
        """Take in a frame that came."""
        self.recorder.record(frame)
        super().received(frame)
