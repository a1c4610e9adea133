"""`/api/me/notifications/`: what is read, and that sockets agree with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.support import ALICE, BOB, add_rules
from tests.support.processes import manage
from tests.support.waiting import until

from .conftest import Site
from .support import Api, event

DURABLE = "read"
_FORGET = """
from accounts.models import AccessRule
AccessRule.objects.filter(effect="deny").delete()
"""


def send(admin: Api, user: str, *data: object) -> list[int]:
    """Notify a user and return the sequences."""
    events = [event(users=[user], data=one) for one in data]
    answer = admin.post("publish/", {"events": events})
    return [one["seqNo"] for one in answer.body["results"]]


def unread(api: Api) -> list[Any]:
    found = api.get("me/notifications/", unread="true").body
    assert not any(one["read"] for one in found["results"])
    return [one["data"] for one in found["results"]]


@pytest.fixture
def bob(site: Site) -> Api:
    """Return the API for bob, who has read everything."""
    bob = site.api("bob")
    assert bob.post("me/notifications/", {"seqNo": 2**53}).body["unread"] == 0
    return bob


def test_notifications_are_unread_until_marked(admin, bob):
    first, second, third = send(admin, BOB, "a", "b", "c")
    assert unread(bob) == ["c", "b", "a"]
    marked = bob.post("me/notifications/", {"seqNo": second}).body
    assert (marked["readSeqNo"], marked["unread"]) == (second, 1)
    page = bob.get("me/notifications/", limit=3).body
    assert [(one["seqNo"], one["read"]) for one in page["results"]] == [
        (third, False),
        (second, True),
        (first, True),
    ]
    assert (page["unread"], page["readSeqNo"]) == (1, second)
    assert unread(bob) == ["c"]


def test_notifications_never_marked_are_all_unread(site: Site, admin):
    # The admin has a mark nowhere: no other test marks theirs.
    admin_id = "3"
    send(admin, admin_id, "x", "y")
    page = admin.get("me/notifications/").body
    assert (page["readSeqNo"], page["unread"]) == (0, len(page["results"]))


def test_mark_read_never_goes_back(admin, bob):
    first, second = send(admin, BOB, 1, 2)
    bob.post("me/notifications/", {"seqNo": second})
    assert bob.post("me/notifications/", {"seqNo": first}).body["readSeqNo"] == second
    assert unread(bob) == []


def test_mark_read_beyond_the_end_reads_nothing_that_comes(admin, bob):
    bob.post("me/notifications/", {"seqNo": 2**53})
    send(admin, BOB, "later")
    assert unread(bob) == ["later"]


def test_unread_pages_end_at_the_mark(admin, bob):
    send(admin, BOB, *range(5))
    seen, cursor = [], {}
    while cursor is not None:
        page = bob.get("me/notifications/", limit=2, unread="true", **cursor).body
        seen += [one["data"] for one in page["results"]]
        cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else None
    assert seen == [4, 3, 2, 1, 0]


def test_notifications_are_ones_own(admin, bob):
    send(admin, ALICE, "for alice")
    assert "for alice" not in unread(bob)


async def test_mark_read_is_where_a_durable_socket_goes_on(site: Site, admin, bob):
    first, _ = send(admin, BOB, "a", "b")
    bob.post("me/notifications/", {"seqNo": first})
    async with site.client(site.token("bob")) as client:
        await client.subscribe(f"user.{BOB}.notifications", durable=DURABLE)
        assert (await client.expect("message"))["data"] == "b"


async def test_acknowledged_by_a_durable_socket_is_read(site: Site, admin, bob):
    topic = f"user.{BOB}.notifications"
    async with site.client(site.token("bob")) as client:
        await client.subscribe(topic, durable=DURABLE)
        first, _ = send(admin, BOB, "a", "b")
        await client.expect("message", data="b")
        await client.send("ack", topic=topic, seqNo=first)
        await until(lambda: unread(bob) == ["b"], what="the acknowledgement to be written")


@pytest.mark.parametrize("body", [{}, {"seqNo": 0}, {"seqNo": "1"}, {"seqNo": 1.5}, {"seq": 1}])
def test_mark_read_wrong_body_is_refused(bob, body):
    bob.post("me/notifications/", body).problem(400, "INVALID")


def test_notifications_need_a_credential(site: Site):
    site.api().get("me/notifications/").problem(401, "NOT_AUTHENTICATED")


@pytest.fixture
def denied(site: Site) -> Iterator[None]:
    """Deny everybody their notifications, for one test."""
    add_rules(site, [("deny", "subscribe", "user.*.notifications")])
    yield
    manage("shell", "-c", _FORGET, env=site.env)


def test_notifications_that_a_rule_denies_are_refused(denied, site: Site):
    api = site.api("bob")
    api.get("me/notifications/").problem(403, "ACL_DENIED")
    api.post("me/notifications/", {"seqNo": 1}).problem(403, "ACL_DENIED")
