"""A TCP proxy whose network a test can break: black hole, resets, refusal."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

from .ports import free_port

_CHUNK = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds


class Proxy:
    """Forward a port of its own to another one, until told otherwise.

    Use it as `async with Proxy(server.port) as proxy`, and connect to `proxy.port`.

    Args:
        target_port: where connections go.
        host: of both ports.
    """

    def __init__(self, target_port: int, *, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = free_port(host)
        self.target_port = target_port
        self.accepted = 0
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._aborting: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.forward()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """Return how many connections to this proxy are open."""
        return len(self._tasks)

    async def forward(self) -> None:
        """Forward everything; what a black hole held back arrives now."""
        self._stop_aborting()
        self._open.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)

    def black_hole(self) -> None:
        """Accept and keep connections, but forward not a byte, not even an end."""
        self._stop_aborting()
        self._open.clear()

    def abort(self) -> None:
        """Reset every open connection, as a router does that has lost its state."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def abort_every(self, seconds: float) -> None:
        """Forward, but reset every open connection again and again."""
        await self.forward()
        self._aborting = asyncio.create_task(self._abort_every(seconds))

    async def refuse(self) -> None:
        """Reset every open connection and refuse new ones."""
        self._stop_aborting()
        if self._server is not None:
            self._server.close()
            self._server = None
        self.abort()

    def _stop_aborting(self) -> None:
        if self._aborting is not None:
            self._aborting.cancel()
            self._aborting = None

    async def _abort_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            answers, far = await asyncio.open_connection(self.host, self.target_port)
            self._writers.add(far)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far))
                group.create_task(self._pump(answers, writer))
        except* OSError:
            pass  # either side is gone: so is the other
        finally:
            self._tasks.discard(task)
            for one in (writer, far):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        await self._open.wait()
        with contextlib.suppress(OSError):
            writer.write_eof()
