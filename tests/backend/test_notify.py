"""`notify`, `publish`, `latest` and `manage.py notify`, against a real nats-server."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.translation import gettext_lazy
from pytest_django import Settings

from realtime.broker import connected
from realtime.embedded import NatsServer
from realtime.nats_client import Message
from realtime.protocol.exceptions import BadTopic, TooLarge, Unavailable
from realtime.protocol.jetstream import Stored
from realtime.publish import anotify, apublish, latest, notify, publish
from tests.support.backend import backend, copy_of, ids_stored, in_thread, make_stream, stored
from tests.support.processes import freeze, manage
from tests.support.waiting import DEADLINE, until

TOPIC = "user.7.notifications"
LIVE = "live.ticker"


@pytest.fixture
def data(
    tmp_path: Path, data_template: Path, nats_server: NatsServer, django_db_blocker: object
) -> Iterator[Path]:
    """Make this process a backend, and return the data directory of its database."""
    directory = copy_of(data_template, tmp_path / "data")
    with backend(directory, nats_server.url, django_db_blocker):
        make_stream()
        yield directory


pytestmark = pytest.mark.usefixtures("data")


def alice() -> User:
    return User.objects.get(username="alice")


def topic_of(user: User) -> str:
    return f"user.{user.pk}.notifications"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs `manage.py notify` and returns what it said."""

    def run(*args: str) -> str:
        call_command("notify", *args)
        return capsys.readouterr().out

    return run


# From code.


def test_notify_is_stored_on_the_users_topic() -> None:
    assert notify(7, {"text": "hi"}) == Stored(1)
    (message,) = stored(TOPIC)
    assert json.loads(message.data) == {"text": "hi"}


async def test_anotify_is_stored_on_the_users_topic() -> None:
    assert await anotify("7", {"text": "hi"}, message_id="one") == Stored(1)
    assert await anotify("7", {"text": "hi"}, message_id="one") == Stored(1, duplicate=True)
    assert await in_thread(ids_stored, TOPIC) == ["one"]


def test_notify_same_message_id_twice_is_stored_once() -> None:
    assert notify(7, 1, message_id="order-42") == Stored(1)
    assert notify(7, 2, message_id="order-42") == Stored(1, duplicate=True)
    (message,) = stored(TOPIC)
    assert message.headers["Gateway-Message-Id"] == "order-42"
    assert message.data == b"1"


def test_notify_without_a_message_id_twice_is_stored_twice() -> None:
    assert [notify(7, 1), notify(7, 1)] == [Stored(1), Stored(2)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "é",
        {"nested": [1, 2.5, True]},
        dt.date(2026, 1, 2),
        dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
        uuid.UUID(int=1),
        Decimal("1.10"),
        gettext_lazy("Log out"),
    ],
    ids=repr,
)
def test_publish_writes_data_as_django_writes_it(value: Any) -> None:
    publish(TOPIC, value)
    (message,) = stored(TOPIC)
    assert json.loads(message.data) == json.loads(json.dumps(value, cls=DjangoJSONEncoder))


def test_publish_writes_bytes_as_they_are() -> None:
    publish(TOPIC, b"\x00\xff")
    (message,) = stored(TOPIC)
    assert message.data == b"\x00\xff"


@pytest.mark.parametrize("user_id", ["", "a.b", "*", ">", "7 8", "é", "7\r\nPUB x 0"])
def test_notify_user_id_that_is_no_token_is_bad_topic(user_id: str) -> None:
    with pytest.raises(BadTopic, match="A user id is"):
        notify(user_id, 1)


@pytest.mark.parametrize("topic", ["", "user..x", "user.*", "gateway.auth", "$SYS.x", "rpc.sum"])
def test_publish_topic_that_is_not_open_is_bad_topic(topic: str) -> None:
    with pytest.raises(BadTopic):
        publish(topic, 1)


def test_publish_payload_at_the_limit_is_stored_and_over_it_is_too_large(
    settings: Settings,
) -> None:
    settings.REALTIME = {**settings.REALTIME, "MAX_PAYLOAD_BYTES": 100}
    assert publish(TOPIC, "x" * 98) == Stored(1)
    with pytest.raises(TooLarge, match="at most 100 bytes; this one has 101"):
        publish(TOPIC, "x" * 99)
    assert len(stored(TOPIC)) == 1


@pytest.mark.parametrize("how", ["publish", "apublish"])
async def test_publish_ephemeral_reaches_its_subscriber_and_is_not_stored(
    nats_server: NatsServer, how: str
) -> None:
    came: list[Message] = []

    async def take(message: Message) -> None:
        came.append(message)

    async with connected(nats_server.url, name="test") as broker:
        await broker.subscribe(LIVE, take)
        await broker.flush(DEADLINE)
        if how == "publish":
            result = await in_thread(publish, LIVE, 1)
        else:
            result = await apublish(LIVE, 1)
        await until(lambda: came, what="the event")
    assert result == Stored(0)
    assert [message.data for message in came] == [b"1"]
    assert await in_thread(stored, LIVE) == []


def test_publish_nats_frozen_is_unavailable_after_the_store_timeout(
    nats_server: NatsServer, settings: Settings
) -> None:
    publish(TOPIC, 1)
    settings.REALTIME = {**settings.REALTIME, "STORE_TIMEOUT": 0.5}
    assert nats_server.pid is not None
    freeze(nats_server.pid)
    try:
        with pytest.raises(Unavailable, match="did not confirm") as failed:
            publish(TOPIC, 2)
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)
    assert str(failed.value.__cause__) == "No reply within 0.5 s."


def test_publish_without_a_stream_is_unavailable(settings: Settings) -> None:
    durable = ["user.>", "room.>", "live.>"]
    settings.REALTIME = {**settings.REALTIME, "DURABLE_TOPICS": durable}
    with pytest.raises(Unavailable, match="did not confirm"):
        publish(LIVE, 1)


# What a page shows.


def test_latest_returns_the_last_events_newest_last_and_where_they_end() -> None:
    for number in range(5):
        notify(7, number)
    notify(8, "another user's")
    found = latest(TOPIC, 3)
    assert [event["data"] for event in found.events] == [2, 3, 4]
    assert [event["seqNo"] for event in found.events] == [3, 4, 5]
    assert {event["type"] for event in found.events} == {"message"}
    assert found.position == 5
    assert re.match(r"\d{4}-\d\d-\d\dT", found.epoch)


def test_latest_of_an_empty_topic_is_empty_at_its_beginning() -> None:
    notify(8, "another user's")
    found = latest(TOPIC)
    assert (found.events, found.position) == ([], 0)


def test_latest_bad_topic_is_bad_topic() -> None:
    with pytest.raises(BadTopic):
        latest("user.*")


def test_latest_nats_gone_is_unavailable(nats_server: NatsServer, settings: Settings) -> None:
    settings.REALTIME = {**settings.REALTIME, "HISTORY_TIMEOUT": 0.5}
    nats_server.kill()
    with pytest.raises(Unavailable):
        latest(TOPIC)


# manage.py notify.


def test_command_text_is_wrapped_and_says_where_it_went(said: Callable[..., str]) -> None:
    assert said("alice", "Hello there") == "Sent to alice as event 1.\n"
    (message,) = stored(topic_of(alice()))
    assert json.loads(message.data) == {"message": "Hello there"}


def test_command_json_is_sent_as_it_is(said: Callable[..., str]) -> None:
    said("alice", '{"text": [1, 2]}')
    (message,) = stored(topic_of(alice()))
    assert json.loads(message.data) == {"text": [1, 2]}


def test_command_user_by_id_is_found(said: Callable[..., str]) -> None:
    user = alice()
    said(str(user.pk), "hi")
    assert len(stored(topic_of(user))) == 1


def test_command_username_counts_before_id(said: Callable[..., str]) -> None:
    named = User.objects.create(username=str(alice().pk))
    said(named.username, "hi")
    assert (len(stored(topic_of(named))), stored(topic_of(alice()))) == (1, [])


def test_command_same_message_id_twice_says_stored_before(said: Callable[..., str]) -> None:
    lines = [said("alice", "hi", "--message-id", "order-42") for _ in range(2)]
    assert lines == ["Sent to alice as event 1.\n", "Sent to alice as event 1 (stored before).\n"]
    assert ids_stored(topic_of(alice())) == ["order-42"]


@pytest.mark.parametrize("user", ["nobody", "0", "99999999999999999999", "", "²"])
def test_command_unknown_user_is_one_sentence(user: str) -> None:
    with pytest.raises(CommandError, match=r"^There is no user .* give a username or an id\.$"):
        call_command("notify", user, "hi")


def test_command_nats_away_is_one_sentence(nats_server: NatsServer, settings: Settings) -> None:
    settings.REALTIME = {
        **settings.REALTIME,
        "NATS_URL": nats_server.url.replace("127.0.0.1", "localhost"),
        "NATS_CONNECT_TIMEOUT": 0.5,
    }
    nats_server.kill()
    with pytest.raises(
        CommandError, match=r"^NATS is not reachable at nats://localhost:\d+: .*\.$"
    ):
        call_command("notify", "alice", "hi")


def test_command_as_a_process_has_sent_when_it_ends(data: Path, nats_server: NatsServer) -> None:
    env = {"DATA_DIR": str(data), "NATS_URL": nats_server.url}
    out = manage("notify", "alice", "hi", env=env)
    assert out == "Sent to alice as event 1.\n"
    assert len(stored(topic_of(alice()))) == 1
