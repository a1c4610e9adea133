"""Durable subscriptions over the socket: away and back, on any device and any web process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from accounts.tokens import issue_jwt
from realtime import link
from realtime.broker import Broker
from realtime.conf import settings
from realtime.positions import Position, Positions
from realtime.protocol.exceptions import Unavailable
from tests.support.backend import backend, in_thread, make_stream
from tests.support.client import Frame, TestClient
from tests.support.gateways import Cluster, Gateway
from tests.support.waiting import until

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.integration.short_waits"}
PATIENT = {"ACK_WAIT": "30", "MAX_UNACKED": "256", "STREAM_MAX_PER_TOPIC": "10000"}
DELETE = "$JS.API.STREAM.DELETE.GATEWAY"
WINDOW = 256
"""MAX_UNACKED of the patient cluster."""


class Person:
    """A user, and the topics that the tests use of theirs."""

    def __init__(self, name: str) -> None:
        user = User.objects.create(username=name, password="!")
        user.groups.add(Group.objects.get(name="demo"))
        self.id = str(user.pk)
        self.token = issue_jwt(user)
        self.topic = f"user.{self.id}.orders"
        self.other_topic = f"user.{self.id}.fence"


@pytest.fixture(scope="module")
def secret() -> dict[str, str]:
    """Return the environment in which a site takes the tokens and sessions of this process."""
    from django.conf import settings as project

    return {"SECRET_KEY": project.SECRET_KEY}


def wait_ready(site: Cluster) -> None:
    """Return when every process of the cluster is at NATS."""
    for number, process in enumerate(site.web):
        process.wait_http(f"{site.url(number)}/readyz")
    site.wait_listening("gateway.auth", len(site.auth_workers))
    site.wait_listening("gateway.relay.", len(site.bridges))


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, data_template: Path, secret: dict[str, str]
) -> Iterator[Cluster]:
    """Run two web processes with a bridge, shared by the tests of this module."""
    env = {**SETTINGS, **PATIENT, **secret}
    site = Cluster(tmp_path_factory.mktemp("cluster"), data_template, env)
    try:
        site.start(web=2, bridges=1, auth_workers=1)
        wait_ready(site)
        yield site
    finally:
        site.close()


@pytest.fixture(scope="module")
def hasty(
    tmp_path_factory: pytest.TempPathFactory, data_template: Path, secret: dict[str, str]
) -> Iterator[Gateway]:
    """Run a gateway with short waits, small windows and no end of tries, for this module."""
    env = {**SETTINGS, **secret, "ACK_TRIES": "1000"}
    yield from running(Gateway(tmp_path_factory.mktemp("hasty"), data_template, env))


@pytest.fixture(scope="module")
def strict(
    tmp_path_factory: pytest.TempPathFactory, data_template: Path, secret: dict[str, str]
) -> Iterator[Gateway]:
    """Run a gateway that gives up after three short waits, for this module."""
    env = {**SETTINGS, **secret}
    yield from running(Gateway(tmp_path_factory.mktemp("strict"), data_template, env))


def running(site: Gateway) -> Iterator[Gateway]:
    """Run a gateway."""
    try:
        site.start()
        yield site
    finally:
        site.close()


@pytest.fixture
def two(cluster: Cluster, django_db_blocker: object) -> Iterator[Cluster]:
    """Return the cluster, with this process as its backend."""
    with backend(cluster.data_dir, cluster.nats.url, django_db_blocker):
        yield cluster


@pytest.fixture
def one(hasty: Gateway, django_db_blocker: object) -> Iterator[Gateway]:
    """Return the hasty gateway, with this process as its backend."""
    with backend(hasty.data_dir, hasty.nats_url, django_db_blocker):
        yield hasty


@pytest.fixture
def three_tries(strict: Gateway, django_db_blocker: object) -> Iterator[Gateway]:
    """Return the strict gateway, with this process as its backend."""
    with backend(strict.data_dir, strict.nats_url, django_db_blocker):
        yield strict


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)[-100:]


@pytest.fixture
async def person(name: str, request: pytest.FixtureRequest) -> Person:
    """Return a user of the test's own; ask for the site before this."""
    return await in_thread(Person, name)


async def publish(topic: str, count: int) -> list[int]:
    """Store so many events, each with its number as data, and return their sequences."""

    async def store(broker: Broker) -> list[int]:
        stored = [
            await broker.store(topic, str(number).encode(), headers=None, timeout=30)
            for number in range(1, count + 1)
        ]
        return [one.sequence for one in stored]

    return await link.arun(store)


async def position(
    person: Person, topic: str | None = None, name: str = "phone"
) -> Position | None:
    """Return a position as the bucket holds it."""

    async def read(broker: Broker) -> Position | None:
        bucket = Positions(
            broker, settings.POSITIONS_BUCKET, replicas=1, max_age=90 * 86400.0, timeout=30
        )
        return await bucket.read(person.id, name, topic or person.topic)

    return await link.arun(read)


async def position_at(person: Person, sequence: int, topic: str | None = None) -> None:
    """Return once the position is at a sequence."""

    async def there() -> bool:
        with contextlib.suppress(Unavailable):  # NATS may be on its way back
            found = await position(person, topic)
            return found is not None and found.sequence == sequence
        return False

    await until(there, what=f"the position at {sequence}")


async def first_time(site: Cluster | Gateway, person: Person, top: int = 0) -> None:
    """Subscribe for the first time, leave, and return once that is noted."""
    async with site.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
    await position_at(person, top)


async def acknowledge(client: TestClient, **fields: Any) -> None:
    """Acknowledge, and return when the gateway has taken it."""
    await client.send("ack", **fields)
    await client.ask("ping", "pong")


async def messages(client: TestClient, sequences: Sequence[int]) -> list[Frame]:
    """Return the next messages, which must be those with these sequences."""
    found = [await client.expect("message") for _ in sequences]
    assert [message["seqNo"] for message in found] == list(sequences)
    return found


def numbers(found: Sequence[Frame]) -> list[int]:
    return [message["data"] for message in found]


# Away and back.


async def test_durable_first_time_begins_at_the_top(two: Cluster, person: Person) -> None:
    (*_, top) = await publish(person.topic, 3)
    async with two.client(person.token) as client:
        subscribed = await client.subscribe(person.topic, durable="phone")
        assert (subscribed["seqNo"], subscribed["recovered"]) == (top, True)
        await client.expect_nothing("message")
        await position_at(person, top)
        (sequence,) = await publish(person.topic, 1)
        await messages(client, [sequence])


@pytest.mark.parametrize("back_on", [0, 1], ids=["same process", "other process"])
async def test_durable_away_for_500_events_gets_all_in_order_window_by_window(
    two: Cluster, person: Person, back_on: int
) -> None:
    await first_time(two, person)
    sequences = await publish(person.topic, 500)
    async with two.client(person.token, back_on) as bystander:
        # Those who serve the topic still may hear of its last events later than the stream.
        if (await bystander.subscribe(person.topic))["seqNo"] < sequences[-1]:
            await bystander.expect("message", seqNo=sequences[-1])
    async with two.client(person.token, back_on) as client:
        subscribed = await client.subscribe(person.topic, durable="phone")
        assert (subscribed["seqNo"], subscribed["recovered"]) == (sequences[-1], True)
        found = await messages(client, sequences[:WINDOW])
        await client.expect_nothing("message")
        # Room for ten more, and for no eleventh.
        await acknowledge(client, topic=person.topic, seqNo=sequences[9])
        found += await messages(client, sequences[WINDOW : WINDOW + 10])
        await client.expect_nothing("message")
        await acknowledge(client, topic=person.topic, seqNo=sequences[WINDOW + 9])
        found += await messages(client, sequences[WINDOW + 10 :])
        assert numbers(found) == list(range(1, 501))
        await acknowledge(client, topic=person.topic, seqNo=sequences[-1])
        (live,) = await publish(person.topic, 1)
        await messages(client, [live])
    await position_at(person, sequences[-1])


async def test_durable_position_moves_with_acks_only(two: Cluster, person: Person) -> None:
    await first_time(two, person)
    sequences = await publish(person.topic, 5)
    for which in (0, 1):
        async with two.client(person.token, which) as client:
            await client.subscribe(person.topic, durable="phone")
            await messages(client, sequences)
    async with two.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
        await messages(client, sequences)
        await acknowledge(client, topic=person.topic, seqNo=sequences[2])
    await position_at(person, sequences[2])
    async with two.client(person.token, 1) as client:
        await client.subscribe(person.topic, durable="phone")
        await messages(client, sequences[3:])
        await client.expect_nothing("message")


async def test_durable_ack_by_message_id_moves_over_what_is_whole(
    two: Cluster, person: Person
) -> None:
    await first_time(two, person)
    sequences = await publish(person.topic, 4)
    async with two.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
        found = await messages(client, sequences)
        # The third and the second: the first is still missing.
        for index in (2, 1):
            await acknowledge(client, messageId=found[index]["messageId"])
    async with two.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
        found = await messages(client, sequences)
        for index in (2, 1, 0):
            await acknowledge(client, messageId=found[index]["messageId"])
    await position_at(person, sequences[2])
    async with two.client(person.token, 1) as client:
        await client.subscribe(person.topic, durable="phone")
        await messages(client, sequences[3:])
        await client.expect_nothing("message")


async def test_durable_unsubscribed_and_back_on_the_same_socket_gets_what_came_between(
    two: Cluster, person: Person
) -> None:
    async with two.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
        await client.unsubscribe(person.topic)
        sequences = await publish(person.topic, 3)
        await client.subscribe(person.topic, durable="phone")
        await messages(client, sequences)


async def test_durable_since_given_counts_before_the_position(two: Cluster, person: Person) -> None:
    await first_time(two, person)
    sequences = await publish(person.topic, 4)
    async with two.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone", since=sequences[1])
        await messages(client, sequences[2:])
        await client.expect_nothing("message")


async def test_durable_on_an_ephemeral_topic_is_an_ordinary_subscription(
    two: Cluster, person: Person
) -> None:
    await in_thread(allow, person, "live.>")
    topic = f"live.{person.id}"
    async with two.client(person.token) as client:
        subscribed = await client.subscribe(topic, durable="phone")
        assert (subscribed["seqNo"], subscribed["recovered"]) == (0, True)
        await link.arun(lambda broker: broker.publish(topic, b"1"))
        message = await client.expect("message", topic=topic)
        assert "seqNo" not in message
    assert await position(person, topic) is None


def allow(person: Person, pattern: str) -> None:
    from accounts.models import AccessRule

    AccessRule.objects.create(user_id=int(person.id), topic=pattern)


# Who shares a position, and who does not.


async def test_durable_two_devices_with_one_name_agree(two: Cluster, person: Person) -> None:
    await first_time(two, person)
    sequences = await publish(person.topic, 6)
    async with two.client(person.token, 0) as phone:
        await phone.subscribe(person.topic, durable="phone")
        await messages(phone, sequences)
        await acknowledge(phone, topic=person.topic, seqNo=sequences[2])
        await position_at(person, sequences[2])
        async with two.client(person.token, 1) as second:
            await second.subscribe(person.topic, durable="phone")
            await messages(second, sequences[3:])
            await acknowledge(second, topic=person.topic, seqNo=sequences[4])
            await position_at(person, sequences[4])
    async with two.client(person.token, 0) as phone:
        await phone.subscribe(person.topic, durable="phone")
        await messages(phone, sequences[5:])
        await phone.expect_nothing("message")


async def test_durable_names_of_one_user_are_apart(two: Cluster, person: Person) -> None:
    await first_time(two, person)
    sequences = await publish(person.topic, 2)
    async with two.client(person.token) as tablet:
        subscribed = await tablet.subscribe(person.topic, durable="tablet")
        assert subscribed["seqNo"] == sequences[-1]
        await tablet.expect_nothing("message")
    async with two.client(person.token) as phone:
        await phone.subscribe(person.topic, durable="phone")
        await messages(phone, sequences)


async def test_durable_same_name_of_another_user_is_apart(
    two: Cluster, person: Person, name: str
) -> None:
    other = await in_thread(Person, f"other-{name}"[:100])
    topic = f"room.{person.id}"
    for one in (person, other):
        async with two.client(one.token) as client:
            await client.subscribe(topic, durable="phone")
        await position_at(one, 0, topic)
    sequences = await publish(topic, 3)
    async with two.client(person.token) as client:
        await client.subscribe(topic, durable="phone")
        await messages(client, sequences)
        await acknowledge(client, topic=topic, seqNo=sequences[-1])
    await position_at(person, sequences[-1], topic)
    async with two.client(other.token) as client:
        await client.subscribe(topic, durable="phone")
        await messages(client, sequences)


async def test_durable_two_writers_racing_never_move_the_position_back(
    two: Cluster, person: Person
) -> None:
    await first_time(two, person)
    sequences = await publish(person.topic, 10)
    async with two.client(person.token, 0) as ahead, two.client(person.token, 1) as behind:
        for client in (ahead, behind):
            await client.subscribe(person.topic, durable="phone")
            await messages(client, sequences)
        # The one behind also holds a second topic: what it writes of that one comes not before
        # what it writes of the first.
        await behind.subscribe(person.other_topic, durable="phone")
        (fence,) = await publish(person.other_topic, 1)
        await behind.expect("message", topic=person.other_topic)
        await ahead.send("ack", topic=person.topic, seqNo=sequences[8])
        await behind.send("ack", topic=person.topic, seqNo=sequences[3])
        await position_at(person, sequences[8])
        await behind.send("ack", topic=person.topic, seqNo=sequences[4])
        await behind.send("ack", topic=person.other_topic, seqNo=fence)
        await position_at(person, fence, person.other_topic)
        found = await position(person)
    assert found is not None
    assert found.sequence == sequences[8]


# What must not be lost.


async def test_durable_first_time_counts_at_once_on_the_other_process(
    two: Cluster, person: Person
) -> None:
    async with two.client(person.token, 0) as client:
        await client.subscribe(person.topic, durable="phone")
    sequences = await publish(person.topic, 1)
    async with two.client(person.token, 1) as client:
        await client.subscribe(person.topic, durable="phone")
        await messages(client, sequences)


async def test_durable_first_time_counts_though_the_process_is_killed(
    two: Cluster, person: Person
) -> None:
    try:
        async with two.client(person.token, 0) as client:
            await client.subscribe(person.topic, durable="phone")
            two.web[0].kill()
        sequences = await publish(person.topic, 1)
        async with two.client(person.token, 1) as client:
            await client.subscribe(person.topic, durable="phone")
            await messages(client, sequences)
    finally:
        two.web[0].start()
        await in_thread(wait_ready, two)


async def test_durable_first_time_with_since_counts_from_there(
    two: Cluster, person: Person
) -> None:
    sequences = await publish(person.topic, 3)
    for since in ({"since": sequences[0]}, {}):
        async with two.client(person.token) as client:
            await client.subscribe(person.topic, durable="phone", **since)
            await messages(client, sequences[1:])


@pytest.mark.parametrize("held", [{"qos": 1}, {"durable": "tablet"}], ids=["qos 1", "other name"])
async def test_durable_asked_for_while_held_otherwise_is_durable_from_then_on(
    two: Cluster, person: Person, held: dict[str, Any]
) -> None:
    async with two.client(person.token) as client:
        await client.subscribe(person.topic, **held)
        await client.subscribe(person.topic, durable="phone")
        sequences = await publish(person.topic, 3)
        await messages(client, sequences)
        await acknowledge(client, topic=person.topic, seqNo=sequences[0])
    await position_at(person, sequences[0])


async def test_durable_nats_restarted_between_ack_and_write_keeps_the_ack(
    two: Cluster, person: Person
) -> None:
    await first_time(two, person)
    sequences = await publish(person.topic, 4)
    async with two.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
        await messages(client, sequences)
        await acknowledge(client, topic=person.topic, seqNo=sequences[2])
        two.nats.kill()
        two.nats.start()
        await position_at(person, sequences[2])
        await client.ask("ping", "pong")
    await in_thread(wait_ready, two)
    async with two.client(person.token, 1) as client:
        await client.subscribe(person.topic, durable="phone")
        await messages(client, sequences[3:])
        await client.expect_nothing("message")


async def test_durable_stream_recreated_is_reset_and_begins_anew(
    two: Cluster, person: Person
) -> None:
    async with two.client(person.token) as client:
        before = (await client.subscribe(person.topic, durable="phone"))["epoch"]
        sequences = await publish(person.topic, 3)
        await messages(client, sequences)
        await acknowledge(client, topic=person.topic, seqNo=sequences[-1])
    await position_at(person, sequences[-1])
    async with two.client(person.token, 0) as here, two.client(person.token, 1) as there:
        for client in (here, there):
            await client.subscribe(person.other_topic)
        await link.arun(lambda broker: broker.request(DELETE, b"", timeout=30))
        await in_thread(make_stream)
        for client in (here, there):
            await client.expect("reset", topic=person.other_topic)
    sequences = await publish(person.topic, 2)
    async with two.client(person.token, 1) as client:
        subscribed = await client.subscribe(person.topic, durable="phone")
        assert subscribed["epoch"] != before
        assert subscribed["recovered"] is False
        reset = await client.expect("reset", topic=person.topic)
        assert reset["epoch"] == subscribed["epoch"]
        await messages(client, sequences)
        await acknowledge(client, topic=person.topic, seqNo=sequences[0])
    await position_at(person, sequences[0])
    async with two.client(person.token, 0) as client:
        subscribed = await client.subscribe(person.topic, durable="phone")
        assert subscribed["recovered"] is True
        await messages(client, sequences[1:])


# Acknowledgements, at gateways that wait 0.3 s for them and keep 8 in flight. On a busy machine
# an acknowledgement may come later than that, so one of them repeats events without end.

QUALITIES = [{"qos": 1}, {"durable": "phone"}]


@pytest.mark.parametrize("quality", QUALITIES, ids=["qos 1", "durable"])
async def test_unacknowledged_event_is_repeated_and_the_acknowledged_one_is_not(
    one: Gateway, person: Person, quality: dict[str, Any]
) -> None:
    async with one.client(person.token) as client:
        await client.subscribe(person.topic, **quality)
        first, second, third = await publish(person.topic, 3)
        found = await messages(client, [first, second, third])
        assert not any("redelivered" in message for message in found)
        await acknowledge(client, messageId=found[1]["messageId"])
        ids = client.recorder.ids(person.topic)
        for sequence in (first, third):
            again = await client.expect("message", seqNo=sequence, redelivered=True)
            assert again == found[0 if sequence == first else 2] | {"redelivered": True}
        # Those two again and again, the acknowledged one never more.
        await until(lambda: len(client.recorder.ids(person.topic)) >= len(ids) + 4)
        later = client.recorder.ids(person.topic)[len(ids) :]
        assert found[1]["messageId"] not in later
        await acknowledge(client, topic=person.topic, seqNo=third)


@pytest.mark.parametrize("quality", QUALITIES, ids=["qos 1", "durable"])
async def test_never_acknowledged_is_closed_with_4005_after_its_tries(
    three_tries: Gateway, person: Person, quality: dict[str, Any]
) -> None:
    async with three_tries.client(person.token) as client:
        await client.subscribe(person.topic, **quality)
        (sequence,) = await publish(person.topic, 1)
        await client.expect_close(4005)
        receipts = client.recorder.receipts[person.topic]
    assert [(one.sequence, one.redelivered) for one in receipts] == [
        (sequence, False),
        (sequence, True),
        (sequence, True),
    ]


async def test_durable_closed_with_4005_gets_it_again_when_it_comes_back(
    three_tries: Gateway, person: Person
) -> None:
    async with three_tries.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
        sequences = await publish(person.topic, 2)
        await client.expect_close(4005)
    async with three_tries.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
        await messages(client, sequences)


async def test_qos0_is_never_repeated(three_tries: Gateway, person: Person) -> None:
    async with (
        three_tries.client(person.token) as plain,
        three_tries.client(person.token) as other,
    ):
        await plain.subscribe(person.topic)
        await other.subscribe(person.topic, qos=1)
        (sequence,) = await publish(person.topic, 1)
        await messages(plain, [sequence])
        await other.expect_close(4005)
        await plain.expect_nothing("message")


@pytest.mark.parametrize("away", [False, True], ids=["live", "away"])
async def test_window_in_flight_never_passes_its_bound(
    one: Gateway, person: Person, away: bool
) -> None:
    if away:
        await first_time(one, person)
        await burst(person.topic, 50)
    async with one.client(person.token) as client:
        await client.subscribe(person.topic, durable="phone")
        if not away:
            await burst(person.topic, 50)
        acked = 0
        while acked < 50:
            await client.expect("message")
            # Repeats of what the window holds may pass; what is new may not outgrow it.
            assert client.recorder.count(person.topic) <= acked + 8
            if client.recorder.count(person.topic) == min(acked + 8, 50):
                await client.ask("ping", "pong")
                assert client.recorder.count(person.topic) == min(acked + 8, 50)
                acked = min(acked + 8, 50)
                last = client.recorder.last(person.topic)
                await acknowledge(client, topic=person.topic, seqNo=last)
        report = client.recorder.receipts[person.topic]
    sequences = [receipt.sequence or 0 for receipt in report if not receipt.redelivered]
    assert sequences == sorted(sequences)
    assert len(sequences) == 50


async def burst(topic: str, count: int) -> None:
    """Publish so many events at once, and return when all are stored."""

    async def store(broker: Broker) -> None:
        events = [str(number).encode() for number in range(count)]
        await asyncio.gather(
            *(broker.store(topic, event, headers=None, timeout=30) for event in events)
        )

    await link.arun(store)


async def test_durable_away_longer_than_kept_is_told_the_gap(one: Gateway, person: Person) -> None:
    await first_time(one, person)
    # More than a web process remembers, so that the stream is asked, which keeps 100.
    sequences = await publish(person.topic, 250)
    async with one.client(person.token) as client:
        subscribed = await client.subscribe(person.topic, durable="phone")
        assert subscribed["recovered"] is False
        gap = await client.expect("gap", topic=person.topic)
        assert (gap["fromSeq"], gap["toSeq"]) == (1, sequences[150] - 1)
        await messages(client, sequences[150:158])
        await acknowledge(client, topic=person.topic, seqNo=sequences[157])
    await position_at(person, sequences[157])
