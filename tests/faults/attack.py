"""Attackers, each a process of its own so that it does not slow down who measures.

    python -m tests.faults.attack KIND --port 8000 --token T --sockets 10 --seconds 5

Prints a JSON object: bytes and frames that were taken, and how the connections ended.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import time
from collections.abc import Callable, Iterator

from .wire import CONTINUATION, PING, PONG, TEXT, frame, text, upgrade

BIG = 60_000


def flood(token: str) -> Iterator[bytes]:
    """Frames of 60 kB while authentication is pending."""
    yield text(type="connect", token=token)
    payload = json.dumps({"type": "publish", "topic": "room.x", "messageId": "m", "payload": ""})
    big = frame(TEXT, payload.replace('""', f'"{"x" * BIG}"').encode())
    while True:
        yield big


def fragments(token: str) -> Iterator[bytes]:
    """One message of 200,000 one-byte fragments, a ping after every hundredth."""
    yield text(type="connect", token=token)
    yield frame(TEXT, b"{", fin=False)
    hundred = frame(CONTINUATION, b" ", fin=False) * 100 + frame(PING, b"between")
    for _ in range(2000):
        yield hundred


def pings(token: str) -> Iterator[bytes]:
    """Pings (RFC 6455 §5.5.2) whose answers nobody reads."""
    yield text(type="connect", token=token)
    many = frame(PING, b"x" * 125) * 100
    while True:
        yield many


def pongs(token: str) -> Iterator[bytes]:
    """Empty pongs that nobody asked for: six bytes each, the smallest frames there are."""
    yield text(type="connect", token=token)
    many = frame(PONG) * 1000
    while True:
        yield many


def asks(token: str) -> Iterator[bytes]:
    """`ping` frames of the protocol whose answers nobody reads."""
    yield text(type="connect", token=token)
    many = text(type="ping", id="x" * 100) * 100
    while True:
        yield many


def subscribes(token: str) -> Iterator[bytes]:
    """Subscribe to ever new topics and leave them."""
    yield text(type="connect", token=token)
    number = 0
    while True:
        number += 1
        topic = f"room.flood-{number}"
        yield text(type="subscribe", topic=topic) + text(type="unsubscribe", topic=topic)


KINDS: dict[str, Callable[[str], Iterator[bytes]]] = {
    one.__name__: one for one in (flood, fragments, pings, pongs, asks, subscribes)
}
DEAF = {"pings", "asks"}
"""Attackers that read nothing."""


class Attacker:
    """One socket and what it sends."""

    def __init__(self, kind: str, port: int, token: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(upgrade(port))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(65536)
        self.socket.setblocking(False)
        self.deaf = kind in DEAF
        self.sent = 0
        self.code: int | None = None
        self.open = True
        self._source = KINDS[kind](token)
        self._rest = b""

    def push(self) -> None:
        """Send as much as is taken at once."""
        try:
            for _ in range(16):
                if not self._rest:
                    self._rest = next(self._source, b"")
                    if not self._rest:
                        return
                count = self.socket.send(self._rest)
                self.sent += count
                self._rest = self._rest[count:]
        except BlockingIOError:
            pass
        except OSError:
            self.open = False

    def pull(self) -> None:
        """Read what came and look for a close frame at its end."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        at = data.rfind(b"\x88")
        if at >= 0 and len(data) >= at + 4 and data[at + 1] == len(data) - at - 2:
            self.code = int.from_bytes(data[at + 2 : at + 4], "big")
        if not data:
            self.open = False

    def drain(self) -> None:
        """Read what is left, which may end with a close frame."""
        while self.open and self.code is None and select.select([self.socket], [], [], 0.2)[0]:
            self.pull()


def run(kind: str, port: int, token: str, sockets: int, seconds: float) -> dict[str, object]:
    """Attack for so long, or until every connection is ended."""
    attackers = [Attacker(kind, port, token) for _ in range(sockets)]
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        live = {one.socket: one for one in attackers if one.open}
        if not live:
            break
        readers = [one.socket for one in live.values() if not one.deaf]
        readable, writable, _ = select.select(readers, list(live), [], 0.05)
        for one in readable:
            live[one].pull()
        for one in writable:
            live[one].push()
    for attacker in attackers:
        attacker.drain()
    return {
        "seconds": round(time.monotonic() - begun, 2),
        "most MiB of one socket": round(max(one.sent for one in attackers) / 2**20, 2),
        "MiB": round(sum(one.sent for one in attackers) / 2**20, 1),
        "codes": sorted({one.code for one in attackers if one.code is not None}),
        "open": sum(one.open and one.code is None for one in attackers),
    }


def main() -> None:
    """Attack as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", default="")
    parser.add_argument("--sockets", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    result = run(options.kind, options.port, options.token, options.sockets, options.seconds)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
