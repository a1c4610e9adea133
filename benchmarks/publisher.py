"""Publishers: bytes of some protocol on one raw socket, so that publishing costs next to nothing.

A message is encoded by hand (NATS `PUB`, Redis `PUBLISH`, HTTP `POST`), sent without waiting for
its answer, and answers are read and thrown away.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Encode = Callable[[str, bytes], bytes]
"""Topic and payload to the bytes that publish it."""
HTTP_ANSWER = b"HTTP/1.1 "


def payload_of(number: int, padding: int = 60) -> bytes:
    """Return an event of about 110 bytes, with client.MARKER in it; its stamp is the last field."""
    return b'{"n":%d,"pad":"%b@","at":%.6f}' % (number, b"x" * padding, time.time())


def nats_encode(topic: str, payload: bytes) -> bytes:
    """Return a NATS `PUB`."""
    return b"PUB %b %d\r\n%b\r\n" % (topic.encode(), len(payload), payload)


def redis_encode(channel: bytes, message: bytes) -> bytes:
    """Return a Redis `PUBLISH` (RESP)."""
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(channel),
        channel,
        len(message),
        message,
    )


def http_encode(path: str, body: bytes, headers: str = "") -> bytes:
    """Return a `POST` on a connection that stays open."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@dataclass(frozen=True)
class Way:
    """How to publish at some peer: where, what is said first, and how a message is encoded.

    Attributes:
        answer: what every answer to a publish holds once; empty: it is not waited for.
    """

    port: int
    encode: Encode
    hello: bytes = b""
    answer: bytes = b""


def nats_way(port: int, rename: Callable[[str], str] = lambda topic: topic) -> Way:
    """Return the way through a NATS server."""
    return Way(
        port,
        lambda topic, payload: nats_encode(rename(topic), payload),
        b'CONNECT {"verbose":false,"pedantic":false}\r\n',
    )


class Publisher:
    """One connection that publishes."""

    def __init__(self, way: Way) -> None:
        self._encode = way.encode
        self._answer = way.answer
        self._tail = b""
        self._sock = socket.create_connection(("127.0.0.1", way.port), timeout=10)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if way.hello:
            self._sock.recv(65536)
            self._sock.sendall(way.hello)
        # With a timeout set, Python would wait for input whatever the flags say.
        self._sock.settimeout(None)
        self.published = 0
        self.answered = 0

    def publish(self, topic: str) -> None:
        """Publish one event, stamped now."""
        self._sock.sendall(self._encode(topic, payload_of(self.published)))
        self.published += 1
        if self.published % 16 == 0:
            self.drain()

    def publish_all(self, topics: Sequence[str]) -> None:
        """Publish one event on each topic, in one piece."""
        pieces = [self._encode(topic, payload_of(self.published)) for topic in topics]
        self.published += len(topics)
        self._sock.sendall(b"".join(pieces))
        self.drain()

    def drain(self) -> None:
        """Read what was answered, count it and throw it away.

        Raises:
            ConnectionError: when the peer closed.
        """
        with contextlib.suppress(BlockingIOError):
            while data := self._sock.recv(1 << 18, socket.MSG_DONTWAIT):
                if data.startswith(b"PING\r\n"):
                    self._sock.sendall(b"PONG\r\n")
                if self._answer:
                    data = self._tail + data
                    self.answered += data.count(self._answer)
                    self._tail = data[1 - len(self._answer) :]
            raise ConnectionError("it closed the connection that publishes")

    def settle(self, timeout: float = 30.0) -> None:
        """Wait until every publish is answered, where the peer answers.

        A server whose answers are not read stops reading too, and may close in the end: nginx
        does after a minute (`send_timeout`).

        Args:
            timeout: in seconds.

        Raises:
            TimeoutError: when some are not answered in time.
            ConnectionError: when the peer closed.
        """
        readable = select.poll()
        readable.register(self._sock, select.POLLIN)
        deadline = time.monotonic() + timeout
        while self._answer and self.answered < self.published:
            left = deadline - time.monotonic()
            if left <= 0 or not readable.poll(left * 1000):
                missing = self.published - self.answered
                raise TimeoutError(f"{missing} publishes were not answered in {timeout:g} s")
            self.drain()

    def close(self) -> None:
        """Read what is answered for a moment, then close: a server may drop what is unread."""
        time.sleep(0.05)
        # What was measured before does not depend on whether the peer is still there.
        with contextlib.suppress(OSError):
            self.drain()
        self._sock.close()


def _pace(way: Way, topic: str, rate: float, events: int) -> None:
    publisher = Publisher(way)
    start = time.monotonic()
    for number in range(events):
        wait = start + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        publisher.publish(topic)
    publisher.settle(5)
    publisher.close()


def paced(way: Way, topic: str, rate: float, events: int) -> multiprocessing.Process:
    """Start a process that publishes at a steady rate, in events a second."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_pace, args=(way, topic, rate, events), daemon=True)
    process.start()
    return process
