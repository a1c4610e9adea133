"""The watch: what processes tell those who look on, asked over a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from realtime import watch
from realtime.broker import Broker
from realtime.embedded import NatsServer
from realtime.metrics import Metrics
from realtime.nats_client import Message
from realtime.snapshot import Snapshot
from realtime.watch import MAX_USERS, NEWEST, NEWEST_TOPIC, SHOWN_TOPICS, USER_TOPICS, Watch
from tests.support.waiting import until

from .support import FakeSocket, World, deliver, settled

SUBJECT = "gateway.control.watch"


def snapshot() -> Snapshot:
    """Return what a process holds that holds nothing."""
    numbers: dict[str, Any] = dict.fromkeys(Snapshot.__struct_fields__, 0)
    return Snapshot(**{**numbers, "worker": "1", "nats": True, "metrics": Metrics()})


def connection(user: str, began: float, *topics: str, **info: Any) -> Any:
    """Return a connection as far as it is shown."""
    return SimpleNamespace(
        id=f"{user}-{began:g}",
        user_id=user,
        began=began,
        info=info or None,
        topics=set(topics),
        peer=SimpleNamespace(ip="192.0.2.1", transport="websocket"),
    )


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look every few milliseconds."""
    monkeypatch.setattr(watch, "EVERY", 0.01)


@pytest.fixture
async def process(world: World, broker: Broker) -> Any:
    """Return a function that starts the watch of a process with these connections."""
    started: list[Watch] = []

    async def start(*connections: Any) -> Watch:
        mine: dict[str, list[Any]] = {}
        for one in connections:
            mine.setdefault(one.user_id, []).append(one)
        found = Watch(broker, world.fanout, SUBJECT, cast(Any, mine), snapshot)
        await found.start()
        await settled(broker)
        started.append(found)
        return found

    yield start
    for one in started:
        await one.stop()


async def look(world: World, topic: str) -> FakeSocket:
    """Hold a topic, as a socket does that looks on."""
    socket = FakeSocket()
    deliver(await world.fanout.join(topic), socket)
    return socket


async def told(socket: FakeSocket, wanted: Callable[[Any], bool] = lambda data: True) -> Any:
    """Return the data of the latest event, once there is one that is wanted.

    A process may answer too late for one event, on a busy machine, and is in another.
    """

    def latest() -> Any:
        found = socket.of("message")
        return found and wanted(found[-1]["data"]) and found[-1]["data"]

    return await until(latest, what="figures")


def processes(count: int) -> Callable[[Any], bool]:
    """Return whether so many processes are in an event's data."""
    return lambda data: len(data["processes"]) == count


async def test_every_process_is_told_apart_and_the_newest_connection_is_first(
    world: World, process: Any
) -> None:
    now = asyncio.get_running_loop().time()
    await process(connection("7", now - 50, "room.a", name="ann"))
    await process(connection("8", now - 5), connection("8", now - 500))
    data = await told(await look(world, NEWEST_TOPIC), processes(2))
    passed = asyncio.get_running_loop().time() - now
    assert data["processes"][0]["figures"]["metrics"]["latency"]["counts"]
    assert [one["userId"] for one in data["connections"]] == ["8", "7", "8"]
    ann = data["connections"][1]
    assert (ann["name"], ann["ip"], ann["topics"], ann["topicCount"]) == (
        *("ann", "192.0.2.1"),
        *(["room.a"], 1),
    )
    assert 50 <= ann["age"] <= 50.1 + passed


async def test_nobody_is_asked_while_nobody_looks(
    world: World, process: Any, broker: Broker
) -> None:
    asked: list[Message] = []

    async def note(message: Message) -> None:
        asked.append(message)

    await broker.subscribe(SUBJECT, note)
    one = await process(connection("7", 0.0))
    feed = await world.fanout.join(NEWEST_TOPIC)
    await until(lambda: asked, what="a question")
    world.fanout.leave(feed)
    assert one._watched() == []


async def test_user_that_is_looked_for_is_found_in_every_process(
    world: World, process: Any
) -> None:
    await process(connection("7", 0.0), connection("8", 0.0))
    await process(connection("7", 1.0))
    socket = await look(world, f"{USER_TOPICS}7")
    data = await told(socket, lambda data: len(data["connections"]) == 2)
    assert [one["session"] for one in data["connections"]] == ["7-1", "7-0"]
    assert "processes" not in data


async def test_what_is_told_is_bounded(world: World, process: Any) -> None:
    now = asyncio.get_running_loop().time()
    many = [f"room.{number}" for number in range(SHOWN_TOPICS + 10)]
    await process(*(connection(str(user), now - user, *many) for user in range(NEWEST)))
    await process(*(connection(str(user), now - user - 0.5) for user in range(NEWEST)))
    socket = await look(world, NEWEST_TOPIC)
    for user in range(MAX_USERS + 5):
        await look(world, f"{USER_TOPICS}{user}")
    shown = (await told(socket, processes(2)))["connections"]
    passed = asyncio.get_running_loop().time() - now
    assert len(shown) == NEWEST
    assert max(one["age"] for one in shown) < NEWEST / 2 + 1 + passed
    full = next(one for one in shown if one["topicCount"])
    assert (len(full["topics"]), full["topicCount"]) == (SHOWN_TOPICS, len(many))


async def test_process_tells_of_itself_while_nats_is_away(
    world: World, process: Any, broker: Broker, nats_server: NatsServer
) -> None:
    await process(connection("7", 0.0))
    nats_server.kill()
    await until(lambda: not broker.connected, what="the loss of NATS")
    data = await told(await look(world, NEWEST_TOPIC))
    assert len(data["processes"]) == len(data["connections"]) == 1


async def test_answer_that_does_not_parse_is_left_out(
    world: World, process: Any, broker: Broker
) -> None:
    async def nonsense(message: Message) -> None:
        await broker.publish(message.reply, b"{}")

    await broker.subscribe(SUBJECT, nonsense)
    await process(connection("7", 0.0))
    await told(await look(world, NEWEST_TOPIC), processes(1))


async def test_question_that_does_not_parse_is_not_answered(process: Any, broker: Broker) -> None:
    await process(connection("7", 0.0))
    assert await broker.gather(SUBJECT, b"what?", wait=0.1) == []

    async def answered() -> bool:
        question = msgspec.json.encode({"users": []})
        return len(await broker.gather(SUBJECT, question, wait=0.1)) == 1

    await until(answered)
