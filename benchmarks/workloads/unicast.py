"""Unicast: many users, one topic each."""

from __future__ import annotations

from itertools import cycle, islice

from benchmarks.contest import Bench, Contestant, Turn
from benchmarks.figures import Figure
from benchmarks.peers.base import Peer
from benchmarks.peers.centrifugo import Centrifugo
from benchmarks.peers.gateway import Gateway
from benchmarks.peers.nats_server import NatsWebSocket
from benchmarks.peers.nchan import Nchan
from benchmarks.peers.node import Node
from benchmarks.peers.socketio import SocketIo

from .fanout import WARM_UP, sustain

BATCH = 32
"""Events that are published in one piece, each to another user."""
WINDOW = 16
"""Batches on their way at once."""


def spread(contestant: Contestant, users: int, seconds: float) -> Turn:
    """Publish to one user after the other; return deliveries a second."""
    batch = min(BATCH, users)
    topics = cycle([contestant.peer.topic_of(number) for number in range(users)])
    publisher = contestant.publisher

    def publish() -> None:
        publisher.publish_all(list(islice(topics, batch)))

    return sustain(contestant, batch, seconds, publish, WINDOW)


def thousand(bench: Bench) -> list[Figure]:
    """1,000 users with one topic each, an event for one user at a time."""
    figure = Figure("unicast-1000", "unicast, 1,000 users", "deliveries/s")
    peers: tuple[type[Peer], ...] = (Gateway, Node, NatsWebSocket, Nchan, Centrifugo, SocketIo)
    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(None)) as contestants:
        ready = bench.prepare(contestants, [figure], lambda one: one.open(1000))

        def measure(contestant: Contestant) -> Turn:
            spread(contestant, 1000, WARM_UP)
            return spread(contestant, 1000, bench.scale.seconds)

        bench.contest(ready, [figure], measure)
    return [figure]


def ten_thousand(bench: Bench) -> list[Figure]:
    """The same with as many users as the limit on open files allows, 10,000 at most."""
    users = min(10_000, bench.scale.sockets)
    figure = Figure("unicast-10000", f"unicast, {users:,} users", "deliveries/s")
    peers = (Gateway, Node, NatsWebSocket)

    def measure(contestant: Contestant) -> Turn:
        # One at a time: together they would be more sockets than a process may open.
        contestant.open(users)
        spread(contestant, users, WARM_UP)
        turn = spread(contestant, users, bench.scale.seconds)
        contestant.load.close()
        return turn

    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(None)) as contestants:
        bench.contest(contestants, [figure], measure)
    return [figure]
