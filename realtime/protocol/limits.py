"""Rate limits: token buckets without a clock of their own."""

from __future__ import annotations

from msgspec import Struct

from .exceptions import RateLimited


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


class Rates(Struct, frozen=True):
    """What a sender may send: frames and bytes a second, and at once."""

    frames: float
    frame_burst: int
    bytes: float
    byte_burst: int


class Meter:
    """Counts what one sender sends: a socket, or all sockets of a user in a process.

    Args:
        whose: names the sender in errors.
        now: seconds of any steady clock.
    """

    # Plain numbers, since every socket has one.
    __slots__ = ("_bytes", "_frames", "_rates", "_refilled", "_whose")

    def __init__(self, rates: Rates, whose: str, *, now: float) -> None:
        self._rates = rates
        self._whose = whose
        self._frames = float(rates.frame_burst)
        self._bytes = float(rates.byte_burst)
        self._refilled = now

    def check(self, size: int, *, now: float) -> RateLimited | None:
        """Count a frame of `size` bytes; return the error if it is one too many."""
        rates = self._rates
        passed = max(now - self._refilled, 0.0)
        self._refilled = now
        self._frames = min(self._frames + passed * rates.frames, rates.frame_burst)
        self._bytes = min(self._bytes + passed * rates.bytes, rates.byte_burst)
        if self._frames < 1.0:
            return self._error(f"frames: at most {rates.frames:g}")
        if self._bytes < size:
            return self._error(f"bytes: at most {rates.bytes:g}")
        self._frames -= 1.0
        self._bytes -= size
        return None

    def _error(self, what: str) -> RateLimited:
        return RateLimited(
            f"{self._whose} sends too many {what} a second. This frame was dropped: slow down."
        )
