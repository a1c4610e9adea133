"""Sockets: how fast they open, what they weigh, and how they come back."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing

from benchmarks.contest import Bench, Contestant, Turn
from benchmarks.figures import Figure
from benchmarks.load import Load
from benchmarks.peers.base import Peer
from benchmarks.peers.gateway import Gateway
from benchmarks.peers.nats_server import STREAM, NatsConsumers
from benchmarks.peers.nchan import Nchan
from benchmarks.peers.node import Node
from realtime.broker import connected

SETTLE = 0.5
"""Seconds for a peer to notice that sockets are gone."""
FIRST = 1000
"""Sockets that are not counted for memory: with them come caches and buffers of every process."""
MISSED = 100
"""Events that each client missed."""


def storm(bench: Bench) -> list[Figure]:
    """Sockets that connect, authenticate and subscribe, 64 at a time."""
    figure = Figure("connect", "connect, authenticate, subscribe", "sockets/s")
    sockets = 1500 if bench.scale.rounds > 1 else 800

    def measure(contestant: Contestant) -> Turn:
        seconds = contestant.load.open(range(sockets))
        contestant.load.close()
        time.sleep(SETTLE)
        return Turn([sockets / seconds])

    with bench.contestants(Gateway, Node, dialect=lambda peer: peer.dialect(None)) as contestants:
        ready = bench.prepare(contestants, [figure], measure)
        bench.contest(ready, [figure], measure)
    return [figure]


def memory(bench: Bench) -> list[Figure]:
    """Resident memory of the serving process for each authenticated, subscribed socket."""
    most = min(10_000, bench.scale.sockets)
    title = f"memory of an idle socket, {FIRST:,} to {most:,}"
    figure = Figure("memory", title, "KB", more_is_better=False)

    def measure(contestant: Contestant) -> Turn:
        load, peer = contestant.load, contestant.peer
        load.open(range(FIRST), timeout=60)
        before = peer.memory()
        load.open(range(FIRST, most), timeout=120)
        time.sleep(SETTLE)
        grown = peer.memory() - before
        load.close()
        return Turn([grown / (most - FIRST) / 1000])

    # Memory that was used once is not given back, so a second round would measure nothing.
    with bench.contestants(Gateway, Node, dialect=lambda peer: peer.dialect(None)) as contestants:
        bench.contest(contestants, [figure], measure, rounds=1)
    return [figure]


def comeback(bench: Bench) -> list[Figure]:
    """Clients that come back all at once, each to 100 events that it missed."""
    users = 400
    figure = Figure("resume", f"{users} clients come back to {MISSED} events each", "deliveries/s")

    def publish(contestant: Contestant) -> None:
        topics = [contestant.peer.topic_of(number) for number in range(users)]
        for _ in range(MISSED):
            contestant.publisher.publish_all(topics)
            contestant.publisher.settle()
        stored(contestant.peer, users * MISSED)

    def measure(contestant: Contestant) -> Turn:
        return back(contestant, users)

    peers = (Gateway, NatsConsumers, Nchan)
    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(None)) as contestants:
        ready = bench.prepare(contestants, [figure], publish)
        bench.contest(ready, [figure], measure)
    return [figure]


def back(contestant: Contestant, users: int) -> Turn:
    """Open, leave, and come back with nothing had yet; return deliveries a second."""
    peer, load = contestant.peer, contestant.load
    if isinstance(peer, Gateway):
        load.open(range(users))
        dialect = peer.resuming(load.clients)
        load.close()
        time.sleep(SETTLE)
    else:
        assert isinstance(peer, NatsConsumers | Nchan)
        dialect = peer.resuming()
    with closing(Load(peer.port, dialect)) as again:
        begun = time.monotonic()
        again.open(range(users))
        last = again.run(users * MISSED, 30)
    return Turn([again.events / (last - begun)], users * MISSED - again.events)


def stored(peer: Peer, events: int) -> None:
    """Wait until the stream of a peer holds that many events.

    Raises:
        TimeoutError: when it does not in half a minute.
    """

    async def wait(url: str, stream: str) -> None:
        async with connected(url, name="benchmark") as broker, asyncio.timeout(30):
            while True:
                info = await broker.stream_info(stream, timeout=5)
                if info is not None and info.state.last >= events:
                    return
                await asyncio.sleep(0.05)

    if isinstance(peer, Gateway | NatsConsumers) and peer.nats is not None:
        name = STREAM if isinstance(peer, NatsConsumers) else "GATEWAY"
        asyncio.run(wait(peer.nats.url, name))
