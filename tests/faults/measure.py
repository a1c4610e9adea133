"""What is measured of every row: what was lost, and how long it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from tests.support.waiting import until

from .client import Follower
from .lab import Lab
from .outcome import Outcome

Published = Mapping[str, Sequence[str]]


@asynccontextmanager
async def following(followers: Iterable[Follower]) -> AsyncIterator[list[Follower]]:
    """Start followers together, and stop them."""
    async with AsyncExitStack() as stack:
        yield list(
            await asyncio.gather(*(stack.enter_async_context(follower) for follower in followers))
        )


async def arrived(
    followers: Sequence[Follower], published: Published, timeout: float = 60.0
) -> float:
    """Wait until every follower has all of its topics; return the seconds that took.

    When the time is over it returns all the same: what is missing is counted as lost.
    """
    begun = time.monotonic()

    def complete() -> bool:
        return all(
            one.app.has_all({topic: ids for topic, ids in published.items() if topic in one.topics})
            for one in followers
        )

    with suppress(AssertionError):
        await until(complete, timeout)
    return round(time.monotonic() - begun, 2)


def account(
    outcome: Outcome, followers: Sequence[Follower], published: Published, *, gaps: bool = False
) -> None:
    """Note what was lost, repeated, out of order or leaked; nothing may be.

    Repeats at the socket are allowed: the application does not see them.

    Args:
        gaps: the row makes events impossible to have, so that `gap` frames are right.
    """
    reports = [follower.report(published) for follower in followers]
    outcome.figures |= {
        "lost": sum(len(app.lost) for _, app in reports),
        "dup": sum(len(app.duplicated) for _, app in reports),
        "dup raw": sum(len(raw.duplicated) for raw, _ in reports),
        "misordered": sum(len(app.misordered) for _, app in reports),
        "leaked": sum(len(raw.leaked) for raw, _ in reports),
        "of": sum(app.received for _, app in reports),
    }
    for name in ("lost", "dup", "misordered", "leaked"):
        outcome.must(f"{name} 0", outcome.figures[name] == 0)
    broken = sum(one.silent_gaps + (0 if gaps else len(one.gaps)) for one in followers)
    outcome.must("no gap", broken == 0)
    false_resets = sum(len(one.resets) for one in followers)
    outcome.must("no false reset", gaps or false_resets == 0)


def stall(followers: Iterable[Follower]) -> float:
    """Return the longest time that any follower heard nothing, in seconds."""
    return round(max(follower.app.longest_silence() for follower in followers), 2)


def percentile(values: Iterable[float], share: float) -> float:
    """Return a percentile of values, 0 without any."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


@asynccontextmanager
async def bystander(
    lab: Lab, outcome: Outcome, *, rate: float = 50.0, bound: float | None = 1.0
) -> AsyncIterator[Follower]:
    """Have a client follow steady traffic meanwhile, and note what became of it.

    Args:
        rate: events a second.
        bound: seconds that its p99 latency must stay below; None: no bound.
    """
    publisher = lab.publisher()
    topic = f"room.bystander-{publisher.run.id}"
    async with Follower([lab.ws_url()], lab.token_of(2), [topic]) as follower:
        traffic = asyncio.create_task(publisher.steady([topic], rate=rate, seconds=3600))
        try:
            yield follower
        finally:
            traffic.cancel()
            await asyncio.gather(traffic, return_exceptions=True)
        # The last ones may have been cancelled before they were sent.
        sent = publisher.published.get(topic, [])
        held = await lab.stored(topic)
        await until(lambda: follower.app.count(topic) >= held, 60, what="the bystander's events")
        p99 = percentile(follower.delays, 0.99)
        outcome.figures["bystander p99 ms"] = round(p99 * 1000, 1)
        outcome.figures["bystander lost"] = held - follower.app.count(topic)
        outcome.must("bystander keeps its socket", not follower.closes and len(sent) > 0)
        if bound is not None:
            outcome.must(f"bystander p99 < {bound * 1000:g} ms", p99 < bound, timed=True)
