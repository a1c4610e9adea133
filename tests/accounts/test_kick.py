"""`manage.py kick`: what it tells the gateways, and what it says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django import Settings

from realtime import link
from realtime.embedded import NatsServer
from realtime.nats_client import Message
from tests.support.backend import close_link


class Ear:
    """Hears what is told about users' sockets."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, object]] = []
        self._news = threading.Event()
        link.run(lambda broker: broker.subscribe("gateway.control.user.*", self._hear))

    def heard(self) -> list[tuple[str, object]]:
        """Return all that was told, once something was."""
        assert self._news.wait(5)
        return self._heard

    async def _hear(self, message: Message) -> None:
        self._heard.append((message.subject, msgspec.json.decode(message.data)))
        self._news.set()


@pytest.fixture(autouse=True)
def nats(nats_server: NatsServer, settings: Settings) -> Iterator[NatsServer]:
    """Point this process's link at a server of the test's own."""
    settings.REALTIME = {
        **settings.REALTIME,
        "NATS_URL": nats_server.url,
        "NATS_CONNECT_TIMEOUT": 0.5,
    }
    yield nats_server
    close_link()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs `manage.py kick` and returns what it said."""

    def run(*args: str) -> str:
        call_command("kick", *args)
        return capsys.readouterr().out

    return run


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
    alice: User, nats: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    nats.kill()
    with pytest.raises(CommandError, match=rf"^NATS is not reachable at {nats.url}: .*\.$"):
        call_command("kick", "alice")
    assert capsys.readouterr().out == ""


def test_kick_nats_gone_since_the_last_one_is_one_sentence(
    alice: User, nats: NatsServer, said: Callable[..., str]
) -> None:
    said("alice")
    nats.kill()
    with pytest.raises(CommandError, match=r"^NATS .*\.$"):
        call_command("kick", "alice")
