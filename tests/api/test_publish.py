"""`POST /api/publish/`: one or many events, each failure by itself, retries stored once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.integration.support import ALICE, BOB

from .conftest import Site
from .support import Api, event


def results(answer: Any, status: int = 200) -> list[dict[str, Any]]:
    assert answer.status == status, answer.body
    found: list[dict[str, Any]] = answer.body["results"]
    assert answer.body["failed"] == sum(one["status"] == "failed" for one in found)
    return found


def stored(api: Api, topic: str) -> list[Any]:
    """Return the data of what the stream holds of a topic, oldest first."""
    return [one["data"] for one in api.get(f"topics/{topic}/history/").body["results"]][::-1]


def test_publish_one_event_is_stored(admin, alice, room):
    (one,) = results(admin.post("publish/", {"events": [event(topics=[room], data={"a": [1]})]}))
    assert (one["event"], one["topic"], one["status"]) == (0, room, "stored")
    (found,) = alice.get(f"topics/{room}/history/").body["results"]
    assert (found["seqNo"], found["messageId"]) == (one["seqNo"], one["messageId"])
    assert found["data"] == {"a": [1]}


async def test_publish_to_users_reaches_their_sockets(site: Site, admin: Api):
    async with site.client(site.token("alice")) as client:
        await client.subscribe(f"user.{ALICE}.notifications")
        body = {"events": [event(users=[int(ALICE), BOB], data="hello", messageId="hello-1")]}
        first, second = results(admin.post("publish/", body))
        message = await client.expect("message", messageId="hello-1")
    assert (message["data"], message["seqNo"]) == ("hello", first["seqNo"])
    assert second["topic"] == f"user.{BOB}.notifications"


def test_publish_many_events_keep_their_order(admin, alice, room):
    other = f"{room}.other"
    events = [event(topics=[room, other], data=number) for number in range(40)]
    found = results(admin.post("publish/", {"events": events}))
    assert [(one["event"], one["topic"]) for one in found] == [
        (number, topic) for number in range(40) for topic in (room, other)
    ]
    assert stored(alice, room) == stored(alice, other) == list(range(40))


def test_publish_on_a_topic_that_is_not_stored_is_sent(admin):
    (one,) = results(admin.post("publish/", {"events": [event(topics=["live.prices"])]}))
    assert one["status"] == "sent"
    assert "seqNo" not in one


def test_publish_names_each_topic_once(admin, room):
    events = [event(topics=[room, room], users=[ALICE, int(ALICE)])]
    found = results(admin.post("publish/", {"events": events}))
    assert [one["topic"] for one in found] == [room, f"user.{ALICE}.notifications"]


def test_publish_partial_failure_is_told_one_by_one(admin, alice, room):
    events = [
        event(topics=[room, "closed.topic", "not a topic"], users=["a.b"], data="good"),
        event(topics=[room], data="x" * (61 * 1024)),
        event(topics=[room], data="after"),
    ]
    found = results(admin.post("publish/", {"events": events}), status=207)
    assert [one["status"] for one in found] == ["stored", *["failed"] * 4, "stored"]
    assert [one["error"]["code"] for one in found[1:5]] == [*["BAD_TOPIC"] * 3, "TOO_LARGE"]
    assert all(one["error"]["detail"] for one in found[1:5])
    assert stored(alice, room) == ["good", "after"]


@pytest.mark.parametrize("quoted", ["{}", '"{}"'])
def test_publish_same_idempotency_key_is_stored_once(admin, alice, room, quoted):
    key = uuid.uuid4().hex
    body = {"events": [event(topics=[room], data=1), event(topics=[room, f"{room}.b"], data=2)]}
    first = results(admin.post("publish/", body, Idempotency_Key=key))
    again = results(admin.post("publish/", body, Idempotency_Key=quoted.format(key)))
    assert {one["status"] for one in again} == {"duplicate"}
    for name in ("seqNo", "messageId"):
        assert [one[name] for one in again] == [one[name] for one in first]
    assert stored(alice, room) == [1, 2]
    assert stored(alice, f"{room}.b") == [2]


def test_publish_same_message_id_is_stored_once(admin, alice, room):
    body = {"events": [event(topics=[room], messageId="order-7")]}
    results(admin.post("publish/", body))
    (again,) = results(admin.post("publish/", body))
    assert (again["status"], again["messageId"]) == ("duplicate", "order-7")
    assert len(stored(alice, room)) == 1


def test_publish_without_a_key_is_stored_each_time(admin, alice, room):
    for _ in range(2):
        results(admin.post("publish/", {"events": [event(topics=[room])]}))
    assert len(stored(alice, room)) == 2


def test_publish_needs_the_permission(alice, room):
    problem = alice.post("publish/", {"events": [event(topics=[room])]}).problem(
        403, "PERMISSION_DENIED"
    )
    assert "realtime.publish_event" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#"),
        ([], "#"),
        ({"events": []}, "#/events"),
        ({"events": [{"topics": ["room.a"]}]}, "#/events/0"),
        ({"events": [{"data": 1}]}, "#/events/0"),
        ({"events": [{"data": 1, "topics": []}]}, "#/events/0/topics"),
        ({"events": [{"data": 1, "topics": ["room.a", 2]}]}, "#/events/0/topics/1"),
        ({"events": [event(topics=["room.a"]), event(topic="room.a")]}, "#/events/1"),
        ({"events": [event(topics=["room.a"], messageId="a b")]}, "#/events/0/messageId"),
        ({"events": [event(topics=["room.a"], messageId="a\n")]}, "#/events/0/messageId"),
        ({"events": [event(topics=["room.a"], messageId="x" * 129)]}, "#/events/0/messageId"),
        ({"events": [event(topics=["room.a"])] * 101}, "#/events"),
        ({"events": [event(topics=[f"room.{n}" for n in range(300)])] * 2}, "#/events"),
    ],
)
def test_publish_wrong_body_says_where(admin, body, pointer):
    problem = admin.post("publish/", body).problem(400, "INVALID")
    assert problem["errors"] == [{"detail": problem["detail"], "pointer": pointer}]


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"events":[{"topics":["room.a"],"data":NaN}]}',
        b'{"events":[{"topics":["room.a"],"data":1e999}]}',
        b'{"events":[{"topics":["room.a"],"data":"\\ud800"}]}',
        b'{"events":[{"topics":["room.a"],"data":%s}]}' % (b"9" * 5000),
        b'{"events":[{"topics":["room.a"],"data":%s}]}' % (b"[" * 5000 + b"]" * 5000),
    ],
    ids=["cut", "utf8", "deep", "nan", "infinite", "surrogate", "digits", "deep-data"],
)
def test_publish_json_abuse_is_refused(admin, text):
    admin.send("POST", "publish/", text, {"Content-Type": "application/json"}).problem(
        400, "INVALID"
    )


@pytest.mark.parametrize("key", ["", "a b", "x" * 101, '"open', "ä"])
def test_publish_wrong_idempotency_key_is_refused(admin, room, key):
    answer = admin.post("publish/", {"events": [event(topics=[room])]}, Idempotency_Key=key)
    assert answer.problem(400, "INVALID")["errors"][0]["parameter"] == "Idempotency-Key"
