"""Fan-out: many sockets on one topic: sustained, paced, and in a burst."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.contest import Bench, Contestant, Turn
from benchmarks.figures import Figure
from benchmarks.load import percentile
from benchmarks.peers.base import Peer
from benchmarks.peers.centrifugo import Centrifugo
from benchmarks.peers.channels import OnDaphne, OnUvicorn
from benchmarks.peers.gateway import Gateway
from benchmarks.peers.nats_server import NatsWebSocket
from benchmarks.peers.nchan import Nchan
from benchmarks.peers.node import Node
from benchmarks.peers.sender import JoiningSender, Sender
from benchmarks.peers.socketio import SocketIo
from benchmarks.publisher import paced

TOPIC = "room.bench"
WINDOW = 8
"""Events on their way at once in the sustained workloads: enough that no peer waits for the
publisher where other work delays it for a moment. A peer may join what waits."""
WARM_UP = 0.3
"""Seconds of load before each turn that do not count."""
DRAIN = 5.0
"""Seconds that events may still take when nothing more is published. Not more: the pings of the
other peers are not answered meanwhile."""
RATE = 300
"""Events a second to 500 sockets: 150,000 deliveries a second."""
BURST = 400
BURST_LIMIT = 20.0
"""Seconds that a burst may take. One that is not over by then fails the turn: what came after it
would count for the next one."""


def sustain(
    contestant: Contestant, fan: int, seconds: float, publish: Callable[[], None], window: int
) -> Turn:
    """Keep `window` events on their way for some seconds; return deliveries a second.

    Args:
        fan: sockets that each event goes to.

    Raises:
        ConnectionError: when sockets were closed meanwhile.
    """
    load = contestant.load
    load.forget()
    published = 0
    begun = time.monotonic()
    until = begun + seconds

    def turn() -> None:
        nonlocal published
        while published * fan - load.events <= (window - 1) * fan and time.monotonic() < until:
            publish()
            published += 1

    last = load.run(float("inf"), seconds, turn)
    if load.events < published * fan:
        last = load.run(published * fan, DRAIN)
    if load.closed:
        raise ConnectionError(f"it closed {load.closed} sockets")
    return Turn([load.events / (last - begun)], published * fan - load.events)


def sustained(bench: Bench) -> list[Figure]:
    """500 sockets on one topic, as fast as each peer can; then the same, event by event."""
    figure = Figure("fanout-500", "fan-out, 500 sockets", "deliveries/s")
    alone = Figure("fanout-alone", "fan-out, 500 sockets, event by event", "deliveries/s")
    peers = (
        *(Gateway, Node, Sender, JoiningSender, NatsWebSocket),
        *(Nchan, Centrifugo, SocketIo, OnDaphne, OnUvicorn),
    )
    _sustained(bench, [figure, alone], [WINDOW, 1], 500, *peers)
    return [figure, alone]


def sustained_large(bench: Bench) -> list[Figure]:
    """5,000 sockets on one topic, as fast as each peer can."""
    sockets = min(bench.scale.sockets // 2, bench.scale.room // 3)
    figure = Figure("fanout-5000", f"fan-out, {sockets:,} sockets", "deliveries/s")
    _sustained(bench, [figure], [WINDOW], sockets, Gateway, Node, NatsWebSocket)
    return [figure]


def _sustained(
    bench: Bench,
    figures: Sequence[Figure],
    windows: Sequence[int],
    sockets: int,
    *peers: type[Peer],
) -> None:
    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(TOPIC)) as contestants:
        ready = bench.prepare(contestants, figures, lambda one: one.open(sockets))

        def measure(contestant: Contestant) -> Turn:
            def publish() -> None:
                contestant.publisher.publish(TOPIC)

            sustain(contestant, sockets, WARM_UP, publish, WINDOW)
            turns = [
                sustain(contestant, sockets, bench.scale.seconds, publish, window)
                for window in windows
            ]
            return Turn([turn.values[0] for turn in turns], sum(turn.lost for turn in turns))

        bench.contest(ready, figures, measure)


def at_pace(bench: Bench) -> list[Figure]:
    """300 events a second to 500 sockets: latency from publish to receipt."""
    half = Figure("paced-p50", "150,000 deliveries/s: latency, median", "ms", more_is_better=False)
    most = Figure("paced-p99", "150,000 deliveries/s: latency, 99 %", "ms", more_is_better=False)
    sockets = 500
    events = int(RATE * max(bench.scale.seconds, 2.0))

    def measure(contestant: Contestant) -> Turn:
        load = contestant.load
        load.forget()
        process = paced(contestant.peer.way(), TOPIC, RATE, events)
        load.run(events * sockets, events / RATE + DRAIN)
        process.join(5)
        values = [percentile(load.latencies, share) * 1000 for share in (0.5, 0.99)]
        return Turn(values, events * sockets - load.events)

    peers = (Gateway, NatsWebSocket, Sender, Centrifugo)
    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(TOPIC)) as contestants:
        ready = bench.prepare(contestants, [half, most], lambda one: one.open(sockets))
        bench.contest(ready, [half, most], measure)
    return [half, most]


def burst(bench: Bench) -> list[Figure]:
    """400 events published in one piece to 500 sockets, until the last one is there."""
    figure = Figure("burst", f"{BURST} events at once to 500 sockets", "deliveries/s")
    sockets = 500

    def measure(contestant: Contestant) -> Turn:
        load = contestant.load
        seconds = 0.0
        for number in range(3):
            load.forget()
            begun = time.monotonic()
            contestant.publisher.publish_all([TOPIC] * BURST)
            last = load.run(BURST * sockets, BURST_LIMIT)
            if missing := BURST * sockets - load.events:
                raise TimeoutError(f"{missing:,} events had not come after {BURST_LIMIT:g} s")
            # The first one warms up.
            if number:
                seconds += last - begun
        return Turn([2 * BURST * sockets / seconds])

    peers = (Gateway, NatsWebSocket, Node, Sender, JoiningSender, Centrifugo)
    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(TOPIC)) as contestants:
        ready = bench.prepare(contestants, [figure], lambda one: one.open(sockets))
        bench.contest(ready, [figure], measure)
    return [figure]
