"""Commands about a user's sockets, and the statistics."""

from __future__ import annotations

import pytest

from tests.integration.support import ALICE
from tests.support.waiting import until

from .conftest import Site
from .support import event


async def test_disconnect_closes_the_sockets_of_the_user(site: Site, admin):
    async with (
        site.client(site.token("alice")) as phone,
        site.client(site.token("alice")) as laptop,
        site.client(site.token("bob")) as other,
    ):
        assert admin.post(f"users/{ALICE}/disconnect/", {"reason": "moved"}).status == 202
        await phone.expect_close(4502)
        await laptop.expect_close(4502)
        await other.ask("ping", "pong")


async def test_disconnect_needs_no_body(site: Site, admin):
    async with site.client(site.token("alice")) as client:
        assert admin.send("POST", f"users/{ALICE}/disconnect/").status == 202
        await client.expect_close(4502)


async def test_unsubscribe_takes_one_topic_away(site: Site, admin, room):
    async with site.client(site.token("alice")) as client:
        await client.subscribe(room)
        await client.subscribe(f"{room}.kept")
        assert admin.post(f"users/{ALICE}/unsubscribe/", {"topic": room}).status == 202
        assert (await client.expect("unsubscribed"))["topic"] == room
        assert (await client.error("replay", topic=room, fromSeq=1))["code"] == "NOT_SUBSCRIBED"
        admin.post("publish/", {"events": [event(topics=[f"{room}.kept"])]})
        await client.expect("message", topic=f"{room}.kept")


@pytest.mark.parametrize("operation", ["disconnect", "unsubscribe"])
@pytest.mark.parametrize("user", ["*", "%3E", "1.2", "a%20b", "x" * 201, "%0d%0a"])
def test_user_id_that_is_no_token_is_not_found(admin, operation, user):
    admin.post(f"users/{user}/{operation}/", {"topic": "room.a"}).problem(404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("operation", "body", "pointer"),
    [
        ("disconnect", {"reason": 1}, "#/reason"),
        ("disconnect", {"reason": "x" * 101}, "#/reason"),
        ("disconnect", {"why": "x"}, "#"),
        ("unsubscribe", {}, "#"),
        ("unsubscribe", {"topic": "room.*"}, "#/topic"),
        ("unsubscribe", {"topic": "room.a\n"}, "#/topic"),
    ],
)
def test_user_command_wrong_body_says_where(admin, operation, body, pointer):
    problem = admin.post(f"users/{ALICE}/{operation}/", body).problem(400, "INVALID")
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("operation", ["disconnect", "unsubscribe"])
def test_user_command_needs_the_permission(alice, operation):
    answer = alice.post(f"users/{ALICE}/{operation}/", {"topic": "room.a"})
    assert "realtime.disconnect_user" in answer.problem(403, "PERMISSION_DENIED")["detail"]


async def test_stats_count_sessions_and_topics(site: Site, admin, room):
    async with site.client(site.token("alice")) as one, site.client(site.token("bob")) as two:
        await one.subscribe(room)
        await two.subscribe(room)

        def counted() -> bool:  # sockets of the tests before may still be closing
            found = admin.get("stats/").body
            names = ("sessions", "users", "subscriptions")
            # None where the process did not answer within its quarter of a second.
            numbers = [[process[name] for name in names] for process in found["processes"]]
            return (
                numbers == [[2, 2, 2]]
                and found["sessions"] == found["subscriptions"] == 2
                and found["topics"] == [{"topic": room, "subscriptions": 2}]
            )

        await until(counted, what="two sessions")


def test_stats_tell_the_stream_and_the_outbox(admin, room):
    before = admin.get("stats/").body["stream"]
    admin.post("publish/", {"events": [{"topics": [room], "data": 1}]})
    after = admin.get("stats/").body
    assert after["stream"]["name"] == "GATEWAY"
    assert after["stream"]["epoch"] == before["epoch"]
    for name in ("lastSeqNo", "events", "topics"):
        assert after["stream"][name] == before[name] + 1
    assert after["outbox"] == 0


def test_stats_need_the_permission(alice):
    assert "realtime.view_stats" in alice.get("stats/").problem(403, "PERMISSION_DENIED")["detail"]
