"""When to come back: exponential backoff with full jitter.

Full jitter (a uniform draw from zero to the ceiling) spreads the clients of a gateway that went
away the furthest: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """The delays between connections. All times in seconds.

    Attributes:
        base: ceiling of the first delay.
        cap: highest ceiling.
        stable_after: a connection this old starts the count anew.
        draw: uniform in [0, 1).
    """

    base: float = 0.5
    cap: float = 30.0
    stable_after: float = 10.0
    draw: Callable[[], float] = random.random
    failures: int = field(default=0, init=False)

    def ended(self, lived: float) -> bool:
        """Note that a connection, open for so many seconds, ended; say whether it was stable."""
        stable = lived >= self.stable_after
        if stable:
            self.failures = 0
        return stable

    def next(self) -> float:
        """Return the next delay, and count one failure more."""
        # Beyond 2^32 the cap has long been reached, and a float would overflow some day.
        ceiling = min(self.cap, self.base * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return self.draw() * ceiling
