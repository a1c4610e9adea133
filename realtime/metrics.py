"""Metrics: what one process counted since it started, in plain numbers.

Nothing here takes a lock or formats anything: the hot path adds to integers, and whoever asks
(prometheus.py) makes what they need of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from msgspec import Struct, field

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of histogram buckets, in seconds."""


class Histogram(Struct):
    """How often a value fell into each bucket; the last one has no upper bound.

    Attributes:
        total: the sum of all values.
    """

    bounds: tuple[float, ...] = LATENCY_BOUNDS
    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    total: float = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, in seconds."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def add(self, other: Histogram) -> None:
        """Take in what another process counted."""
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        ]
        self.total += other.total

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Return the value that a share (0 to 1) of all do not exceed; None without any.

        Interpolated within its bucket, as Prometheus does; beyond the last bound, that bound.
        """
        wanted, seen = share * self.count, 0
        if not wanted:
            return None
        for index, bound in enumerate(self.bounds):
            here = self.counts[index]
            if here and seen + here >= wanted:
                below = self.bounds[index - 1] if index else 0.0
                return below + (bound - below) * (wanted - seen) / here
            seen += here
        return self.bounds[-1]


def counter() -> Counter[str]:
    """Return an empty count by label."""
    return Counter()


class Metrics(Struct):
    """What a process counted.

    Attributes:
        events: taken from the layer, by source: `relay` (stored) or `ephemeral`.
        deliveries: events written to sockets.
        latency: from the stream's timestamp to the write, for each delivery of stored events.
        repeats: events that came again and were dropped.
        holes: read from the stream; `gaps`: of these, what it no longer had.
        redelivered: repeats for want of an acknowledgement.
        compressions: texts compressed, each for all sockets that take it so.
        auth: answers of the backend by outcome: `accepted`, `denied`, `unavailable`.
        published: what clients published, by outcome: `ok`, `duplicate`, `failed`.
        closes: sockets closed by us, by code; `errors`: error frames by code.
        refused: connections refused, by the limit that was reached.
        lag: how late the event loop ran a timer.
        canary: seconds that the last round trip of the canary took; None before the first.
    """

    events: Counter[str] = field(default_factory=counter)
    deliveries: int = 0
    latency: Histogram = field(default_factory=Histogram)
    repeats: int = 0
    holes: int = 0
    gaps: int = 0
    redelivered: int = 0
    compressions: int = 0
    auth: Counter[str] = field(default_factory=counter)
    auth_seconds: Histogram = field(default_factory=Histogram)
    published: Counter[str] = field(default_factory=counter)
    closes: Counter[str] = field(default_factory=counter)
    errors: Counter[str] = field(default_factory=counter)
    refused: Counter[str] = field(default_factory=counter)
    slow_readers: int = 0
    layer_losses: int = 0
    lag: Histogram = field(default_factory=Histogram)
    canary: float | None = None
    canary_failures: int = 0
