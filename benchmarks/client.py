"""One client of the load generator: a raw socket, and events counted by a marker in their bytes.

An event is counted by a marker that every payload holds once whatever the peer wraps round it.
Every client reads into one buffer: a new one for each read would cost more than the read.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy

MARKER = b'@",'
"""In every event exactly once, and in nothing that a peer wraps round it. Shorter, it could be in
the length of a frame."""
PUBLISHED = b'"at":'
"""Before the time at which it was published, in Unix seconds."""
LARGE = 4096
"""Bytes from which on counting them as numbers is faster."""
SAMPLE = 16
_ENDS = b"}\n]"
_PING, _PONG = 0x89, 0x8A
_PING_NEXT = b"}\x89"
"""The end of an event, and a ping behind it."""


def mask(payload: bytes, opcode: int = 0x81) -> bytes:
    """Return a client frame; its mask is zero, which is a mask too (RFC 6455 §5.3)."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, 0x80 | size)) + b"\0\0\0\0" + payload
    return bytes((opcode, 0xFE)) + size.to_bytes(2, "big") + b"\0\0\0\0" + payload


@dataclass(frozen=True)
class Step:
    """A frame to send, and what its answer holds."""

    frame: bytes
    answer: bytes


@dataclass(frozen=True)
class Dialect:
    """How a client of some peer opens.

    Attributes:
        path: client number -> path of the upgrade request.
        steps: client number -> what is said after the upgrade, in turn.
        marker: what is counted: in every event exactly once.
    """

    path: Callable[[int], str]
    steps: Callable[[int], Sequence[Step]]
    marker: bytes = MARKER


class Client:
    """One raw WebSocket client; `heard` is what it was told while it opened."""

    __slots__ = ("events", "heard", "marker", "number", "sampled", "since", "sock", "steps", "tail")

    def __init__(self, number: int, steps: deque[Step], marker: bytes) -> None:
        self.number = number
        self.steps = steps
        self.marker = marker
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sampled = number % SAMPLE == 0
        self.events = 0
        self.heard = self.tail = b""
        self.since = 0.0

    def read(self, buffer: bytearray) -> int | None:
        """Fill a buffer with what was left of the last read and what came; return their bytes.

        0: nothing came. None: the peer closed.
        """
        kept = len(self.tail)
        try:
            if kept:
                buffer[:kept] = self.tail
                size = self.sock.recv_into(memoryview(buffer)[kept:])
            else:
                size = self.sock.recv_into(buffer)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        return kept + size if size else None

    def count(self, buffer: bytearray, size: int) -> int:
        """Count the events in what was read, and keep what may be the beginning of one."""
        count = count_in(buffer, self.marker, size)
        self.events += count
        begins = not self.tail
        rest = max(size - len(self.marker) + 1, 0)
        self.tail = b"" if buffer[size - 1] in _ENDS else bytes(buffer[rest:size])
        # One byte is found much faster than two, and mostly there is none.
        if buffer.find(_PING, 0, size) >= 0:
            self._answer_ping(bytes(buffer[:size]), begins)
        return count

    def _answer_ping(self, data: bytes, begins: bool) -> None:
        """Answer the first ping; `begins`: a frame begins where the data does.

        Elsewhere the same byte may be the length of a frame.
        """
        if begins and data[0] == _PING:
            self._pong(data)
        elif (end := data.find(_PING_NEXT)) >= 0:
            self._pong(data[end + 1 :])

    def _pong(self, ping: bytes) -> None:
        end = 2 + ping[1] if len(ping) > 1 else 2
        if end >= len(ping):
            # Nothing follows it, and its own bytes begin no marker.
            self.tail = b""
        # Where the other side is gone, the next read says so.
        with contextlib.suppress(OSError):
            self.sock.send(mask(ping[2:end], _PONG))


def count_in(buffer: bytearray, marker: bytes, size: int) -> int:
    """Return how often a marker is in the first `size` bytes."""
    if len(marker) > len(MARKER) or size < LARGE:
        return buffer.count(marker, 0, size)
    # `bytearray.count` looks at one byte after the other.
    bytes_read = numpy.frombuffer(buffer, numpy.uint8, size)
    last = size - len(marker) + 1
    found = bytes_read[:last] == marker[0]
    for at in range(1, len(marker)):
        found &= bytes_read[at : last + at] == marker[at]
    return int(numpy.count_nonzero(found))


def latency_of(buffer: bytearray, size: int) -> float | None:
    """Return how old the last event in the first `size` bytes is, in seconds."""
    at = buffer.rfind(PUBLISHED, 0, size)
    if at < 0 or (end := buffer.find(b"}", at, size)) < 0:
        return None
    try:
        return time.time() - float(buffer[at + len(PUBLISHED) : end])
    except ValueError:
        return None
