"""The outbox: what a transaction publishes goes out when it commits, once and in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from realtime import link, outbox
from realtime.broker import connected
from realtime.embedded import NatsServer
from realtime.models import OutboxMessage
from realtime.nats_client import Message
from realtime.outbox import OutboxRelay
from realtime.parts import make_broker
from realtime.protocol.jetstream import Stored
from realtime.protocol.messages import MESSAGE_ID
from realtime.publish import Queued, notify, publish
from tests.conftest import StartGateway
from tests.support.backend import (
    DATABASE,
    backend,
    copy_of,
    ids_stored,
    in_thread,
    make_stream,
    stored,
)
from tests.support.processes import START, ManageProcess
from tests.support.waiting import DEADLINE, until, wait_until

StartRelay = Callable[[], ManageProcess]

TOPIC = "room.outbox"
OTHER = "room.other"
LIVE = "live.outbox"


class RolledBackError(Exception):
    """What ends a transaction that must not count."""


@pytest.fixture
def data(
    tmp_path: Path, data_template: Path, nats_server: NatsServer, django_db_blocker: object
) -> Iterator[Path]:
    """Make this process a backend, and return the data directory of its database."""
    directory = copy_of(data_template, tmp_path / "data")
    with backend(directory, nats_server.url, django_db_blocker):
        make_stream()
        yield directory


@pytest.fixture
def quick(settings: Settings, data: Path) -> None:
    """Have relays in this process poll often."""
    settings.REALTIME = {**settings.REALTIME, "OUTBOX_POLL_SECONDS": 0.01}


@pytest.fixture
def relay_process(data: Path, nats_server: NatsServer, tmp_path: Path) -> Iterator[StartRelay]:
    """Return a function that starts `manage.py outbox`."""
    started: list[ManageProcess] = []

    def start() -> ManageProcess:
        env = {"DATA_DIR": str(data), "NATS_URL": nats_server.url}
        process = ManageProcess(["outbox"], env, log=tmp_path / f"relay-{len(started)}.log")
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()


@contextlib.contextmanager
def relaying() -> Iterator[OutboxRelay]:
    """Run a relay in a thread of its own, then stop it and require that it ends."""
    running: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()
    relay = OutboxRelay(make_broker("outbox"))

    async def run() -> None:
        stopping = asyncio.Event()
        running.put((asyncio.get_running_loop(), stopping))
        await relay.run(stopping)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    loop, stopping = running.get(timeout=DEADLINE)
    try:
        yield relay
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(timeout=DEADLINE)
    assert not thread.is_alive()


@contextlib.contextmanager
def write_lock(data: Path) -> Iterator[None]:
    """Hold the database's write lock: everyone may read, nobody may delete."""
    with contextlib.closing(sqlite3.connect(data / DATABASE, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of rows that relays in this process found, look by look."""
    found: list[int] = []
    read = outbox._read

    def counted(held: list[str]) -> list[outbox.Row]:
        rows = read(held)
        found.append(len(rows))
        return rows

    monkeypatch.setattr(outbox, "_read", counted)
    return found


def commit(topic: str, *message_ids: str) -> None:
    """Publish events in one transaction."""
    with transaction.atomic():
        for message_id in message_ids:
            publish(topic, message_id, message_id=message_id)


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def rows() -> int:
    return int(OutboxMessage.objects.count())


def emptied(timeout: float = 2 * DEADLINE) -> None:
    """Return once a relay has emptied the outbox."""
    wait_until(lambda: not rows(), timeout, what="an empty outbox")


# Writing.


def test_publish_in_a_transaction_writes_a_row_and_publishes_nothing(data: Path) -> None:
    with transaction.atomic():
        result = publish(TOPIC, {"n": 1})
    (row,) = OutboxMessage.objects.all()
    assert result == Queued(row.message_id)
    assert (row.topic, json.loads(bytes(row.payload))) == (TOPIC, {"n": 1})
    assert stored(TOPIC) == []


def test_publish_in_a_transaction_keeps_the_given_message_id(data: Path) -> None:
    with transaction.atomic():
        assert publish(TOPIC, 1, message_id="order-42") == Queued("order-42")
    assert OutboxMessage.objects.get().message_id == "order-42"


def test_publish_in_a_transaction_makes_a_new_message_id_each_time(data: Path) -> None:
    with transaction.atomic():
        results = {notify(7, "same").message_id for _ in range(3)}  # type: ignore[union-attr]
    assert len(results) == 3


def test_publish_outside_a_transaction_is_stored_at_once(data: Path) -> None:
    assert publish(TOPIC, 1, message_id="direct") == Stored(1)
    assert (ids_stored(TOPIC), rows()) == (["direct"], 0)


def test_publish_rolled_back_leaves_no_row(data: Path) -> None:
    with pytest.raises(RolledBackError), transaction.atomic():
        publish(TOPIC, 1)
        assert rows() == 1
        raise RolledBackError
    assert rows() == 0


@pytest.mark.usefixtures("quick")
def test_relay_after_a_rolled_back_savepoint_publishes_the_rest_only(data: Path) -> None:
    with transaction.atomic():
        publish(TOPIC, 1, message_id="before")
        with contextlib.suppress(RolledBackError), transaction.atomic():
            publish(TOPIC, 2, message_id="undone")
            raise RolledBackError
        publish(TOPIC, 3, message_id="after")
    with relaying():
        emptied()
    assert ids_stored(TOPIC) == ["before", "after"]


def test_publish_without_the_outbox_is_stored_though_rolled_back(
    data: Path, settings: Settings
) -> None:
    settings.REALTIME = {**settings.REALTIME, "OUTBOX": False}
    with pytest.raises(RolledBackError), transaction.atomic():
        assert publish(TOPIC, 1, message_id="at-once") == Stored(1)
        assert rows() == 0
        raise RolledBackError
    assert ids_stored(TOPIC) == ["at-once"]


def test_publish_in_an_on_commit_hook_is_stored_at_once(data: Path) -> None:
    results: list[Stored | Queued] = []
    with transaction.atomic():
        transaction.on_commit(lambda: results.append(publish(TOPIC, 1, message_id="hook")))
        assert results == []
    assert results == [Stored(1)]
    assert (ids_stored(TOPIC), rows()) == (["hook"], 0)


# Relaying.


@pytest.mark.usefixtures("quick")
def test_relay_publishes_each_topic_once_and_in_order(data: Path) -> None:
    topics = {topic: names(topic, 400) for topic in ("room.a", "room.b", "room.c")}
    with transaction.atomic():
        # 1,200 rows: more than a relay reads at once.
        for group in zip(*topics.values(), strict=True):
            for topic, message_id in zip(topics, group, strict=True):
                publish(topic, message_id, message_id=message_id)
    assert rows() > 2 * outbox.BATCH
    with relaying() as relay:
        emptied()
    assert {topic: ids_stored(topic) for topic in topics} == topics
    assert relay.published == 1_200


@pytest.mark.usefixtures("quick")
def test_relay_publishes_payload_and_message_id_as_given(data: Path) -> None:
    commit(TOPIC, "order-42")
    with relaying():
        emptied()
    (message,) = stored(TOPIC)
    assert message.data == b'"order-42"'
    assert message.headers["Gateway-Message-Id"] == "order-42"


@pytest.mark.usefixtures("quick")
def test_relay_running_waits_for_the_commit(data: Path, polls: list[int]) -> None:
    with relaying():
        with transaction.atomic():
            publish(TOPIC, 1, message_id="late")
            before = len(polls)
            wait_until(lambda: len(polls) > before + 2, what="the relay to look again")
            assert not any(polls)
            assert ids_stored(TOPIC) == []
        emptied()
    assert ids_stored(TOPIC) == ["late"]


@pytest.mark.usefixtures("quick")
def test_relay_same_message_id_committed_twice_stores_it_once(data: Path) -> None:
    commit(TOPIC, "same")
    commit(TOPIC, "same", "next")
    with relaying():
        emptied()
    assert ids_stored(TOPIC) == ["same", "next"]


@pytest.mark.usefixtures("quick")
async def test_relay_ephemeral_topic_reaches_its_subscriber(
    data: Path, nats_server: NatsServer
) -> None:
    came: list[Message] = []

    async def take(message: Message) -> None:
        came.append(message)

    async with connected(nats_server.url, name="test") as broker:
        await broker.subscribe(LIVE, take)
        await broker.flush(DEADLINE)
        await in_thread(commit, LIVE, "one", "two")
        with relaying():
            await until(lambda: len(came) >= 2, what="the events")
    assert [message.data for message in came] == [b'"one"', b'"two"']


@pytest.mark.usefixtures("quick")
def test_relay_nats_away_and_back_publishes_once_and_in_order(
    data: Path, nats_server: NatsServer
) -> None:
    first, second, third = names("first", 20), names("second", 20), names("third", 20)
    with relaying():
        commit(TOPIC, *first)
        emptied()
        nats_server.kill()
        commit(TOPIC, *second)
        nats_server.start()
        commit(TOPIC, *third)
        emptied()
    assert ids_stored(TOPIC) == first + second + third


@pytest.mark.usefixtures("quick")
def test_relay_killed_nats_mid_batch_publishes_once_and_in_order(
    data: Path, nats_server: NatsServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REALTIME = {**settings.REALTIME, "STORE_TIMEOUT": 0.5}
    killed, send = threading.Event(), outbox.send
    wanted = names("m", 1_500)

    async def before_the_last(*event: Any) -> Stored | Queued:
        if wanted[-1] in event:
            # The kill comes somewhere before it.
            await until(killed.is_set)
        return await send(*event)

    monkeypatch.setattr(outbox, "send", before_the_last)
    commit(TOPIC, *wanted)
    with relaying():
        wait_until(lambda: len(stored(TOPIC)) > 50, what="the first events")
        nats_server.kill()
        killed.set()
        assert rows() > 0
        nats_server.start()
        emptied()
    assert ids_stored(TOPIC) == wanted


@pytest.mark.usefixtures("quick")
def test_relay_started_before_nats_publishes_when_it_comes(
    data: Path, nats_server: NatsServer
) -> None:
    commit(TOPIC, "early")
    nats_server.kill()
    with relaying() as relay:
        nats_server.start()
        emptied()
    assert relay.published == 1
    assert ids_stored(TOPIC) == ["early"]


@pytest.mark.usefixtures("quick")
def test_relay_stopped_without_nats_ends_and_keeps_the_rows(
    data: Path, nats_server: NatsServer
) -> None:
    commit(TOPIC, "kept")
    nats_server.kill()
    with relaying() as relay:
        pass
    assert (rows(), relay.published) == (1, 0)


@pytest.mark.usefixtures("quick")
def test_relay_database_that_fails_is_read_again(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAIT", 0.05)
    commit(TOPIC, "kept")
    table = OutboxMessage._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO away")
        with relaying():
            wait_until(lambda: "outbox cannot be read" in caplog.text, what="the log line")
            cursor.execute(f"ALTER TABLE away RENAME TO {table}")
            emptied()
    assert ids_stored(TOPIC) == ["kept"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("stuck", [1, outbox.BATCH], ids=["one row", "a batch of rows"])
def test_relay_topic_that_the_stream_refuses_holds_up_no_other(
    data: Path, settings: Settings, stuck: int
) -> None:
    # The stream was made before live.> became durable, and nobody has brought it up to date.
    settings.REALTIME = {**settings.REALTIME, "DURABLE_TOPICS": ["user.>", "room.>", "live.>"]}
    commit(LIVE, *names("stuck", stuck))
    commit(TOPIC, "free")
    with relaying():
        wait_until(lambda: ids_stored(TOPIC) == ["free"], what="the event behind the stuck ones")
    assert rows() == stuck


# As processes.


def test_relay_killed_between_publishing_and_deleting_stores_once(
    data: Path, relay_process: StartRelay
) -> None:
    topics = {TOPIC: names("a", 30), OTHER: names("b", 30)}
    for topic, message_ids in topics.items():
        commit(topic, *message_ids)
    with write_lock(data):
        first = relay_process()
        wait_until(
            lambda: all(len(stored(topic)) == 30 for topic in topics),
            START,
            what="every event in the stream",
        )
        first.kill()
    assert rows() == 60
    second = relay_process()
    emptied()
    second.terminate()
    assert second.wait() == 0
    assert second.find(r"outbox relay stopped published=60$")
    assert {topic: ids_stored(topic) for topic in topics} == topics


async def test_relay_killed_before_deleting_sends_an_ephemeral_event_twice_with_one_id(
    data: Path, nats_server: NatsServer, relay_process: StartRelay
) -> None:
    """Nothing stores it, so nothing knows it as a repeat: docs/architecture.md says so."""
    came: list[str] = []

    async def take(message: Message) -> None:
        came.append(message.headers[MESSAGE_ID])

    async with connected(nats_server.url, name="test") as broker:
        await broker.subscribe(LIVE, take)
        await broker.flush(DEADLINE)
        await in_thread(commit, LIVE, "one")
        with write_lock(data):
            first = relay_process()
            await until(lambda: came, START, what="the event")
            first.kill()
        relay_process()
        await until(lambda: len(came) == 2, START, what="its repeat")
    assert came == ["one", "one"]


def test_relay_two_at_once_publish_once_and_in_order(data: Path, relay_process: StartRelay) -> None:
    topics = {topic: names(topic, 60) for topic in ("room.a", "room.b", "room.c")}
    relays = [relay_process(), relay_process()]
    for relay in relays:
        relay.wait_for_line("outbox relay ready")
    for topic, message_ids in topics.items():
        for message_id in message_ids:
            commit(topic, message_id)
    emptied()
    for relay in relays:
        relay.terminate()
        assert relay.wait() == 0
    assert {topic: ids_stored(topic) for topic in topics} == topics


def test_relay_two_that_read_the_same_rows_publish_once_and_in_order(
    data: Path, relay_process: StartRelay
) -> None:
    topics = {TOPIC: names("a", 100), OTHER: names("b", 100)}
    published: list[Message] = []

    async def take(message: Message) -> None:
        published.append(message)

    link.run(lambda broker: broker.subscribe("room.*", take))
    for topic, message_ids in topics.items():
        commit(topic, *message_ids)
    with write_lock(data):
        relays = [relay_process(), relay_process()]
        wait_until(lambda: len(published) == 400, START, what="every event by each of them")
    emptied()
    for relay in relays:
        relay.terminate()
        assert relay.wait() == 0
    deleted = [relay.find(r"stopped published=(\d+)$") for relay in relays]
    # Both had read everything before either could delete.
    assert [match and match.group(1) for match in deleted] == ["200", "200"]
    assert {topic: ids_stored(topic) for topic in topics} == topics


async def test_gateway_relays_the_outbox_to_its_sockets(
    gateway: StartGateway, django_db_blocker: object
) -> None:
    site = gateway()
    async with site.client(site.token("alice")) as alice:
        user_id = alice.ready["userId"]
        await alice.subscribe(f"user.{user_id}.notifications")

        def order() -> Stored | Queued:
            with transaction.atomic():
                return notify(user_id, {"text": "Order 42 is on its way."})

        with backend(site.data_dir, site.nats_url, django_db_blocker):
            queued = await in_thread(order)
        assert isinstance(queued, Queued)
        message = await alice.expect("message", messageId=queued.message_id)
    assert message["data"] == {"text": "Order 42 is on its way."}
