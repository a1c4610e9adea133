"""What compression costs the web process, and what it saves, at one flush to many sockets.

    python -m benchmarks.compression

One event goes to 500 connections on this machine: as it is, and compressed for all of them. The
data is a list of a shop's orders; how much is saved hangs on what is sent. Processor time is the
median of rounds that take turns: what the kernel does in `send` varies, so the least would be luck.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import uvloop

from realtime.compression import Compressor
from realtime.delivery import Delivery
from realtime.feed import Feed, Shared
from realtime.metrics import Metrics
from realtime.protocol.deflate import frame_deflated
from realtime.protocol.messages import LAST_SEQUENCE, SEQUENCE, TIME_STAMP, Event, event_from
from realtime.protocol.websocket import frame_text

from . import machine
from .path import READ, Sending
from .peers.base import allow_many_files

SOCKETS = 500
SIZES = (150, 4096)
ROUNDS = 60
TOPIC = "room.orders"
STATES = ("accepted", "paid", "packed", "shipped", "delivered", "returned")
PLACES = ("Berlin", "Hamburg", "Lyon", "Turin", "Graz", "Basel", "Porto")
HOST = "127.0.0.1"


class Compressing(Sending):
    """A socket whose client agreed to compression."""

    def __init__(
        self, tally: SimpleNamespace, listener: socket.socket, compressor: Compressor
    ) -> None:
        super().__init__(tally, listener)
        self._compressor = compressor

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        super().write(self._compressor.frames(texts), texts)


class Cost(NamedTuple):
    """Bytes of a payload and of its frame; microseconds of a compression and of a flush."""

    payload: int
    plain_bytes: int
    compressed_bytes: int
    compression: float
    plain: float
    compressed: float


def payload_of(number: int, size: int) -> bytes:
    """Return as many orders as fit into so many bytes of JSON, the same for the same number."""
    choose = random.Random(number)
    orders: list[dict[str, Any]] = []
    payload = b"[]"
    while len(payload) <= size:
        fits = payload
        order = choose.randrange(10**6)
        state, place = choose.choice(STATES), choose.choice(PLACES)
        orders.append({"order": order, "state": state, "to": place, "cents": order % 9973})
        payload = json.dumps(orders, separators=(",", ":")).encode()
    return fits


def event_of(number: int, payload: bytes) -> Event:
    """Return an event as the stream republishes it."""
    headers = {
        SEQUENCE: str(number + 1),
        LAST_SEQUENCE: str(number),
        TIME_STAMP: "2026-11-21T12:18:09.123456789Z",
    }
    return event_from(TOPIC, payload, headers)


def timed(work: Callable[[], object]) -> float:
    """Return the processor time of a call, in microseconds."""
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1e6


def feed_with(sockets: Sequence[Sending]) -> Feed:
    """Return a topic with live sockets."""
    history: Any = None  # nobody catches up here
    feed = Feed(TOPIC, True, Shared(history, Metrics(), 128))
    for one in sockets:
        Delivery(feed, cast(Any, one), 0).start()
    return feed


async def measure(sockets: int = SOCKETS, rounds: int = ROUNDS) -> list[Cost]:
    """Return what a flush costs, for each size of payload."""
    tally = SimpleNamespace(events=0)
    compressor = Compressor(Metrics(), 0)
    with socket.create_server((HOST, 0), backlog=sockets) as listener:
        plain = [Sending(tally, listener) for _ in range(sockets)]
        compressing = [Compressing(tally, listener, compressor) for _ in range(sockets)]
    try:
        return [_cost(size, plain, compressing, rounds) for size in SIZES]
    finally:
        for one in (*plain, *compressing):
            one.near.close()
            one.far.close()


def _cost(size: int, plain: Sequence[Sending], compressing: Sequence[Sending], rounds: int) -> Cost:
    ways = [(feed_with(sockets), sockets) for sockets in (plain, compressing)]
    costs: list[tuple[float, ...]] = []
    for number in range(rounds):
        payload = payload_of(number, size)
        event = event_of(number, payload)
        framed = frame_deflated(event.text)
        spent = [timed(partial(frame_deflated, event.text))]
        for feed, sockets in ways:
            feed.push(event)
            spent.append(timed(feed.flush))
            for it in sockets:
                it.far.recv(READ)
        costs.append((len(payload), len(frame_text(event.text)), len(framed), *spent))
    medians = list(map(median, zip(*costs, strict=True)))
    return Cost(*map(round, medians[:3]), *medians[3:])


def main() -> None:
    allow_many_files()
    about = machine.describe()
    print(", ".join(about[name] for name in ("date", "processor", "python", "commit")))
    for cost in uvloop.run(measure()):
        saved = 1 - cost.compressed_bytes / cost.plain_bytes
        print(
            f"payload {cost.payload} bytes: frame {cost.plain_bytes} -> {cost.compressed_bytes}"
            f" bytes ({saved:.0%} saved); compressing it {cost.compression:.0f} us;"
            f" flush to {SOCKETS} sockets"
            f" {cost.plain / 1000:.2f} -> {cost.compressed / 1000:.2f} ms"
        )


if __name__ == "__main__":
    main()
