"""One client of the load generator: a raw socket, and how it opens.

An event is counted by a marker that every payload holds once whatever the peer wraps round it.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MARKER = b'@",'
"""In every event exactly once, and in nothing that a peer wraps round it. Shorter, it could be in
the length of a frame."""


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
    """One raw WebSocket client; `heard` is what it was told while it opened.

    `tail`: the part of that which no step has looked at.
    """

    __slots__ = ("heard", "number", "since", "sock", "steps", "tail")

    def __init__(self, number: int, steps: deque[Step]) -> None:
        self.number = number
        self.steps = steps
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard = self.tail = b""
        self.since = 0.0

    def proceed(self) -> bytes | None:
        """Read, and take the opening as far as what was heard allows.

        Returns:
            What was read behind the last answer, None while the opening goes on.

        Raises:
            ConnectionError: when the peer closed.
        """
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            answer = self.steps[0].answer
            raise ConnectionError(f"closed while waiting for {answer!r}: {self.heard[-300:]!r}")
        self.heard += data
        self.tail += data
        while self.steps and self.steps[0].answer in self.tail:
            # What follows the answer (a greeting, an event) belongs to the next step.
            self.tail = self.tail.partition(self.steps.popleft().answer)[2]
            if self.steps and self.steps[0].frame:
                self.sock.send(self.steps[0].frame)
        return None if self.steps else self.tail
