"""Growth: what a delivery costs the serving process when there is more of everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.contest import Bench, Contestant, Turn
from benchmarks.figures import Figure
from benchmarks.peers.base import Peer
from benchmarks.peers.gateway import Gateway, ManyRules
from benchmarks.peers.node import Node

from .fanout import TOPIC, WARM_UP, sustain

Play = Callable[[Contestant, int], Turn]


def cost(contestant: Contestant, play: Callable[[float], Turn], seconds: float) -> float:
    """Return processor time a delivery, in microseconds."""
    play(WARM_UP)
    before = contestant.peer.cpu()
    play(seconds)
    return (contestant.peer.cpu() - before) / max(contestant.load.events, 1) * 1e6


def sockets(bench: Bench) -> list[Figure]:
    """One topic, 100 to 10,000 sockets."""

    def play(contestant: Contestant, size: int) -> float:
        def once(seconds: float) -> Turn:
            return sustain(
                contestant, size, seconds, lambda: contestant.publisher.publish(TOPIC), 1
            )

        return cost(contestant, once, bench.scale.seconds)

    return _grow(bench, "sockets", (100, 1000, 10_000), TOPIC, play)


def topics(bench: Bench) -> list[Figure]:
    """1 to 10,000 topics with one socket each, one event at a time."""

    def play(contestant: Contestant, size: int) -> float:
        names = [contestant.peer.topic_of(number) for number in range(size)]
        sent = 0

        def publish() -> None:
            nonlocal sent
            contestant.publisher.publish(names[sent % size])
            sent += 1

        return cost(
            contestant,
            lambda seconds: sustain(contestant, 1, seconds, publish, 1),
            bench.scale.seconds,
        )

    return _grow(bench, "topics", (1, 100, 1000, 10_000), None, play)


def _grow(
    bench: Bench,
    what: str,
    sizes: Sequence[int],
    topic: str | None,
    play: Callable[[Contestant, int], float],
) -> list[Figure]:
    sizes = sorted({min(size, bench.scale.sockets) for size in sizes})
    figures = [
        Figure(
            f"cost-{what}-{size}",
            f"cost of a delivery, {size:,} {what if size > 1 else what[:-1]}",
            "µs",
            more_is_better=False,
        )
        for size in sizes
    ]

    def measure(contestant: Contestant) -> Turn:
        costs = []
        for size in sizes:
            contestant.open(size)
            costs.append(play(contestant, size))
            contestant.load.close()
        return Turn(costs)

    with bench.contestants(Gateway, Node, dialect=lambda peer: peer.dialect(topic)) as contestants:
        # Opening so many takes long, and processor time varies less than rates do.
        bench.contest(contestants, figures, measure, rounds=min(bench.scale.rounds, 2))
    return [*figures, _growth(f"growth-{what}", what, figures[0], figures[-1])]


def _growth(key: str, what: str, small: Figure, large: Figure) -> Figure:
    """Return how much dearer a delivery is at the large end, round by round."""
    title = f"growth of that cost with {what}"
    figure = Figure(key, title, "×", more_is_better=False, load_average=large.load_average)
    for name, costs in small.samples.items():
        pairs = zip(large.samples.get(name, []), costs, strict=False)
        figure.samples[name] = [dear / cheap for dear, cheap in pairs if cheap]
    return figure


def rules(bench: Bench) -> list[Figure]:
    """2 and 200 rules a user: what a connect costs, since deliveries ask no rules."""
    figure = Figure(
        "cost-rules",
        "cost of a connect, 2 and 200 rules a user",
        "ms",
        more_is_better=False,
        ours=ManyRules.name,
    )

    def measure(contestant: Contestant) -> Turn:
        before = contestant.peer.cpu()
        contestant.open(500)
        spent = contestant.peer.cpu() - before
        contestant.load.close()
        return Turn([spent / 500 * 1000])

    def dialect(peer: Peer) -> object:
        return peer.dialect(None)

    with bench.contestants(Gateway, ManyRules, dialect=dialect) as contestants:
        ready = bench.prepare(contestants, [figure], measure)
        bench.contest(ready, [figure], measure)
    return [figure]
