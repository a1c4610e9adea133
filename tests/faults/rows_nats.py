"""Rows about NATS: 4, 5, 6, 7, 32, and a hole larger than a socket's buffer (9)."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from contextlib import suppress

import msgspec

from realtime.embedded import NatsServer
from realtime.protocol.exceptions import Unavailable
from tests.support.waiting import until

from .client import Follower
from .lab import STREAM, Lab, memory_peak
from .measure import account, arrived, following, stall
from .outcome import Outcome
from .rows import CLUSTER, LOCAL, PROXIED, THREE, Pace, fault

TOPICS = ("room.a", "room.b", "user.1.notifications")


def followers(lab: Lab, count: int) -> list[Follower]:
    """Return followers spread over the web processes."""
    urls = lab.urls
    return [
        Follower([urls[number % len(urls)]], lab.token_of(1), TOPICS, resume=number % 2 == 1)
        for number in range(count)
    ]


async def restart(lab: Lab, pace: Pace) -> Outcome:
    """Kill NATS, bring it back on its port with its store."""
    outcome = Outcome()
    publisher = lab.publisher()
    seconds = pace.of(8, 4)
    async with following(followers(lab, 4)) as clients:
        traffic = asyncio.create_task(publisher.steady(TOPICS, rate=100, seconds=seconds))
        await asyncio.sleep(1)
        lab.nats.kill()
        await asyncio.sleep(1)
        lab.nats.start()
        back = time.monotonic()
        await traffic
        await arrived(clients, publisher.published)
        outcome.figures["recover s"] = _after(clients, back)
        outcome.figures["stall s"] = stall(clients)
        account(outcome, clients, publisher.published)
        outcome.must("sockets stay", not any(client.closes for client in clients))
        # Whoever comes anew is let in: the auth worker is back as well.
        async with Follower(lab.urls[::-1], lab.token_of(1), TOPICS[:1]) as late:
            outcome.must("newcomers are let in", late.joined)
    return outcome


@fault(4, "NATS restart: kill -9, same port and store; a bridge in each web process", LOCAL)
async def nats_restart(lab: Lab, pace: Pace) -> Outcome:
    return await restart(lab, pace)


@fault(4, "NATS restart: kill -9, same port and store; bridges apart, Redis", CLUSTER)
async def nats_restart_cluster(lab: Lab, pace: Pace) -> Outcome:
    return await restart(lab, pace)


@fault(5, "NATS away for 3 minutes", CLUSTER)
async def nats_away(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    async with following(followers(lab, 4)) as clients:
        await publisher.steady(TOPICS, rate=50, seconds=1)
        lab.nats.stop()
        message_id, payload = publisher.run.message(TOPICS[0])
        writing = asyncio.create_task(
            clients[0].publish(TOPICS[0], message_id, payload, timeout=600)
        )
        await until(lambda: clients[0].told["UNAVAILABLE"], 30, what="UNAVAILABLE")
        await asyncio.sleep(pace.of(180, 4))
        lab.nats.start()
        back = time.monotonic()
        await publisher.publish(TOPICS[1])
        await writing
        await arrived(clients, publisher.published)
        outcome.figures["recover s"] = round(time.monotonic() - back, 2)
        outcome.figures["told UNAVAILABLE"] = clients[0].told["UNAVAILABLE"]
        account(outcome, clients, publisher.published)
        outcome.must("sockets stay", not any(client.closes for client in clients))
        async with Follower(lab.urls, lab.token_of(1), TOPICS[:1]) as late:
            outcome.must("newcomers are let in", late.joined)
        outcome.must("nothing gave up", all(one.is_alive() for one in lab.processes))
    return outcome


@fault(6, "NATS black hole: the proxy between stops forwarding", PROXIED)
async def black_hole(lab: Lab, pace: Pace) -> Outcome:
    assert lab.proxy is not None
    outcome = Outcome()
    publisher = lab.publisher()
    web = lab.web[0]
    async with following(followers(lab, 2)) as clients:
        traffic = asyncio.create_task(publisher.steady(TOPICS, rate=50, seconds=pace.of(18, 12)))
        await asyncio.sleep(1)
        lab.proxy.black_hole()
        begun = time.monotonic()
        await until(lambda: web.find("nats disconnected"), 60, what="the black hole to be noticed")
        outcome.figures["notice s"] = round(time.monotonic() - begun, 2)
        outcome.must("noticed < 15 s", time.monotonic() - begun < 15, timed=True)
        await asyncio.sleep(1)
        await lab.proxy.forward()
        back = time.monotonic()
        await traffic
        await arrived(clients, publisher.published)
        outcome.figures["recover s"] = _after(clients, back)
        account(outcome, clients, publisher.published)
        outcome.must("sockets stay", not any(client.closes for client in clients))
    return outcome


@fault(7, "NATS connection reset every 2 s", PROXIED)
async def resets(lab: Lab, pace: Pace) -> Outcome:
    assert lab.proxy is not None
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.writes-{publisher.run.id}"
    async with following(followers(lab, 4)) as clients:
        await lab.proxy.abort_every(pace.of(2, 1))
        seconds = pace.of(12, 5)
        traffic = asyncio.create_task(publisher.steady(TOPICS, rate=100, seconds=seconds))
        writing = []
        for number in range(int(seconds * 10)):
            message_id, payload = publisher.run.message(topic)
            writer = clients[number % len(clients)]
            writing.append(asyncio.create_task(writer.publish(topic, message_id, payload)))
            await asyncio.sleep(0.1)
        await asyncio.gather(traffic, *writing)
        await lab.proxy.forward()
        await arrived(clients, publisher.published)
        written = publisher.published.pop(topic)
        account(outcome, clients, publisher.published)
        outcome.figures["stall s"] = stall(clients)
        outcome.figures["resets"] = lab.proxy.accepted - 1
        outcome.figures["stored of written"] = f"{await lab.stored(topic)}/{len(written)}"
        outcome.must("client publishes stored once", await lab.stored(topic) == len(written))
        outcome.must("sockets stay", not any(client.closes for client in clients))
    return outcome


@fault(9, "cut off from NATS while 10,000 events of 1 KiB are published on one topic", PROXIED)
async def large_hole(lab: Lab, pace: Pace) -> Outcome:
    assert lab.proxy is not None
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.hole-{publisher.run.id}"
    clients = [Follower(lab.urls, lab.token_of(1), [topic]) for _ in range(4)]
    async with following(clients), memory_peak(lab.web[0]) as memory:
        await publisher.burst([topic], 10)
        await lab.proxy.refuse()
        await publisher.burst([topic], int(pace.of(9_900, 5_000)), padding=1024)
        await lab.proxy.forward()
        outcome.figures["repair s"] = await arrived(clients, publisher.published, timeout=60)
        account(outcome, clients, publisher.published)
        outcome.figures["slow closes"] = sum(client.closes.count(4001) for client in clients)
    outcome.figures |= memory
    outcome.must("healthy readers keep their sockets", not any(one.closes for one in clients))
    return outcome


@fault(32, "NATS cluster of three, the stream's leader killed", THREE)
async def leader_killed(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    publisher.timeout = 3.0
    seconds = pace.of(10, 6)
    async with following(followers(lab, 4)) as clients:
        traffic = asyncio.create_task(publisher.steady(TOPICS, rate=100, seconds=seconds))
        # Clients that come and go compare positions with servers that lag.
        roaming = asyncio.create_task(_roam(clients, seconds))
        await asyncio.sleep(seconds / 4)
        leader = await _leader(lab)
        leader.kill()
        killed = time.monotonic()
        await traffic
        await roaming
        await arrived(clients, publisher.published)
        outcome.figures["recover s"] = _after(clients, killed + 0.5)
        outcome.figures["stall s"] = stall(clients)
        outcome.figures["publishes retried"] = publisher.retries
        account(outcome, clients, publisher.published)
    return outcome


async def _roam(clients: list[Follower], seconds: float) -> None:
    for number in range(int(seconds * 4)):
        await asyncio.sleep(0.25)
        clients[number % 2].cut()


async def _leader(lab: Lab) -> NatsServer:
    """Return the server that leads the stream."""

    async def named() -> str | None:
        with suppress(Unavailable):
            reply = await lab.broker.request(f"$JS.API.STREAM.INFO.{STREAM}", b"", timeout=2)
            cluster = msgspec.json.decode(reply.data).get("cluster", {})
            leader: str | None = cluster.get("leader")
            return leader
        return None

    name = await until(named, 20, what="a leader of the stream")
    for server in lab.servers:
        with urllib.request.urlopen(f"{server.monitor_url}/varz", timeout=5) as reply:
            if msgspec.json.decode(reply.read())["server_name"] == name:
                return server
    raise AssertionError(f"no server is called {name}")


def _after(clients: list[Follower], moment: float) -> float:
    """Return the seconds until the last of the clients heard something again."""
    return round(max(client.app.first_after(moment) or 0.0 for client in clients), 2)
