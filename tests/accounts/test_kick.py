"""Kicking, by command and in admin: what the gateways are told, and what is written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.audit import AuditEntry
from realtime import link
from realtime.embedded import NatsServer
from realtime.nats_client import Message
from tests.support.backend import close_link
from tests.support.waiting import DEADLINE


class Ear:
    """Hears what is told about users' sockets."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, object]] = []
        self._news = threading.Event()
        link.run(lambda broker: broker.subscribe("gateway.control.user.*", self._hear))

    def heard(self) -> list[tuple[str, object]]:
        """Return all that was told, once something was."""
        assert self._news.wait(DEADLINE)
        return self._heard

    async def _hear(self, message: Message) -> None:
        self._heard.append((message.subject, msgspec.json.decode(message.data)))
        self._news.set()


@pytest.fixture(autouse=True)
def nats(nats_server: NatsServer, settings: Settings) -> Iterator[NatsServer]:
    """Point this process's link at a server of the test's own."""
    settings.REALTIME = {**settings.REALTIME, "NATS_URL": nats_server.url}
    yield nats_server
    close_link()


@pytest.fixture
def away(nats: NatsServer, settings: Settings) -> NatsServer:
    """End that server, and give a connection little time."""
    settings.REALTIME = {**settings.REALTIME, "NATS_CONNECT_TIMEOUT": 0.5}
    nats.kill()
    return nats


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs `manage.py kick` and returns what it said."""

    def run(*args: str) -> str:
        call_command("kick", *args)
        return capsys.readouterr().out

    return run


def recorded() -> list[tuple[str, str, str]]:
    kicks = AuditEntry.objects.filter(change="disconnected").order_by("pk")
    return [(one.actor, one.source, one.subject) for one in kicks]


def disconnect(user: User, reason: str | None) -> tuple[str, object]:
    body = {"action": "disconnect", "topic": None, "reason": reason}
    return f"gateway.control.user.{user.pk}", body


@pytest.mark.parametrize("attribute", ["username", "pk"])
def test_kick_by_name_or_id_tells_every_gateway(
    alice: User, said: Callable[..., str], attribute: str
) -> None:
    ear = Ear()
    line = said(str(getattr(alice, attribute)), "--reason", "too loud")
    assert line == "Told every gateway to close the sockets of alice.\n"
    assert ear.heard() == [disconnect(alice, "too loud")]


def test_kick_is_written_down(
    alice: User, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["manage.py", "kick", "alice"])
    monkeypatch.setenv("LOGNAME", "operator")
    said("alice", "--reason", "too loud")
    assert recorded() == [("operator", "manage.py kick", "alice")]
    assert AuditEntry.objects.get(change="disconnected").after == {"reason": "too loud"}


def test_kick_without_a_reason_gives_none(alice: User, said: Callable[..., str]) -> None:
    ear = Ear()
    said("alice")
    assert ear.heard() == [disconnect(alice, None)]


def test_kick_inactive_user_is_kicked_all_the_same(alice: User, said: Callable[..., str]) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    ear = Ear()
    said("alice")
    assert ear.heard() == [disconnect(alice, None)]


@pytest.mark.parametrize("user", ["nobody", "0", "99999999999999999999", ""])
def test_kick_unknown_user_is_one_sentence(db: None, user: str) -> None:
    with pytest.raises(CommandError, match="There is no user with the username or id"):
        call_command("kick", user)


def test_kick_without_nats_is_one_sentence(
    alice: User, away: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match=rf"^NATS is not reachable at {away.url}: .*\.$"):
        call_command("kick", "alice")
    assert capsys.readouterr().out == ""
    assert recorded() == []


def test_kick_nats_gone_since_the_last_one_is_one_sentence(
    alice: User, nats: NatsServer, said: Callable[..., str]
) -> None:
    said("alice")
    nats.kill()
    with pytest.raises(CommandError, match=r"^NATS .*\.$"):
        call_command("kick", "alice")


USERS = "admin:auth_user_changelist"


def choose(client: Client, *users: User) -> str:
    """Choose the action for users in admin, and return the page that follows."""
    form = {"action": "disconnect", "_selected_action": [user.pk for user in users]}
    return client.post(reverse(USERS), form, follow=True).content.decode()


def test_admin_action_tells_every_gateway_and_is_written_down(
    admin_client: Client, alice: User
) -> None:
    ear = Ear()
    page = choose(admin_client, alice)
    assert "close the sockets of 1 user(s)" in page
    assert ear.heard() == [disconnect(alice, "disconnected by an administrator")]
    assert recorded() == [("admin", f"POST {USERS}", "alice")]


def test_admin_action_needs_the_permission_to_change_users(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="view_user"))
    client.force_login(alice)
    assert "Disconnect" not in choose(client, alice)
    assert recorded() == []


def test_admin_action_without_nats_says_so(
    admin_client: Client, alice: User, away: NatsServer
) -> None:
    page = choose(admin_client, alice)
    assert "NATS is not reachable" in page
    assert "sockets of" not in page
    assert recorded() == []
