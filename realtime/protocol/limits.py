"""Rate limits: a token bucket without a clock of its own."""

from __future__ import annotations


class RateLimit:
    """Allow `rate` a second on average and `burst` at once.

    Args:
        now: seconds of any steady clock.
    """

    __slots__ = ("_allowance", "_burst", "_rate", "_refilled")

    def __init__(self, rate: float, burst: int, *, now: float = 0.0) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._allowance = float(burst)
        self._refilled = now

    def allows(self, now: float) -> bool:
        """Say whether one more may pass now, and count it if so."""
        earned = max(now - self._refilled, 0.0) * self._rate
        self._refilled = now
        self._allowance = min(self._allowance + earned, self._burst)
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True
