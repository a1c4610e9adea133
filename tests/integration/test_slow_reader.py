"""Readers that are slow but do read: much to catch up on closes none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from realtime.broker import Broker, connected
from tests.faults.wire import RawSocket, text
from tests.support.client import TestClient
from tests.support.gateways import Gateway
from tests.support.waiting import until

from .support import new_topic

MAX_BUFFER = 65_536
# Together more than the kernel takes for a socket (tcp_wmem: 4 MiB).
TOPICS = 30
EVENTS = 4
LARGE = 5
PAYLOAD = b'"' + b"x" * 50_000 + b'"'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Gateway]:
    """Run a gateway at which little may wait for a socket."""
    env = {"REALTIME_MAX_BUFFER": str(MAX_BUFFER)}
    gateway = Gateway(tmp_path_factory.mktemp("slow") / "data", data_template, env)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


@pytest.fixture
async def backend(site: Gateway) -> AsyncIterator[Broker]:
    """Return a backend's connection to NATS."""
    async with connected(site.nats_url, name="backend") as broker:
        yield broker


@pytest.fixture
async def slow(site: Gateway) -> AsyncIterator[RawSocket]:
    """Return an authenticated connection whose other side can hold next to nothing."""
    async with RawSocket(site.ports[0], receive_buffer=4096) as raw:
        await raw.open(site.token())
        yield raw


async def store(backend: Broker, topic: str, payload: bytes = PAYLOAD) -> int:
    stored = await backend.store(topic, payload, headers=None, timeout=30)
    return stored.sequence


async def until_two_are_on(client: TestClient, topic: str) -> None:
    """Return when the slow reader holds the topic too, and so was sent what fits."""

    async def two() -> bool:
        reply = await client.ask("presence", "reply", topic=topic)
        return any(one["connections"] == 2 for one in reply["data"])

    await until(two, what="the second subscription")


async def test_resume_of_more_than_may_wait_comes_at_the_readers_pace(
    site: Gateway, backend: Broker, slow: RawSocket
) -> None:
    topics = [new_topic() for _ in range(TOPICS)]
    before = await store(backend, new_topic())
    wanted = {topic: [await store(backend, topic) for _ in range(EVENTS)] for topic in topics}
    last = dict.fromkeys(topics, before)
    async with site.client(site.token()) as client:
        session = client.ready["sessionId"]
        await client.subscribe(topics[-1])
        await slow.send(text(type="resume", sessionId=session, lastSeqPerTopic=last))
        await until_two_are_on(client, topics[-1])
    came: dict[str, list[int]] = {topic: [] for topic in topics}
    for _ in range(TOPICS * EVENTS):
        message = await slow.until("message", 30)
        came[message["topic"]].append(message["seqNo"])
    assert came == wanted


async def test_event_larger_than_what_may_wait_comes(
    site: Gateway, backend: Broker, slow: RawSocket
) -> None:
    """Else whoever has a slow line would be closed at it each time, and never get past it."""
    topic = new_topic()
    for _ in range(LARGE):
        await store(backend, topic, bytes(1_000_000))
    async with site.client(site.token()) as client:
        await client.subscribe(topic)
        await slow.send(text(type="subscribe", topic=topic, since=0))
        await until_two_are_on(client, topic)
    for _ in range(LARGE):
        message = await slow.until("message", 30)
        assert len(message["data"]) > 10 * MAX_BUFFER


async def test_pages_of_history_asked_for_in_one_piece_come(
    site: Gateway, backend: Broker, slow: RawSocket
) -> None:
    topic = new_topic()
    wanted = [await store(backend, topic) for _ in range(EVENTS)]
    # Together more than the kernel takes, and answered before a byte is read.
    pages = 60
    ask = text(type="history", topic=topic, id="page")
    await slow.send(ask * pages)
    for _ in range(pages):
        reply = await slow.until("reply", 30)
        assert [event["seqNo"] for event in reply["data"]] == wanted
