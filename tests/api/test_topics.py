"""History and presence of a topic: by the rules that a socket has."""

from __future__ import annotations

import pytest

from tests.integration.support import ALICE, BOB
from tests.support.waiting import until

from .conftest import Site
from .support import Api, event


def publish(api: Api, topic: str, *data: object) -> None:
    answer = api.post("publish/", {"events": [event(topics=[topic], data=one) for one in data]})
    assert answer.status == 200


def test_history_pages_join_without_gap_or_repeat(admin, alice, room):
    publish(admin, room, *range(7))
    seen, cursor = [], {}
    while True:
        page = alice.get(f"topics/{room}/history/", limit=3, **cursor).body
        seen += [one["data"] for one in page["results"]]
        if page["nextCursor"] is None:
            break
        publish(admin, room, "later")  # what arrives meanwhile shifts nothing
        cursor = {"cursor": page["nextCursor"]}
    assert seen == [6, 5, 4, 3, 2, 1, 0]


def test_history_page_that_ends_the_topic_has_no_cursor(admin, alice, room):
    publish(admin, room, 1, 2)
    assert alice.get(f"topics/{room}/history/", limit=2).body["nextCursor"] is None


def test_history_long_events_make_a_short_page(admin, alice, room):
    for number in range(12):
        publish(admin, room, [number, "x" * 50_000])
    page = alice.get(f"topics/{room}/history/", limit=100).body
    assert [one["data"][0] for one in page["results"]] == list(range(11, 1, -1))
    rest = alice.get(f"topics/{room}/history/", cursor=page["nextCursor"]).body
    assert [one["data"][0] for one in rest["results"]] == [1, 0]


def test_history_of_an_empty_topic_is_empty(alice, room):
    page = alice.get(f"topics/{room}/history/").body
    assert (page["results"], page["nextCursor"]) == ([], None)
    assert page["epoch"]


async def test_history_ends_where_a_subscription_goes_on(site: Site, admin, alice, room):
    publish(admin, room, "before")
    page = alice.get(f"topics/{room}/history/").body
    publish(admin, room, "between")
    async with site.client(site.token("alice")) as client:
        since = page["results"][0]["seqNo"]
        await client.subscribe(room, since=since, epoch=page["epoch"])
        assert (await client.expect("message"))["data"] == "between"


@pytest.mark.parametrize("operation", ["history", "presence"])
@pytest.mark.parametrize(
    ("topic", "status", "code"),
    [
        (f"user.{BOB}.notifications", 403, "ACL_DENIED"),
        ("live.prices", 403, "ACL_DENIED"),
        ("gateway.control", 404, "BAD_TOPIC"),
        ("room.*", 404, "BAD_TOPIC"),
        ("room.%3E", 404, "BAD_TOPIC"),
        ("room..a", 404, "BAD_TOPIC"),
        ("room.%0d%0a", 404, "BAD_TOPIC"),
        ("room.%00", 404, "BAD_TOPIC"),
        ("x" * 201, 404, "BAD_TOPIC"),
        ("room/a", 404, "NOT_FOUND"),
    ],
)
def test_topic_that_one_may_not_read_is_refused(alice, operation, topic, status, code):
    alice.get(f"topics/{topic}/{operation}/").problem(status, code)


@pytest.mark.parametrize("operation", ["history", "presence"])
def test_topic_needs_a_credential(site: Site, operation):
    answer = site.api().get(f"topics/room.a/{operation}/")
    answer.problem(401, "NOT_AUTHENTICATED")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", ""])
def test_history_wrong_limit_says_so(alice, room, limit):
    problem = alice.get(f"topics/{room}/history/", limit=limit).problem(400, "INVALID")
    assert problem["errors"][0]["parameter"] == "limit"


@pytest.mark.parametrize("cursor", ["x", "bm90IGpzb24", "WzEsMl0", "ä", "WzUsImVwb2NoIl0"])
def test_history_wrong_cursor_is_not_found(alice, room, cursor):
    problem = alice.get(f"topics/{room}/history/", cursor=cursor).problem(404, "NOT_FOUND")
    assert "cursor" in problem["detail"]


async def test_presence_tells_users_and_their_sockets(site: Site, alice, room):
    token = site.token("alice")
    async with site.client(token) as one, site.client(token) as two:
        await one.subscribe(room)
        await two.subscribe(room)
        member = {"userId": ALICE, "connections": 2, "info": {"name": "alice"}}
        page = {"topic": room, "members": [member]}
        # The gateway has a quarter of a second to answer.
        await until(lambda: alice.get(f"topics/{room}/presence/").body == page, what="both sockets")
