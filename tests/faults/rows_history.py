"""Rows about what the stream holds and what it does not: 29."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec

from realtime.nats_client import Message
from tests.support.recorder import Run
from tests.support.waiting import until

from .backend import Publisher
from .client import Follower
from .lab import STREAM, Lab
from .measure import arrived, following
from .outcome import Outcome
from .rows import LOCAL, PROXIED, Pace, fault

RETENTION = 10_000
"""Events that the stream keeps of one topic (STREAM_MAX_PER_TOPIC)."""


class Ledger:
    """Which sequences exist, so that every one can be asked for: had, or told to be gone."""

    def __init__(self) -> None:
        self.sequences: list[int] = []

    async def publish(self, publisher: Publisher, topic: str, count: int) -> None:
        """Publish and note the sequences."""
        numbers = iter(range(count))

        async def work() -> None:
            for _ in numbers:
                self.sequences.append(await publisher.publish(topic))

        async with asyncio.TaskGroup() as group:
            for _ in range(256):
                group.create_task(work())

    def silent(self, follower: Follower, topic: str, since: int) -> int:
        """Return how many sequences after `since` neither came nor were told to be gone."""
        had = {receipt.sequence for receipt in follower.raw.receipts.get(topic, ())}
        gone = [(gap["fromSeq"], gap["toSeq"]) for gap in follower.gaps]
        return sum(
            sequence > since
            and sequence not in had
            and not any(low <= sequence <= high for low, high in gone)
            for sequence in self.sequences
        )


@fault(29, "beyond retention: offline while 10,200 events pass, of which 10,000 are kept", LOCAL)
async def beyond_retention(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.old-{publisher.run.id}"
    ledger = Ledger()
    await ledger.publish(publisher, topic, 10)
    early = max(ledger.sequences)
    info = await lab.broker.stream_info(STREAM, timeout=5)
    assert info is not None
    # One asks by `subscribe`, one by `connect` with a sessionId; both were here before.
    async with Follower(lab.urls[:1], lab.token_of(1), [topic], resume=True) as resuming:
        session = resuming.session_id
    await ledger.publish(publisher, topic, RETENTION + 200)
    since = {topic: early}
    back = [
        Follower(lab.urls[:1], lab.token_of(1), [topic], since=since, epoch=info.created),
        Follower(lab.urls[1:], lab.token_of(1), [topic], since=since, resume=True),
    ]
    back[1].session_id = session
    top = max(ledger.sequences)
    async with following(back):
        await until(lambda: all(one.last[topic] >= top for one in back), 60, what="catching up")
    outcome.figures["silent gaps"] = sum(ledger.silent(one, topic, early) for one in back)
    outcome.figures["told gone"] = sum(
        gap["toSeq"] - gap["fromSeq"] + 1 for one in back for gap in one.gaps
    )
    outcome.figures["of"] = sum(one.app.count(topic) for one in back)
    outcome.must("never silence", outcome.figures["silent gaps"] == 0)
    outcome.must("recovered false", all(one.unrecovered for one in back))
    outcome.must("a gap told", all(one.gaps for one in back))
    outcome.must("what is kept arrives", outcome.figures["of"] == 2 * RETENTION)
    return outcome


@fault(29, "beyond retention: the web process is cut off while 10,200 events pass", PROXIED)
async def hole_beyond_retention(lab: Lab, pace: Pace) -> Outcome:
    assert lab.proxy is not None
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.old-{publisher.run.id}"
    ledger = Ledger()
    clients = [Follower(lab.urls, lab.token_of(1), [topic], qos=number) for number in range(2)]
    async with following(clients):
        await ledger.publish(publisher, topic, 10)
        await arrived(clients, publisher.published)
        early = max(ledger.sequences)
        await lab.proxy.refuse()
        await ledger.publish(publisher, topic, RETENTION + 200)
        await lab.proxy.forward()
        top = max(ledger.sequences)
        await until(lambda: all(one.last[topic] >= top for one in clients), 60, what="catching up")
    outcome.figures["silent gaps"] = sum(ledger.silent(one, topic, early) for one in clients)
    outcome.figures["told gone"] = sum(
        gap["toSeq"] - gap["fromSeq"] + 1 for one in clients for gap in one.gaps
    )
    outcome.figures["of"] = sum(one.app.count(topic) for one in clients)
    outcome.must("never silence", outcome.figures["silent gaps"] == 0)
    outcome.must("a gap told", all(one.gaps for one in clients))
    return outcome


@fault(29, "stream deleted and added, with clients on it and with one that is away", LOCAL)
async def stream_recreated(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    topic = f"room.anew-{Run().id}"
    before, after = lab.publisher(), lab.publisher()
    clients = [Follower([url], lab.token_of(1), [topic]) for url in lab.urls]
    async with following(clients):
        await before.burst([topic], 50)
        await arrived(clients, before.published)
        await _checked(lab)
        seen = [client.app.count(topic) for client in clients]
        away = Follower(
            lab.urls, lab.token_of(1), [topic], since=clients[0].last, epoch=clients[0].epoch
        )
        info = await lab.broker.stream_info(STREAM, timeout=5)
        assert info is not None
        await _stream(lab, "DELETE")
        await _stream(lab, "CREATE", info.config)
        await after.burst([topic], 80)
        await until(lambda: all(client.resets for client in clients), 60, what="reset")
        async with following([away]):
            everyone = [*clients, away]
            await arrived(everyone, after.published)
            # The sequences begin anew, so the order is that of what was published since.
            lost = sum(len(one.app.report(after.published).lost) for one in everyone)
            outcome.figures["lost"] = lost
            outcome.figures["resets"] = sum(len(one.resets) for one in everyone)
            outcome.figures["of"] = sum(one.app.count(topic) for one in everyone)
            outcome.must("lost 0", lost == 0)
            outcome.must("reset told, with the new epoch", _anew(everyone, info.created))
            outcome.must("nothing lost before", seen == [50] * len(clients))
        # And it goes on as before.
        again = lab.publisher()
        await again.burst([topic], 20)
        await arrived(clients, again.published)
        later = sum(len(one.app.report(again.published).lost) for one in clients)
        outcome.must("later events arrive", later == 0)
    return outcome


@fault(29, "stream deleted while nobody publishes: made anew by the gateway", LOCAL)
async def stream_deleted(lab: Lab, pace: Pace) -> Outcome:
    await _checked(lab)
    return await _deleted(lab, lab.urls)


@fault(29, "stream deleted in the first seconds of a web process", LOCAL)
async def stream_deleted_early(lab: Lab, pace: Pace) -> Outcome:
    for web in lab.web:
        web.kill()
    await lab.start(lab.web[0])
    return await _deleted(lab, lab.urls[:1])


async def _deleted(lab: Lab, urls: list[str]) -> Outcome:
    """Delete the stream, have the gateway make it anew, and go on."""
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.gone-{publisher.run.id}"
    async with following([Follower([url], lab.token_of(1), [topic]) for url in urls]) as clients:
        await publisher.burst([topic], 20)
        await arrived(clients, publisher.published)
        await _stream(lab, "DELETE")
        later = lab.publisher()
        await later.burst([topic], 40)
        with suppress(AssertionError):
            await until(lambda: all(client.resets for client in clients), 60, what="reset")
        await arrived(clients, later.published)
        lost = sum(len(one.app.report(later.published).lost) for one in clients)
        outcome.figures["lost"] = lost
        outcome.figures["resets"] = sum(len(client.resets) for client in clients)
        outcome.must("lost 0", lost == 0)
        outcome.must("reset told", all(client.resets for client in clients))
    return outcome


async def _checked(lab: Lab) -> None:
    """Return when every web process has looked at the stream twice."""
    asked: Counter[str] = Counter()

    async def hear(message: Message) -> None:
        asked[message.reply.rpartition(".")[0]] += 1  # each process has an inbox of its own

    def looked() -> bool:
        return sum(times >= 2 for times in asked.values()) >= len(lab.web)

    subscription = await lab.broker.subscribe(f"$JS.API.STREAM.INFO.{STREAM}", hear)
    await until(looked, 60, what="the checks of the stream")
    await lab.broker.unsubscribe(subscription)


def _anew(followers: list[Follower], old: str) -> bool:
    return all(one.resets and one.resets[-1]["epoch"] != old for one in followers)


async def _stream(lab: Lab, verb: str, config: dict[str, Any] | None = None) -> None:
    body = msgspec.json.encode(config) if config is not None else b""
    reply = await lab.broker.request(f"$JS.API.STREAM.{verb}.{STREAM}", body, timeout=5)
    answer = msgspec.json.decode(reply.data)
    # The gateway makes a missing stream anew: it may have been quicker.
    taken = (answer.get("error") or {}).get("code") in (None, 400)
    assert taken, answer
