"""Who may see the live page and what it tells, and what disconnecting by any way leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.access import STATS_RULE, rules_for
from accounts.audit import AuditEntry
from accounts.models import AccessRule
from accounts.tokens import issue_jwt
from realtime.embedded import NatsServer
from realtime.protocol.messages import AuthRequest
from realtime.protocol.rules import Rule
from tests.support.backend import close_link

PAGE = "admin:realtime_gateway_changelist"
DISCONNECT = "admin:realtime_gateway_disconnect"


@pytest.fixture
def nats(nats_server: NatsServer, settings: Settings) -> Iterator[NatsServer]:
    """Point this process's link at a server of the test's own."""
    settings.REALTIME = {**settings.REALTIME, "NATS_URL": nats_server.url}
    yield nats_server
    close_link()


def permit(user: User, *names: str, staff: bool = True) -> User:
    """Return the user with permissions, read anew: they are cached."""
    User.objects.filter(pk=user.pk).update(is_staff=staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    return User.objects.get(pk=user.pk)


def rules_of(user: User) -> list[Rule]:
    return rules_for(user, AccessRule.objects.for_user(user))


def test_rules_of_staff_with_the_permission_open_the_figures(alice: User) -> None:
    assert STATS_RULE in rules_of(permit(alice, "view_stats"))


def test_rules_of_staff_with_the_permission_by_a_group_open_the_figures(alice: User) -> None:
    team = Group.objects.create(name="operators")
    team.permissions.add(Permission.objects.get(codename="view_stats"))
    alice.groups.add(team)
    assert STATS_RULE in rules_of(permit(alice))


@pytest.mark.parametrize(
    ("names", "staff"), [((), True), (("disconnect_user",), True), (("view_stats",), False)]
)
def test_rules_of_others_do_not(alice: User, names: tuple[str, ...], staff: bool) -> None:
    # Not by a rule that an administrator stores either.
    AccessRule.objects.create(user=alice, topic="gateway-stats.>")
    AccessRule.objects.create(user=alice, topic="gateway-stats.newest")
    found = rules_of(permit(alice, *names, staff=staff))
    assert [one.topic for one in found] == ["user.{user_id}.>"]


def test_rules_in_a_batch_of_answers_are_the_same(alice: User, bob: User) -> None:
    from accounts.authentication import authenticate_all

    permit(alice, "view_stats")
    requests = [AuthRequest(issue_jwt(one), None, None, "", None) for one in (alice, bob)]
    first, second = authenticate_all(requests)
    assert STATS_RULE in (first.rules or [])
    assert STATS_RULE not in (second.rules or [])


def test_page_is_in_the_index_for_those_who_may_see_it(client: Client, alice: User) -> None:
    for names, seen in (((), False), (("view_stats",), True)):
        client.force_login(permit(alice, *names))
        assert (reverse(PAGE) in client.get(reverse("admin:index")).content.decode()) is seen
        assert client.get(reverse(PAGE)).status_code == (200 if seen else 403)


def test_page_has_a_policy_that_forbids_scripts_of_others(admin_client: Client) -> None:
    response = admin_client.get(reverse(PAGE))
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert "no-cache" in response.headers["Cache-Control"]
    for script in response.content.decode().split("<script")[1:]:
        assert "src=" in script.partition(">")[0] or "application/json" in script.partition(">")[0]


def test_disconnect_is_written_down_with_who_did_it(
    nats: NatsServer, admin_client: Client, alice: User
) -> None:
    response = admin_client.post(reverse(DISCONNECT), {"user": alice.pk})
    assert "close the sockets of alice" in response.json()["message"]
    entry = AuditEntry.objects.get(change="disconnected")
    assert (entry.actor, entry.subject, entry.source) == ("admin", "alice", f"POST {DISCONNECT}")


def test_disconnect_needs_its_own_permission(client: Client, alice: User) -> None:
    client.force_login(permit(alice, "view_stats"))
    assert client.post(reverse(DISCONNECT), {"user": alice.pk}).status_code == 403
    assert not AuditEntry.objects.filter(change="disconnected").exists()


@pytest.mark.parametrize("user", ["", "alice", "0", "9" * 30])
def test_disconnect_of_nobody_says_so(admin_client: Client, alice: User, user: str) -> None:
    response = admin_client.post(reverse(DISCONNECT), {"user": user})
    assert (response.status_code, response.json()["message"]) == (
        404,
        "There is no such user any more.",
    )


def test_disconnect_without_nats_says_so(
    nats: NatsServer, admin_client: Client, alice: User, settings: Settings
) -> None:
    settings.REALTIME = {**settings.REALTIME, "NATS_CONNECT_TIMEOUT": 0.5}
    nats.kill()
    response = admin_client.post(reverse(DISCONNECT), {"user": alice.pk})
    assert response.status_code == 503
    assert "NATS is not reachable" in response.json()["message"]
    assert not AuditEntry.objects.filter(change="disconnected").exists()


def test_disconnect_by_get_does_nothing(admin_client: Client, alice: User) -> None:
    assert admin_client.get(reverse(DISCONNECT), {"user": alice.pk}).status_code == 405


@pytest.mark.parametrize(("user", "subject"), [("{pk}", "alice"), ("nobody-here", "nobody-here")])
def test_disconnect_over_the_api_is_written_down_too(
    nats: NatsServer, client: Client, alice: User, user: str, subject: str
) -> None:
    token = issue_jwt(permit(alice, "disconnect_user"))
    response = client.post(
        f"/api/users/{user.format(pk=alice.pk)}/disconnect/",
        {"reason": "moved"},
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert response.status_code == 202
    entry = AuditEntry.objects.get(change="disconnected")
    assert (entry.actor, entry.subject, entry.after) == ("alice", subject, {"reason": "moved"})


@pytest.mark.parametrize("attribute", ["username", "pk"])
def test_user_is_found_by_name_or_id(admin_client: Client, alice: User, attribute: str) -> None:
    wanted = {"user": getattr(alice, attribute)}
    found = admin_client.get(reverse("admin:realtime_gateway_user"), wanted).json()
    assert found == {"id": str(alice.pk), "name": "alice"}
