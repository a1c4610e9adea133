"""Publishing from Django code: sync, async, in threads, forked, with NATS away."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import multiprocessing
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from typing import Any

import pytest
from django.db import transaction
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from realtime import link
from realtime.broker import connected
from realtime.embedded import NatsServer, free_port
from realtime.parts import make_history
from realtime.protocol.exceptions import BadTopic, TooLarge, Unavailable
from realtime.protocol.jetstream import Stored
from realtime.protocol.messages import Event
from realtime.publish import anotify, apublish, latest, notifications_of, notify, publish
from tests.support.strict import strict_json
from tests.support.waiting import DEADLINE, wait_until

from .support import TOPIC


def open_stream(url: str) -> None:
    """Make the stream, as a gateway does when it starts."""

    async def make() -> None:
        async with connected(url, name="test") as broker:
            await make_history(broker).open()

    asyncio.run(make())


def stored(url: str, topic: str) -> list[Event]:
    """Return what the stream holds of a topic."""

    async def read() -> list[Event]:
        async with connected(url, name="test") as broker:
            return (await make_history(broker).page(topic, 0, limit=1_000)).events

    return asyncio.run(read())


def data_of(events: list[Event]) -> list[Any]:
    """Return the data of events."""
    return [strict_json(one.text.decode())["data"] for one in events]


@pytest.fixture
def forget_link() -> Iterator[None]:
    """Close the process's link when the test is over, so that it does not look for its server."""
    yield
    if link._current is not None:
        link._current.close()
        link._current = None


@pytest.fixture
def nats(nats_server: NatsServer, settings: Settings, forget_link: None) -> NatsServer:
    """Return a server that `publish` uses, with its stream."""
    settings.REALTIME = {**settings.REALTIME, "NATS_URL": nats_server.url}
    open_stream(nats_server.url)
    return nats_server


@pytest.fixture
def nobody(settings: Settings, forget_link: None) -> None:
    """Have `publish` use an address where nobody listens."""
    settings.REALTIME = {
        **settings.REALTIME,
        "NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "NATS_CONNECT_TIMEOUT": 0.3,
    }


# Where it is called from.


def test_publish_sync_returns_when_stored(nats: NatsServer) -> None:
    assert publish(TOPIC, {"a": 1}) == Stored(1)
    assert publish(TOPIC, [1, 2]) == Stored(2)
    assert data_of(stored(nats.url, TOPIC)) == [{"a": 1}, [1, 2]]


async def test_apublish_in_any_loop_returns_when_stored(
    nats_server: NatsServer, settings: Settings, forget_link: None
) -> None:
    settings.REALTIME = {**settings.REALTIME, "NATS_URL": nats_server.url}
    await asyncio.to_thread(open_stream, nats_server.url)
    results = await asyncio.gather(*(apublish(TOPIC, number) for number in range(50)))
    assert sorted(one.sequence for one in results) == list(range(1, 51))
    assert (await anotify(7, "hi")).sequence == 51


def test_apublish_in_one_loop_after_another_works(nats: NatsServer) -> None:
    """As under `asyncio.run`, or in a worker that makes a loop a task."""
    assert [asyncio.run(apublish(TOPIC, 1)).sequence for _ in range(3)] == [1, 2, 3]


def test_publish_from_many_threads_stores_each_once(nats: NatsServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: publish(TOPIC, number), range(200)))
    assert sorted(one.sequence for one in results) == list(range(1, 201))
    assert sorted(data_of(stored(nats.url, TOPIC))) == list(range(200))


def test_publish_from_a_thread_keeps_its_order(nats: NatsServer) -> None:
    def work() -> None:
        for number in range(50):
            publish(TOPIC, number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(DEADLINE)
    assert data_of(stored(nats.url, TOPIC)) == list(range(50))


def _publish_in_a_child(topic: str, answers: SimpleQueue[Any]) -> None:
    try:
        answers.put(publish(topic, "child").sequence)
    except BaseException as exc:
        answers.put(repr(exc))


def test_publish_after_a_fork_works_in_both(nats: NatsServer) -> None:
    """As under gunicorn or Celery: the parent's thread does not come along."""
    assert publish(TOPIC, "parent").sequence == 1
    context = multiprocessing.get_context("fork")
    answers: SimpleQueue[Any] = context.SimpleQueue()
    child = context.Process(target=_publish_in_a_child, args=(TOPIC, answers))
    child.start()
    child.join(DEADLINE)
    try:
        assert child.exitcode == 0
        assert answers.get() == 2
    finally:
        child.kill()
    assert publish(TOPIC, "parent").sequence == 3
    assert data_of(stored(nats.url, TOPIC)) == ["parent", "child", "parent"]


def test_publish_fork_while_another_thread_publishes_does_not_hang(nats: NatsServer) -> None:
    """The lock may be held at the very moment of the fork."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with link._lock:
                link._link()

    thread = threading.Thread(target=work)
    publish(TOPIC, "parent")
    thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(3):
            answers: SimpleQueue[Any] = context.SimpleQueue()
            child = context.Process(target=_publish_in_a_child, args=(TOPIC, answers))
            child.start()
            child.join(DEADLINE)
            child.kill()
            assert child.exitcode == 0
            assert isinstance(answers.get(), int)
    finally:
        stop.set()
        thread.join()


def test_publish_another_nats_url_uses_it(
    nats: NatsServer, settings: Settings, tmp_path: Any
) -> None:
    assert publish(TOPIC, 1).sequence == 1
    other = NatsServer(tmp_path / "other", sync_interval="2m")
    other.start()
    try:
        open_stream(other.url)
        settings.REALTIME = {**settings.REALTIME, "NATS_URL": other.url}
        assert publish(TOPIC, "there").sequence == 1
        assert data_of(stored(other.url, TOPIC)) == ["there"]
    finally:
        other.kill()


# Transactions.


@pytest.mark.django_db
def test_publish_on_commit_hook_stores_after_the_commit(
    nats: NatsServer, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    results: list[Any] = []
    with django_capture_on_commit_callbacks() as callbacks, transaction.atomic():
        transaction.on_commit(lambda: results.append(publish(TOPIC, "hook")))
        assert stored(nats.url, TOPIC) == []
    # The test itself is in a transaction: a hook runs outside of one.
    thread = threading.Thread(target=lambda: [callback() for callback in callbacks])
    thread.start()
    thread.join(DEADLINE)
    assert results == [Stored(1)]
    assert data_of(stored(nats.url, TOPIC)) == ["hook"]


@pytest.mark.django_db(transaction=True)
def test_publish_on_commit_hook_runs_for_real(nats: NatsServer) -> None:
    results: list[Any] = []
    with transaction.atomic():
        transaction.on_commit(lambda: results.append(publish(TOPIC, "hook")))
        assert results == []
    assert results == [Stored(1)]


# What is published.


def test_publish_values_become_json_as_django_writes_them(nats: NatsServer) -> None:
    some_id = uuid.uuid4()
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    publish(
        TOPIC,
        {"id": some_id, "when": when, "sum": decimal.Decimal("1.10"), "on": when.date(), "s": "é"},
    )
    (data,) = data_of(stored(nats.url, TOPIC))
    assert data["id"] == str(some_id)
    assert datetime.datetime.fromisoformat(data["when"]) == when
    assert data["sum"] == "1.10"
    assert data["on"] == "2026-01-02"
    assert data["s"] == "é"


def test_publish_bytes_go_as_they_are(nats: NatsServer) -> None:
    publish(TOPIC, b'{"a": 1}')
    publish(TOPIC, b"\xff")
    frames = [strict_json(one.text.decode()) for one in stored(nats.url, TOPIC)]
    assert frames[0]["data"] == {"a": 1}
    assert frames[1]["encoding"] == "base64"


@pytest.mark.parametrize("value", [object(), {1, object()}, lambda: None])
def test_publish_what_is_no_json_raises_type_error(nats: NatsServer, value: Any) -> None:
    with pytest.raises(TypeError):
        publish(TOPIC, value)
    assert stored(nats.url, TOPIC) == []


def test_publish_same_message_id_is_stored_once(nats: NatsServer) -> None:
    assert publish(TOPIC, 1, message_id="m1") == Stored(1)
    assert publish(TOPIC, 2, message_id="m1") == Stored(1, duplicate=True)
    (event,) = stored(nats.url, TOPIC)
    assert event.message_id == "m1"


def test_publish_ephemeral_reaches_a_subscriber_and_has_no_sequence(nats: NatsServer) -> None:
    async def hear() -> list[bytes]:
        heard: list[bytes] = []
        come = asyncio.Event()

        async def handler(message: Any) -> None:
            heard.append(message.data)
            come.set()

        async with connected(nats.url, name="test") as broker:
            await broker.subscribe("live.score", handler)
            await broker.flush()
            assert await apublish("live.score", 1) == Stored(0)
            await asyncio.wait_for(come.wait(), DEADLINE)
        return heard

    assert asyncio.run(hear()) == [b"1"]


def test_notify_goes_to_the_users_notifications(nats: NatsServer) -> None:
    notify(7, {"text": "hi"})
    notify("a-b_c", {"text": "ho"})
    assert data_of(stored(nats.url, "user.7.notifications")) == [{"text": "hi"}]
    assert data_of(stored(nats.url, "user.a-b_c.notifications")) == [{"text": "ho"}]


@pytest.mark.parametrize("user_id", ["", "*", ">", "a.b", "a b", "7\r\nPUB x", "é", "x" * 300])
def test_notifications_of_no_token_is_bad(user_id: str) -> None:
    with pytest.raises(BadTopic):
        notifications_of(user_id)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "user.*.a",
        "room.>",
        "gateway.auth",
        "$SYS.a",
        "_INBOX.a",
        "room.a b",
        "room.\r\n",
        "x.a",
    ],
)
def test_publish_bad_topic_is_refused_before_nats(nobody: None, topic: str) -> None:
    with pytest.raises(BadTopic):
        publish(topic, 1)


def test_publish_too_large_is_refused_before_nats(nobody: None, settings: Settings) -> None:
    settings.REALTIME = {**settings.REALTIME, "MAX_PAYLOAD_BYTES": 100}
    with pytest.raises(TooLarge):
        publish(TOPIC, "x" * 99)
    with pytest.raises(Unavailable):
        publish(TOPIC, "x" * 98)


def test_latest_returns_the_newest_and_where_to_go_on(nats: NatsServer) -> None:
    assert latest(TOPIC).position == 0
    for number in range(5):
        publish(TOPIC, number)
    publish("room.other", 0)
    found = latest(TOPIC, limit=3)
    assert [one["data"] for one in found.events] == [2, 3, 4]
    assert found.position == 5
    assert found.epoch == latest(TOPIC).epoch != ""


# NATS away.


def test_publish_nobody_there_is_unavailable(nobody: None) -> None:
    with pytest.raises(Unavailable, match="NATS is not reachable"):
        publish(TOPIC, 1)


def test_publish_server_comes_later_works(
    nats_server: NatsServer, settings: Settings, forget_link: None
) -> None:
    open_stream(nats_server.url)
    nats_server.kill()
    settings.REALTIME = {
        **settings.REALTIME,
        "NATS_URL": nats_server.url,
        "NATS_CONNECT_TIMEOUT": 0.3,
    }
    with pytest.raises(Unavailable):
        publish(TOPIC, 1)
    settings.REALTIME = {**settings.REALTIME, "NATS_CONNECT_TIMEOUT": DEADLINE}
    nats_server.start()
    assert publish(TOPIC, 2).sequence == 1


def test_publish_server_killed_is_unavailable_then_works_again(
    nats: NatsServer, settings: Settings
) -> None:
    assert publish(TOPIC, 1).sequence == 1
    settings.REALTIME = {**settings.REALTIME, "STORE_TIMEOUT": 0.3}
    nats.kill()
    with pytest.raises(Unavailable):
        publish(TOPIC, 2)
    current = link._current
    assert current is not None
    wait_until(lambda: not current._broker.connected, what="the loss noticed")
    # Now it is known to be away: not even the timeout is waited for.
    with pytest.raises(Unavailable, match="out of reach"):
        publish(TOPIC, 2)
    nats.start()

    def published() -> bool:
        try:
            # Stored once, however often its confirmation comes too late.
            publish(TOPIC, 3, message_id="m3")
        except Unavailable:
            return False
        return True

    wait_until(published)
    assert data_of(stored(nats.url, TOPIC)) == [1, 3]


def test_publish_no_stream_is_unavailable(
    nats_server: NatsServer, settings: Settings, forget_link: None
) -> None:
    settings.REALTIME = {**settings.REALTIME, "NATS_URL": nats_server.url, "STORE_TIMEOUT": 0.5}
    with pytest.raises(Unavailable):
        publish(TOPIC, 1)
