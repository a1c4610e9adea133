"""Publishers: bytes of some protocol on one raw socket, so that publishing costs next to nothing.

A message is encoded by hand (NATS `PUB`, Redis `PUBLISH`, HTTP `POST`), sent without waiting for
its answer, and answers are read and thrown away.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Encode = Callable[[str, bytes], bytes]
"""Topic and payload to the bytes that publish it."""


def payload_of(number: int, padding: int = 60) -> bytes:
    """Return an event of about 110 bytes; its stamp is the last field (see load.MARKER)."""
    return b'{"n":%d,"pad":"%b","at":%.6f}' % (number, b"x" * padding, time.time())


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
    """How to publish at some peer: where, what is said first, and how a message is encoded."""

    port: int
    encode: Encode
    hello: bytes = b""


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
        self._sock = socket.create_connection(("127.0.0.1", way.port), timeout=10)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if way.hello:
            self._sock.recv(65536)
            self._sock.sendall(way.hello)
        # With a timeout set, Python would wait for input whatever the flags say.
        self._sock.settimeout(None)
        self.published = 0

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
        """Read and throw away what was answered."""
        with contextlib.suppress(BlockingIOError):
            while data := self._sock.recv(1 << 18, socket.MSG_DONTWAIT):
                if data.startswith(b"PING\r\n"):
                    self._sock.sendall(b"PONG\r\n")

    def close(self) -> None:
        """Read what is answered for a moment, then close: a server may drop what is unread."""
        time.sleep(0.05)
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
    publisher.close()


def paced(way: Way, topic: str, rate: float, events: int) -> multiprocessing.Process:
    """Start a process that publishes at a steady rate, in events a second."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_pace, args=(way, topic, rate, events), daemon=True)
    process.start()
    return process
