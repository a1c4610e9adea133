"""Rows about bridges, Redis and the channel layer: 1, 3, 8, 9."""

from __future__ import annotations

import asyncio
import time

from tests.support.waiting import until

from .client import Follower
from .lab import Lab
from .measure import account, arrived, following, stall
from .outcome import Outcome
from .rows import CLUSTER, Pace, fault

TOPICS = ("room.a", "room.b", "room.c", "user.1.notifications")


def followers(lab: Lab, count: int, *, resume: bool = False) -> list[Follower]:
    """Return followers of all topics, spread over the web processes."""
    urls = lab.urls
    return [
        Follower(urls[number % len(urls) :] + urls, lab.token_of(1), TOPICS, resume=resume)
        for number in range(count)
    ]


@fault(1, "bridge crash: kill -9 mid-stream, first one of two, then the other", CLUSTER)
async def bridge_crash(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    seconds = pace.of(8, 4)
    async with following(followers(lab, 4)) as clients:
        traffic = asyncio.create_task(publisher.steady(TOPICS, rate=200, seconds=seconds))
        one, other = lab.bridges
        await asyncio.sleep(seconds / 4)
        one.kill()
        await asyncio.sleep(seconds / 4)
        other.kill()
        await asyncio.sleep(seconds / 4)
        one.start()
        other.start()
        begun = time.monotonic()
        await asyncio.gather(lab.ready(one), lab.ready(other), traffic)
        await arrived(clients, publisher.published)
        outcome.figures["recover s"] = round(time.monotonic() - begun, 2)
        outcome.figures["stall s"] = stall(clients)
        account(outcome, clients, publisher.published)
    return outcome


@fault(3, "bridge frozen: SIGSTOP one of two for 20 s, SIGCONT", CLUSTER)
async def bridge_frozen(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    frozen = pace.of(20, 3)
    async with following(followers(lab, 4)) as clients:
        traffic = asyncio.create_task(publisher.steady(TOPICS, rate=100, seconds=frozen + 3))
        await asyncio.sleep(1)
        lab.bridges[0].pause()
        await asyncio.sleep(frozen)
        lab.bridges[0].resume()
        await traffic
        outcome.figures["caught up s"] = await arrived(clients, publisher.published)
        # What the frozen one still had comes now, late; a new event shows that it is through.
        await publisher.steady(TOPICS, rate=50, seconds=1)
        await arrived(clients, publisher.published)
        outcome.figures["stall s"] = stall(clients)
        account(outcome, clients, publisher.published)
        outcome.must("late events dropped: dup raw 0", outcome.figures["dup raw"] == 0)
    return outcome


@fault(8, "Redis restart: kill -9, empty again after 1 s", CLUSTER)
async def redis_restart(lab: Lab, pace: Pace) -> Outcome:
    assert lab.redis is not None
    outcome = Outcome()
    publisher = lab.publisher()
    seconds = pace.of(8, 4)
    async with following(followers(lab, 4)) as clients:
        traffic = asyncio.create_task(publisher.steady(TOPICS, rate=100, seconds=seconds))
        await asyncio.sleep(1)
        lab.redis.kill()
        await asyncio.sleep(1)
        lab.redis.start()
        begun = time.monotonic()
        await traffic
        await arrived(clients, publisher.published)
        outcome.figures["recover s"] = _after(clients, begun)
        outcome.figures["stall s"] = stall(clients)
        account(outcome, clients, publisher.published)
    return outcome


@fault(8, "Redis frozen: SIGSTOP 5 s, SIGCONT; the last event falls into it", CLUSTER)
async def redis_frozen(lab: Lab, pace: Pace) -> Outcome:
    assert lab.redis is not None
    outcome = Outcome()
    publisher = lab.publisher()
    async with following(followers(lab, 4)) as clients:
        await publisher.steady(TOPICS, rate=100, seconds=1)
        lab.redis.pause()
        try:
            # Nothing follows these, so only the stream can tell that they were lost.
            await publisher.steady(TOPICS, rate=100, seconds=1)
            outcome.figures["found s"] = await arrived(clients, publisher.published)
            await asyncio.sleep(pace.of(4, 1))
        finally:
            lab.redis.resume()
        await publisher.steady(TOPICS, rate=100, seconds=2)
        await arrived(clients, publisher.published)
        account(outcome, clients, publisher.published)
        outcome.must("lost events found < 10 s", float(outcome.figures["found s"]) < 10, timed=True)
    return outcome


@fault(8, "web process started while Redis is away", CLUSTER)
async def redis_away_at_start(lab: Lab, pace: Pace) -> Outcome:
    assert lab.redis is not None
    outcome = Outcome()
    publisher = lab.publisher()
    lab.web[0].stop()
    lab.redis.kill()
    lab.web[0].start()
    # It accepts connections before it is ready: so long it has tried to reach Redis.
    await until(lambda: _listens(lab), 30, what="the web process to listen")
    await asyncio.sleep(pace.of(5, 3))
    lab.redis.start()
    begun = time.monotonic()
    follower = Follower(lab.urls[:1], lab.token_of(1), TOPICS)
    try:
        await follower.start()
        outcome.figures["recover s"] = round(time.monotonic() - begun, 2)
        await publisher.steady(TOPICS, rate=50, seconds=1)
        await arrived([follower], publisher.published)
        account(outcome, [follower], publisher.published)
    except AssertionError:
        outcome.figures["told"] = str(dict(follower.told))
    finally:
        await follower.stop()
    outcome.must("it serves once Redis is back", "recover s" in outcome.figures)
    if "recover s" not in outcome.figures:
        lab.web[0].kill()  # it will never serve; `restore` starts it again
    return outcome


@fault(9, "layer overflow: a burst of 10 times its capacity while Redis stands still", CLUSTER)
async def layer_overflow(lab: Lab, pace: Pace) -> Outcome:
    assert lab.redis is not None
    outcome = Outcome()
    publisher = lab.publisher()
    # 10,000 messages wait in a bridge at most; so many topics that the stream keeps them all.
    count = int(pace.of(100_000, 30_000))
    topics = [f"room.burst-{number}" for number in range(20)]
    clients = [Follower([url], lab.token_of(1), topics) for url in lab.urls]
    async with following(clients):
        lab.redis.pause()
        try:
            await publisher.burst(topics, count)
        finally:
            lab.redis.resume()
        before = sum(count - follower.app.count() for follower in clients)
        outcome.figures["missing when Redis is back"] = before
        outcome.figures["repair s"] = await arrived(clients, publisher.published, timeout=120)
        account(outcome, clients, publisher.published)
        outcome.figures["slow closes"] = sum(one.closes.count(4001) for one in clients)
        outcome.must("healthy readers keep their sockets", not outcome.figures["slow closes"])
    return outcome


def _listens(lab: Lab) -> bool:
    try:
        lab.web[0].wait_port(lab.ports[0], timeout=0.01)
    except AssertionError:
        return False
    return True


def _after(clients: list[Follower], moment: float) -> float:
    """Return the seconds until the last of the clients heard something again."""
    return round(max(client.app.first_after(moment) or 0.0 for client in clients), 2)
