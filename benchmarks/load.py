"""A load generator for WebSockets, light enough not to be what is measured.

Raw sockets on epoll, no frame objects: an event is counted by a marker in its bytes, which every
payload holds once whatever the peer wraps round it, and one socket in 16 is sampled for latency.
How busy it was is noted beside each figure, and a sender in C (peers/sender.c) shows what it takes.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MARKER = b'"at":'
"""In every event exactly once: when it was published, Unix seconds."""
SAMPLE = 16
_READ = 1 << 18
_ENDS = b"}\n]"
_PING, _PONG = b"\x89", 0x8A
_KEY = base64.b64encode(b"benchmark client").decode()


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

    def read(self) -> bytes | None:
        """Return what came (with what was left of the last read), None at the end."""
        try:
            piece = self.sock.recv(_READ)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        if not piece:
            return None
        return self.tail + piece if self.tail else piece

    def count(self, data: bytes) -> int:
        """Count the events in what was read, and keep what may be the beginning of one."""
        count = data.count(self.marker)
        self.events += count
        self.tail = b"" if data[-1] in _ENDS else data[1 - len(self.marker) :]
        if data.startswith(_PING):
            self._pong(data)
        elif (end := data.find(b"}" + _PING)) >= 0:
            self._pong(data[end + 1 :])
        return count

    def _pong(self, ping: bytes) -> None:
        end = 2 + ping[1] if len(ping) > 1 else 2
        if end >= len(ping):
            # Nothing follows it, and its own bytes begin no marker.
            self.tail = b""
        # Where the other side is gone, the next read says so.
        with contextlib.suppress(OSError):
            self.sock.send(mask(ping[2:end], _PONG))


class Load:
    """Many clients of one peer on one epoll.

    Attributes:
        events: those counted on all clients.
        closed: clients that the peer closed.
        latencies: ages of sampled events at their receipt, in seconds.
    """

    def __init__(self, port: int, dialect: Dialect, host: str = "127.0.0.1") -> None:
        self._address = (host, port)
        self._dialect = dialect
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self.clients: list[Client] = []
        self.events = 0
        self.closed = 0
        self.latencies: list[float] = []

    def open(self, numbers: Sequence[int], *, at_once: int = 64, timeout: float = 60.0) -> float:
        """Open clients, `at_once` under way at a time; return the seconds it took.

        Raises:
            ConnectionError: when one is refused, or not all are open in time.
        """
        waiting, under_way = deque(numbers), 0
        begun = time.monotonic()
        while waiting or under_way:
            while waiting and under_way < at_once:
                self._begin(waiting.popleft())
                under_way += 1
            for descriptor, _ in self._epoll.poll(0.5):
                under_way -= self._proceed(self._clients[descriptor])
            if time.monotonic() - begun > timeout:
                raise ConnectionError(f"{len(waiting) + under_way} sockets are not open in time")
        return time.monotonic() - begun

    def close(self) -> None:
        """Close every client at once."""
        for client in self.clients:
            client.sock.close()
        self.clients.clear()
        self._clients.clear()
        self._epoll.close()
        self._epoll = select.epoll()

    def run(
        self,
        expected: float,
        timeout: float,
        turn: Callable[[], None] = lambda: None,
        answer: Callable[[Client], None] | None = None,
    ) -> float:
        """Count until `expected` events came in all, or `timeout` seconds passed.

        Args:
            turn: called after every poll, so that a publisher can keep its window full.
            answer: called with each client that an event came to.

        Returns:
            When the last event came, in monotonic seconds.
        """
        clients, poll, latencies = self._clients, self._epoll.poll, self.latencies
        last = time.monotonic()
        until = last + timeout
        turn()
        while self.events < expected:
            ready = poll(0.1)
            for descriptor, _ in ready:
                client = clients[descriptor]
                data = client.read()
                if data is None:
                    self._lost(descriptor)
                elif data:
                    count = client.count(data)
                    self.events += count
                    if answer is not None:
                        if count:
                            answer(client)
                    elif client.sampled and (latency := latency_of(data)) is not None:
                        latencies.append(latency)
            now = time.monotonic()
            if ready:
                last = now
            if now > until:
                break
            turn()
        return last

    def tend(self) -> None:
        """Answer pings, without waiting for any: who does not answer for long is closed."""
        for descriptor, _ in self._epoll.poll(0):
            self._proceed(self._clients[descriptor])

    def forget(self) -> None:
        """Count anew."""
        self.events = 0
        self.latencies.clear()
        for client in self.clients:
            client.events = 0

    def _begin(self, number: int) -> None:
        host, port = self._address
        upgrade = (
            f"GET {self._dialect.path(number)} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {_KEY}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        )
        steps = deque([Step(upgrade.encode(), b"\r\n\r\n"), *self._dialect.steps(number)])
        client = Client(number, steps, self._dialect.marker)
        failure = client.sock.connect_ex(self._address)
        if failure not in (0, errno.EINPROGRESS):
            raise ConnectionError(os.strerror(failure))
        descriptor = client.sock.fileno()
        self._clients[descriptor] = client
        self.clients.append(client)
        self._epoll.register(descriptor, select.EPOLLOUT)

    def _proceed(self, client: Client) -> bool:
        """Take one opening a step further; say whether it is open now."""
        if not client.steps:
            data = client.read()
            if data is None:
                self._lost(client.sock.fileno())
            elif data:
                self.events += client.count(data)
            return False
        step = client.steps[0]
        if step.frame and not client.heard:
            # Connected: the upgrade request goes out.
            if error := client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise ConnectionError(os.strerror(error))
            client.sock.send(step.frame)
            client.steps[0] = Step(b"", step.answer)
            self._epoll.modify(client.sock.fileno(), select.EPOLLIN)
            return False
        return self._hear(client)

    def _hear(self, client: Client) -> bool:
        data = client.read()
        answer = client.steps[0].answer
        if data is None:
            raise ConnectionError(f"closed while waiting for {answer!r}: {client.heard[-300:]!r}")
        client.heard += data[len(client.tail) :]
        client.tail = data
        while client.steps and client.steps[0].answer in client.tail:
            answer = client.steps.popleft().answer
            # What follows the answer (a greeting, an event) belongs to the next step.
            client.tail = client.tail[client.tail.index(answer) + len(answer) :]
            if client.steps and client.steps[0].frame:
                client.sock.send(client.steps[0].frame)
        if client.steps:
            return False
        rest, client.tail = client.tail, b""
        if rest:
            self.events += client.count(rest)
        return True

    def _lost(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            self._epoll.unregister(descriptor)
        self._clients.pop(descriptor).sock.close()
        self.closed += 1


def latency_of(data: bytes) -> float | None:
    """Return how old the last event in `data` is, in seconds."""
    at = data.rfind(MARKER)
    if at < 0 or (end := data.find(b"}", at)) < 0:
        return None
    try:
        return time.time() - float(data[at + len(MARKER) : end])
    except ValueError:
        return None


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile of values, 0 without any."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
