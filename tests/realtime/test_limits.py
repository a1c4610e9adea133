"""The token bucket: never more than it says, never less than it owes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.limits import Meter, RateLimit, Rates

steps = st.lists(st.floats(0, 10), min_size=1, max_size=60)
rates = st.floats(0.1, 100)
bursts = st.integers(1, 20)


@given(steps, rates, bursts)
def test_allows_any_pace_never_exceeds_burst_and_rate(
    waits: list[float], rate: float, burst: int
) -> None:
    limit = RateLimit(rate, burst)
    now, passed = 0.0, 0
    for wait in waits:
        now += wait
        passed += limit.allows(now)
        assert passed <= burst + rate * now + 1e-6


def test_allows_burst_at_once_and_no_more() -> None:
    limit = RateLimit(5.0, 3, now=100.0)
    assert [limit.allows(100.0) for _ in range(5)] == [True, True, True, False, False]


@given(rates, bursts)
def test_allows_at_the_rate_always_passes(rate: float, burst: int) -> None:
    limit = RateLimit(rate, burst)
    # A hair slower than the rate, for the rounding of floats.
    assert all(limit.allows(number / rate * 1.001) for number in range(1, 50))


def test_allows_refused_does_not_use_up_the_allowance() -> None:
    limit = RateLimit(1.0, 1)
    assert limit.allows(0.0)
    assert not any(limit.allows(0.09 * number) for number in range(1, 12))
    assert limit.allows(1.01)


def test_allows_long_silence_earns_no_more_than_the_burst() -> None:
    limit = RateLimit(1.0, 2)
    assert [limit.allows(1e6) for _ in range(3)] == [True, True, False]


def test_allows_clock_going_back_gives_nothing() -> None:
    limit = RateLimit(1.0, 1, now=100.0)
    assert limit.allows(100.0)
    assert not limit.allows(50.0)
    assert not limit.allows(50.5)
    assert limit.allows(51.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50)), min_size=1, max_size=60))
def test_check_any_pace_never_exceeds_frames_and_bytes(sent: list[tuple[float, int]]) -> None:
    meter = Meter(Rates(2.0, 5, 20.0, 60), "This socket", now=0.0)
    now, frames, size = 0.0, 0, 0
    for wait, length in sent:
        now += wait
        if meter.check(length, now=now) is None:
            frames, size = frames + 1, size + length
        assert frames <= 5 + 2.0 * now + 1e-6
        assert size <= 60 + 20.0 * now + 1e-6
