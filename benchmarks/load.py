"""A load generator for WebSockets, light enough not to be what is measured.

Raw sockets on epoll, opened by Python (client.py) and read by C (reader.py), without frame objects;
one socket in 16 is sampled for latency. How busy it was is noted beside each figure, and senders in
C (peers/sender.c) show what it takes.
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

from .client import Client, Dialect, Step
from .reader import Found, Reader

SAMPLE = 16
_KEY = base64.b64encode(b"benchmark client").decode()


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
        self._clients: dict[int, Client] = {}
        self.clients: list[Client] = []
        self.events = 0
        self.closed = 0
        self.latencies: list[float] = []
        self._begin_anew()

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
        self._reader.close()
        self._epoll.close()
        self._begin_anew()

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
        clients = self._clients
        last = time.monotonic()
        until = last + timeout
        turn()
        while self.events < expected:
            found = self._read(0.1)
            if answer is not None and found is not None:
                for descriptor in found.came_to:
                    answer(clients[descriptor])
            now = time.monotonic()
            if found is not None:
                last = now
            if now > until:
                break
            turn()
        return last

    def tend(self) -> None:
        """Answer pings, without waiting for any: who does not answer for long is closed."""
        self._read(0)

    def forget(self) -> None:
        """Count anew."""
        self.events = 0
        self.latencies.clear()
        for descriptor in self._clients:
            self._reader.forget(descriptor)

    def counts(self) -> list[int]:
        """Return how many events came to each client that is open, in the order of opening."""
        return [self._reader.events(descriptor) for descriptor in self._clients]

    def _begin_anew(self) -> None:
        self._epoll = select.epoll()
        self._reader = Reader(self._epoll.fileno(), self._dialect.marker)

    def _read(self, timeout: float) -> Found | None:
        found = self._reader.read(timeout)
        if found is not None:
            self._take(found)
        return found

    def _take(self, found: Found) -> None:
        self.events += found.events
        self.latencies += found.ages
        for descriptor in found.closed_by:
            self._lost(descriptor)

    def _begin(self, number: int) -> None:
        host, port = self._address
        upgrade = (
            f"GET {self._dialect.path(number)} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {_KEY}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        )
        steps = deque([Step(upgrade.encode(), b"\r\n\r\n"), *self._dialect.steps(number)])
        client = Client(number, steps)
        failure = client.sock.connect_ex(self._address)
        if failure not in (0, errno.EINPROGRESS):
            raise ConnectionError(os.strerror(failure))
        descriptor = client.sock.fileno()
        self._clients[descriptor] = client
        self.clients.append(client)
        self._reader.add(descriptor, sampled=number % SAMPLE == 0)
        self._epoll.register(descriptor, select.EPOLLOUT)

    def _proceed(self, client: Client) -> bool:
        """Take one opening a step further; say whether it is open now."""
        descriptor = client.sock.fileno()
        if not client.steps:
            self._take(self._reader.read_one(descriptor))
            return False
        step = client.steps[0]
        if step.frame and not client.heard:
            # Connected: the upgrade request goes out.
            if error := client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise ConnectionError(os.strerror(error))
            client.sock.send(step.frame)
            client.steps[0] = Step(b"", step.answer)
            self._epoll.modify(descriptor, select.EPOLLIN)
            return False
        rest = client.proceed()
        if rest:
            self.events += self._reader.feed(descriptor, rest)
        return rest is not None

    def _lost(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            self._epoll.unregister(descriptor)
        self._clients.pop(descriptor).sock.close()
        self.closed += 1


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile of values, 0 without any."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
