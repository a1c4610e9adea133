"""What each step of an event's way costs the web process, in microseconds.

The gateway's own parts, without network and without other processes: bytes as nats-server sends
them go in, one event for each of 1,000 topics with one socket each. The steps are measured from
the first to the last, each time with one more of them; the least of several rounds counts.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import uvloop

from realtime.bridge import Bridge
from realtime.delivery import Delivery
from realtime.fanout import Fanout, FanoutOptions
from realtime.layers import InProcessChannelLayer
from realtime.metrics import Metrics
from realtime.nats_client import DirectClient, Message, Subscription
from realtime.patterns import Patterns
from realtime.protocol.messages import relayed_event
from realtime.protocol.subjects import Subjects

from .publisher import payload_of

TOPICS = 1000
ROUNDS = 40
READ = 32768
"""Bytes that nats-py reads at once."""
SUBJECTS = Subjects("gateway")
DURABLE = ("user.>",)

Handler = Callable[[Message], Awaitable[None]]


def topic_of(number: int) -> str:
    return f"user.{number}.notifications"


def wire(first: int) -> list[bytes]:
    """Return one event for each topic as nats-server sends it, in pieces as they are read."""
    messages = []
    for number in range(TOPICS):
        sequence = first + number
        headers = (
            "NATS/1.0\r\nNats-Stream: GATEWAY\r\n"
            f"Nats-Subject: {topic_of(number)}\r\nNats-Sequence: {sequence}\r\n"
            "Nats-Time-Stamp: 2026-11-21T12:18:09.123456789Z\r\n"
            f"Nats-Last-Sequence: {max(sequence - TOPICS, 0)}\r\n\r\n"
        ).encode()
        payload = payload_of(sequence)
        subject = SUBJECTS.relay_of(topic_of(number))
        sizes = f"{len(headers)} {len(headers) + len(payload)}"
        messages.append(f"HMSG {subject} 1 {sizes}\r\n".encode() + headers + payload + b"\r\n")
    data = b"".join(messages)
    return [data[at : at + READ] for at in range(0, len(data), READ)]


class Counting:
    """A socket that counts what is written to it, and drops it."""

    congested = False

    def __init__(self, tally: SimpleNamespace) -> None:
        self._tally = tally

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        self._tally.events += len(texts)


class Sending(Counting):
    """A socket that sends on TCP to this machine."""

    def __init__(self, tally: SimpleNamespace, listener: socket.socket) -> None:
        super().__init__(tally)
        self.near = socket.create_connection(listener.getsockname())
        self.near.setblocking(False)
        self.far, _ = listener.accept()

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        self._tally.events += len(texts)
        self.near.send(frames)


async def timed(
    client: DirectClient, tally: SimpleNamespace, after: Callable[[], None] = lambda: None
) -> float:
    """Feed rounds of events; return the least processor time for one event, in microseconds."""
    best = float("inf")
    for number in range(ROUNDS):
        pieces = wire(number * TOPICS + 1)
        tally.events = 0
        begun = time.process_time()
        for piece in pieces:
            await client._ps.parse(piece)
            await asyncio.sleep(0)
        while tally.events < TOPICS:
            await asyncio.sleep(0)
        best = min(best, time.process_time() - begun)
        after()
    return best / TOPICS * 1e6


def client_with(handler: Handler) -> DirectClient:
    """Return a NATS client without a connection; everything that comes goes to a handler."""
    client = DirectClient()
    client._subs[1] = Subscription(">", "", handler)
    return client


async def parsing(tally: SimpleNamespace) -> float:
    class Deaf(DirectClient):
        async def _process_msg(self, *message: Any) -> None:
            tally.events += 1

    return await timed(Deaf(), tally)


async def headers(tally: SimpleNamespace) -> float:
    async def handler(message: Message) -> None:
        tally.events += 1

    return await timed(client_with(handler), tally)


async def events(tally: SimpleNamespace) -> float:
    async def handler(message: Message) -> None:
        relayed_event(SUBJECTS.topic_of(message.subject), message.data, message.head)
        tally.events += 1

    return await timed(client_with(handler), tally)


class Silent:
    """A history without events, and a broker without a connection."""

    epoch = "2026-11-21"

    async def top(self, topic: str) -> int:
        return 0

    async def info(self) -> SimpleNamespace:
        return SimpleNamespace(created=self.epoch, state=SimpleNamespace(last=10**9))

    async def tops(self, topics: Sequence[str]) -> dict[str, int]:
        return {}

    async def subscribe(self, subject: str, handler: Handler, **options: Any) -> Subscription:
        return Subscription(subject, "", handler)


async def fanned(
    tally: SimpleNamespace, sockets: Sequence[Any], after: Callable[[], None]
) -> float:
    """Run the whole way down into these sockets, one for each topic."""
    silent: Any = Silent()
    layer = InProcessChannelLayer()
    bridge = Bridge(silent, layer, SUBJECTS, durable_topics=DURABLE, open_topics=("user",))
    options = FanoutOptions(
        durable_topics=DURABLE, hold=0.025, check_interval=3600, linger=60, ring_events=128
    )
    patterns = Patterns(silent, silent, SUBJECTS, durable_topics=DURABLE)
    fanout = Fanout(layer, silent, bridge, options, Metrics(), patterns=patterns)
    await fanout.start()
    for number, wanted in enumerate(sockets):
        feed = await fanout.join(topic_of(number))
        Delivery(feed, wanted, 0).start()
    cost = await timed(client_with(bridge._stored), tally, after)
    await fanout.stop()
    return cost


async def counted(tally: SimpleNamespace) -> float:
    return await fanned(tally, [Counting(tally) for _ in range(TOPICS)], lambda: None)


async def sent(tally: SimpleNamespace) -> float:
    with socket.create_server(("127.0.0.1", 0), backlog=TOPICS) as listener:
        sockets = [Sending(tally, listener) for _ in range(TOPICS)]

    def read() -> None:
        for one in sockets:
            one.far.recv(READ)

    try:
        return await fanned(tally, sockets, read)
    finally:
        for one in sockets:
            one.near.close()
            one.far.close()


STEPS = (
    ("NATS protocol: control line, headers and payload cut out", parsing),
    ("message made, handler called", headers),
    ("headers read, payload checked, frame encoded (relayed_event)", events),
    ("bridge, channel layer, chain, ring, framing", counted),
    ("send on the socket", sent),
)


async def run() -> list[tuple[str, float]]:
    """Return the steps and their sum, each with its cost in microseconds."""
    costs = []
    before = 0.0
    for name, step in STEPS:
        cost = await step(SimpleNamespace(events=0))
        costs.append((name, cost - before))
        before = cost
    return [*costs, ("together", before)]


def measure() -> list[tuple[str, float]]:
    """Return what `run` does, on the event loop that the gateway uses."""
    return uvloop.run(run())
