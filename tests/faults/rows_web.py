"""Rows about web processes and what their clients do: 2, 27, 28, 30, 31."""

from __future__ import annotations

import asyncio
import itertools
import time
import urllib.request
from contextlib import suppress
from functools import partial

from tests.support.client import TestClient
from tests.support.processes import ManageProcess
from tests.support.recorder import Run
from tests.support.waiting import until

from .backend import Publisher
from .client import Follower
from .lab import Lab, memory_peak
from .measure import account, arrived, bystander, following, stall
from .outcome import Outcome
from .rows import IMPATIENT, LOCAL, ONE, Pace, fault

TOPICS = ("room.a", "room.b", "user.1.notifications")
GRACE = 10.0
"""Seconds that a process manager waits after SIGTERM: docker's default."""
SLACK_MIB = 8.0
"""Memory that a web process may take for what it does anyhow."""


def spread(lab: Lab, count: int) -> list[Follower]:
    """Return followers spread over the web processes; every other one comes back by `resume`."""
    urls = lab.urls
    return [
        Follower(
            urls[number % len(urls) :] + urls[: number % len(urls)],
            lab.token_of(1),
            TOPICS,
            resume=number % 4 > 1,
        )
        for number in range(count)
    ]


@fault(2, "web process crash: kill -9 one of two", LOCAL)
async def web_crash(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    seconds = pace.of(6, 4)
    async with following(spread(lab, 8)) as clients:
        traffic = asyncio.create_task(publisher.steady(TOPICS, rate=100, seconds=seconds))
        await asyncio.sleep(seconds / 3)
        lab.web[0].kill()
        killed = time.monotonic()
        hit = clients[::2]
        await until(lambda: all(one.readies > 1 and one.joined for one in hit), 60)
        outcome.figures["reconnected s"] = round(time.monotonic() - killed, 2)
        await traffic
        await arrived(clients, publisher.published)
        outcome.figures["stall s"] = stall(clients)
        account(outcome, clients, publisher.published)
        untouched = all(one.readies == 1 for one in clients[1::2])
        outcome.must("the others' sockets stay", untouched)
    return outcome


@fault(27, "publish retried across a reconnect: cut right after sending, to the other process")
async def publish_retried(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.retry-{publisher.run.id}"
    count = int(pace.of(400, 100))
    urls = lab.urls
    writers = [Follower(urls[number:] + urls[:number], lab.token_of(1), []) for number in range(2)]
    async with following([Follower(urls, lab.token_of(2), [topic])]) as readers:
        async with following(writers):
            sending = []
            for number in range(count):
                message_id, payload = publisher.run.message(topic)
                writer = writers[number % 2]
                # The confirmation of every third one comes too late: the connection is gone.
                sent = writer.publish(topic, message_id, payload, lose_ack=number % 3 == 0)
                sending.append(asyncio.create_task(sent))
                if number % 5 == 4:
                    await asyncio.sleep(0.001 * (number % 4))
                    writer.cut()
                await asyncio.sleep(0.005)
            acks = await asyncio.gather(*sending)
        await arrived(readers, publisher.published)
        account(outcome, readers, publisher.published)
    outcome.figures["answered duplicate"] = sum(ack["status"] == "duplicate" for ack in acks)
    outcome.figures["reconnects"] = sum(writer.readies - 1 for writer in writers)
    outcome.figures["stored"] = await lab.stored(topic)
    outcome.must("stored once each", outcome.figures["stored"] == count)
    outcome.must("confirmed each", len(acks) == count)
    return outcome


@fault(28, "QoS 1: a client that never acknowledges (ACK_WAIT 1 s, ACK_TRIES 3)", IMPATIENT)
async def never_acknowledged(lab: Lab, pace: Pace) -> Outcome:
    assert lab.proxy is not None
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.qos-{publisher.run.id}"
    limit = 256
    silent = Follower(lab.urls, lab.token_of(1), [topic], qos=1, acks=False)
    async with following([silent]):
        # Away from NATS while they are published: they come all at once.
        await lab.proxy.refuse()
        await publisher.burst([topic], 2000)
        await lab.proxy.forward()
        begun = time.monotonic()
        await until(lambda: silent.closes, 60, what="the close of a client that never acknowledges")
        outcome.figures["closed s"] = round(time.monotonic() - begun, 2)
        outcome.figures["close code"] = silent.closes[0]
        sent = silent.raw.receipts[topic]
        sequences = {receipt.sequence for receipt in sent}
        outcome.figures["in flight"] = len(sequences)
        outcome.figures["repeats"] = len(sent) - len(sequences)
        marked = sum(receipt.redelivered for receipt in sent)
        outcome.must("closed 4005", silent.closes[0] == 4005)
        outcome.must(f"at most {limit} in flight", len(sequences) <= limit)
        outcome.must("repeats are marked", marked >= len(sent) - len(sequences) > 0)
    return outcome


@fault(28, "QoS 1: clients that die with events unacknowledged (ACK_WAIT 1 s)", IMPATIENT)
async def dies_unacknowledged(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.qos-{publisher.run.id}"
    clients = [Follower(lab.urls, lab.token_of(1), [topic], qos=1) for _ in range(4)]
    async with following(clients):
        seconds = pace.of(6, 2)
        traffic = asyncio.create_task(publisher.steady([topic], rate=200, seconds=seconds))
        for client in itertools.islice(itertools.cycle(clients), int(seconds * 4)):
            await asyncio.sleep(0.2)
            client.cut()
        await traffic
        await publisher.burst([topic], 1000)
        await arrived(clients, publisher.published)
        account(outcome, clients, publisher.published)
        outcome.figures["reconnects"] = sum(client.readies - 1 for client in clients)
    return outcome


@fault(28, "durable: 20 devices away for a day, 1,000 events of 1 KiB missed by each", ONE)
async def away_for_a_day(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topics = [f"room.away-{publisher.run.id}-{number}" for number in range(20)]
    clients = [
        Follower(lab.urls, lab.token_of(number), [topic], durable="phone")
        for number, topic in enumerate(topics, 1)
    ]
    async with following(clients):
        await publisher.burst(topics, len(topics))
        await arrived(clients, publisher.published)
    await publisher.burst(topics, int(pace.of(1000, 500)) * len(topics), padding=1024)
    async with memory_peak(lab.web[0]) as memory, bystander(lab, outcome), following(clients):
        outcome.figures["caught up s"] = await arrived(clients, publisher.published)
    account(outcome, clients, publisher.published)
    outcome.figures |= memory
    # Events in flight are kept for their repeat, 256 a device; what waits behind them is not.
    bound = len(clients) * 256 * 1.25 / 1024 + SLACK_MIB
    outcome.must(f"memory below {bound:g} MiB", memory["MiB"] < bound)
    return outcome


@fault(30, "blocking call in a worker thread: pages that take 3 s, 20 at once", ONE)
async def blocking_call(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    milliseconds = int(pace.of(3000, 1000))

    def fetch() -> bytes:
        with urllib.request.urlopen(f"{lab.url()}/block/{milliseconds}/", timeout=120) as page:
            body: bytes = page.read()
            return body

    async with bystander(lab, outcome) as follower:
        pages = await asyncio.gather(*(asyncio.to_thread(fetch) for _ in range(20)))
    outcome.figures["max ms"] = round(max(follower.delays) * 1000, 1)
    outcome.must("the pages are served", pages == [b"done"] * 20)
    outcome.must("max < 1000 ms", max(follower.delays) < 1, timed=True)
    return outcome


@fault(31, "rolling deploy: SIGTERM one after the other under load, sockets that are stuck too")
async def rolling_deploy(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.writes-{publisher.run.id}"
    exits: list[float] = []
    async with following(spread(lab, 12)) as clients:
        done = asyncio.Event()
        traffic = asyncio.create_task(_until_done(publisher, done))
        writing = asyncio.create_task(_write(clients, publisher.run, topic, done))
        for web, url in zip(lab.web, lab.urls, strict=True):
            stuck = [TestClient(url, token=lab.token_of(2)) for _ in range(3)]
            for one in stuck:
                await one.__aenter__()
                await one.subscribe(TOPICS[0])
                await one.stop_reading()
            await asyncio.sleep(pace.of(2, 0.5))
            begun = time.monotonic()
            web.terminate()
            await until(partial(_ended, web), 40, what="its end")
            exits.append(round(time.monotonic() - begun, 2))
            outcome.must("exit status 0", web.returncode == 0)
            for one in stuck:
                one.abort()
                with suppress(Exception):
                    await one.close()
            await lab.start(web)
        await until(lambda: all(client.joined for client in clients), 60)
        done.set()
        await asyncio.gather(traffic, writing)
        await arrived(clients, publisher.published)
        written = publisher.published.pop(topic)
        account(outcome, clients, publisher.published)
        outcome.figures["stored of written"] = f"{await lab.stored(topic)}/{len(written)}"
        outcome.must("client publishes stored once", await lab.stored(topic) == len(written))
        waits = [wait for client in clients for wait in client.after_ms]
        outcome.figures["exit s"] = max(exits)
        outcome.figures["stall s"] = stall(clients)
        outcome.figures["told to reconnect"] = f"{len(waits)} of {len(clients)} and more"
        outcome.figures["jitter ms"] = f"{min(waits, default=0)}-{max(waits, default=0)}"
        closed = [code for client in clients for code in client.closes]
        outcome.must("every client told to reconnect", len(waits) >= len(clients))
        outcome.must("closed 4000 only", set(closed) <= {4000})
        outcome.must("jitter", max(waits, default=0) - min(waits, default=0) > 200)
        outcome.must(f"exit within {GRACE:g} s", max(exits) < GRACE, timed=True)
    return outcome


def _ended(process: ManageProcess) -> bool:
    return not process.is_alive()


async def _until_done(publisher: Publisher, done: asyncio.Event) -> None:
    while not done.is_set():
        await publisher.steady(TOPICS, rate=100, seconds=0.5)


async def _write(clients: list[Follower], run: Run, topic: str, done: asyncio.Event) -> None:
    """Have clients publish in turn, each confirmed however often it has to come back."""
    async with asyncio.TaskGroup() as group:
        for client in itertools.cycle(clients):
            if done.is_set():
                return
            message_id, payload = run.message(topic)
            group.create_task(client.publish(topic, message_id, payload))
            await asyncio.sleep(0.02)
