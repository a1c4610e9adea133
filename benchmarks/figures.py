"""What was measured: samples of every peer, round by round, and ratios within the same round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

OURS = "gateway"


@dataclass
class Figure:
    """One column of one workload.

    Attributes:
        key: short and unique.
        title: for people.
        unit: of the samples.
        more_is_better: else less is.
        samples: peer -> one value a round. The rounds of all peers are interleaved.
        busy: peer -> share of a core that the load generator used, median.
        lost: peer -> events that did not arrive in all.
        failed: peer -> why it has fewer turns than the others, or none.
        ours: whose ratio to the others counts.
    """

    key: str
    title: str
    unit: str
    more_is_better: bool = True
    samples: dict[str, list[float]] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    ours: str = OURS
    load_average: float = 0.0

    def median(self, peer: str) -> float | None:
        """Return the median of a peer's rounds, None when it was not there."""
        samples = self.samples.get(peer)
        return median(samples) if samples else None

    def ratio(self, peer: str) -> float | None:
        """Return the median over the rounds of ours / theirs, None when either is missing."""
        ours, theirs = self.samples.get(self.ours, []), self.samples.get(peer, [])
        ratios = [one / other for one, other in zip(ours, theirs, strict=False) if other]
        return median(ratios) if ratios else None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Target:
    """What is to be reached.

    Attributes:
        figure: its key.
        text: for people.
        bound: of the ratio to `peer`; without a peer, of our own median.
        at_least: else at most.
        peer: whose figure ours is divided by.
    """

    figure: str
    text: str
    bound: float
    at_least: bool = True
    peer: str | None = None

    def value(self, figures: Mapping[str, Figure]) -> float | None:
        """Return what was measured, None when it was not."""
        figure = figures.get(self.figure)
        if figure is None:
            return None
        return figure.median(figure.ours) if self.peer is None else figure.ratio(self.peer)

    def reached(self, value: float) -> bool:
        """Say whether a value is enough."""
        return value >= self.bound if self.at_least else value <= self.bound


TARGETS: Sequence[Target] = (
    Target("fanout-500", "fan-out, 500 sockets: 2 × node", 2.0, peer="node"),
    Target(
        "fanout-500",
        "fan-out, 500 sockets: 40 × stock Channels on Daphne",
        40.0,
        peer="channels, daphne",
    ),
    Target("fanout-500", "fan-out, 500 sockets: 0.75 × the C send loop", 0.75, peer="C send loop"),
    Target(
        "fanout-alone",
        "fan-out, 500 sockets, event by event: 0.75 × the C send loop",
        0.75,
        peer="C send loop",
    ),
    Target("fanout-500", "fan-out, 500 sockets: 1.0 × Centrifugo", 1.0, peer="centrifugo"),
    Target(
        "paced-p99",
        "150,000 deliveries/s, 99 % of latency: at most 1.25 × nats-server",
        1.25,
        at_least=False,
        peer="nats-server",
    ),
    Target("burst", "400 events to 500 sockets at once: 5 × nats-server", 5.0, peer="nats-server"),
    Target("unicast-1000", "unicast, 1,000 users: 1.3 × node", 1.3, peer="node"),
    Target("connect", "connect, authenticate, subscribe: 1.0 × node", 1.0, peer="node"),
    Target("memory", "memory of an idle socket: at most 20 KB", 20.0, at_least=False),
    Target("bridge", "bridge through Redis: 5 × stock channels_redis", 5.0, peer="channels_redis"),
    Target(
        "growth-sockets",
        "cost of a delivery, 100 to 10,000 sockets: at most 1.3 ×",
        1.3,
        at_least=False,
    ),
    Target(
        "growth-topics",
        "cost of a delivery, 1 to 10,000 topics: at most 1.3 ×",
        1.3,
        at_least=False,
    ),
)
