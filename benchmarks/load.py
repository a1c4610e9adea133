"""A load generator for WebSockets, light enough not to be what is measured.

Raw sockets on epoll, one receive buffer, no frame objects: events are counted by a marker in
the bytes, and one socket in 16 is sampled for latency. `python -m benchmarks.load` says how
many deliveries a second it can take from a sender that does nothing else.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import time
from collections.abc import Iterable

MARKER = b'"type":"message"'
STAMP = b'"at":'
SAMPLE = 16


class Client:
    """One raw WebSocket client."""

    __slots__ = ("buffer", "events", "file", "sampled", "sock")

    def __init__(self, host: str, port: int, *, sampled: bool) -> None:
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sampled = sampled
        self.events = 0
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            (
                f"GET /ws/ HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )
        self.wait_for(b"\r\n\r\n")

    def send(self, **frame: object) -> None:
        """Send one masked text frame."""
        payload = json.dumps(frame).encode()
        size = len(payload)
        head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
        self.sock.sendall(head + b"\0\0\0\0" + payload)

    def wait_for(self, needle: bytes, timeout: float = 10.0) -> None:
        """Read until `needle` comes."""
        self.sock.settimeout(timeout)
        data = b""
        while needle not in data:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionError(f"closed while waiting for {needle!r}: {data[-300:]!r}")
            data += piece

    def open(self, token: str, topic: str) -> None:
        """Authenticate and subscribe."""
        self.send(type="connect", token=token)
        self.wait_for(b'"type":"ready"')
        self.send(type="subscribe", topic=topic)
        self.wait_for(b'"type":"subscribed"')
        self.sock.setblocking(False)


class Counter:
    """Counts events on many clients until a deadline or an expected number."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self.clients = {client.sock.fileno(): client for client in clients}
        self.epoll = select.epoll()
        for number in self.clients:
            self.epoll.register(number, select.EPOLLIN)
        self.events = 0
        self.latencies: list[float] = []
        self.closed = 0

    def run(self, until: float, expected: int) -> None:
        """Count until `time.monotonic()` is `until`, or `expected` events came."""
        buffer = bytearray(1 << 18)
        view = memoryview(buffer)
        while self.events < expected and time.monotonic() < until:
            for number, _ in self.epoll.poll(0.1):
                client = self.clients[number]
                size = client.sock.recv_into(buffer)
                if not size:
                    self.epoll.unregister(number)
                    self.closed += 1
                    continue
                # An event cut in two by the read is counted with its second half.
                data = client.buffer + bytes(view[:size])
                count = data.count(MARKER)
                client.events += count
                self.events += count
                # Keep what may be the beginning of a marker.
                client.buffer = data[-(len(MARKER) - 1) :]
                if client.sampled:
                    self._sample(data)

    def _sample(self, data: bytes) -> None:
        now = time.time()
        at = data.rfind(STAMP)
        if at >= 0 and (end := data.find(b"}", at)) > 0:
            self.latencies.append(now - float(data[at + len(STAMP) : end]))


def percentile(values: list[float], share: float) -> float:
    """Return a percentile of values, 0 without any."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
