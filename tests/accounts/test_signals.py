"""Signals: what a committed change tells the gateways over NATS, and what says nothing."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts import signals
from accounts.models import AccessRule, ApiToken
from realtime import link
from realtime.broker import Broker
from realtime.embedded import NatsServer
from realtime.nats_client import Message
from tests.support.backend import backend, close_link, copy_of
from tests.support.waiting import DEADLINE, wait_until

Told = tuple[str, Any]
Change = Callable[["World"], object]

FENCE = "gateway.control.fence"


class RolledBackError(Exception):
    """What ends a transaction that must not count."""


class World:
    """Users and what belongs to them: `ann` is in `team`, `bea` in `crew`."""

    def __init__(self) -> None:
        name = uuid.uuid4().hex
        self.ann = User.objects.create(username=f"ann-{name}", password="!")
        self.bea = User.objects.create(username=f"bea-{name}", password="!")
        self.team = Group.objects.create(name=f"team-{name}")
        self.crew = Group.objects.create(name=f"crew-{name}")
        self.ann.groups.add(self.team)
        self.bea.groups.add(self.crew)
        self.rule = AccessRule.objects.create(user=self.ann, topic="room.1")
        self.team_rule = AccessRule.objects.create(group=self.team, topic="room.2")
        self.all_rule = AccessRule.objects.create(topic="room.3")
        self.token, _ = ApiToken.objects.create_token(self.ann, "build")
        self.browser = Client()
        self.browser.force_login(self.ann)
        self.stranger = Client()
        self.stranger.session.save()  # nobody's

    def acl(self, *users: User) -> Told:
        return "gateway.control.acl", {"users": sorted(user.pk for user in users), "groups": None}

    def reauthorize(self, user: User) -> Told:
        body = {"action": "reauthorize", "topic": None, "reason": None}
        return f"gateway.control.user.{user.pk}", body


EVERYONE: Told = ("gateway.control.acl", {"users": None, "groups": None})


class Ear:
    """Hears what this process tells the gateways, on its own connection to NATS."""

    def __init__(self) -> None:
        self._heard: list[Told] = []
        self._fenced = threading.Event()
        self._subscription = link.run(
            lambda broker: broker.subscribe("gateway.control.>", self._hear)
        )

    def close(self) -> None:
        link.run(lambda broker: broker.unsubscribe(self._subscription))

    def heard(self) -> list[Told]:
        """Return what was told since this was asked last."""

        async def fence(broker: Broker) -> None:
            await broker.publish(FENCE, b"null")

        self._fenced.clear()
        # Behind everything that was posted before, and heard behind it.
        link.run(fence)
        assert self._fenced.wait(DEADLINE)
        heard, self._heard = self._heard, []
        return heard

    async def _hear(self, message: Message) -> None:
        if message.subject == FENCE:
            self._fenced.set()
        else:
            self._heard.append((message.subject, msgspec.json.decode(message.data)))


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"), sync_interval="2m")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def committed(
    tmp_path_factory: pytest.TempPathFactory,
    data_template: Path,
    nats: NatsServer,
    django_db_blocker: object,
) -> Iterator[None]:
    """Make this process a backend whose transactions are real."""
    directory = copy_of(data_template, tmp_path_factory.mktemp("data"))
    with backend(directory, nats.url, django_db_blocker):
        yield


@pytest.fixture
def world(committed: None) -> World:
    return World()


@pytest.fixture
def ear(world: World) -> Iterator[Ear]:
    ear = Ear()
    ear.heard()
    yield ear
    ear.close()


def changed(thing: Any, **values: Any) -> None:
    """Save a model's object with other values, as a form does."""
    for name, value in values.items():
        setattr(thing, name, value)
    thing.save()


def changed_only(thing: Any, **values: Any) -> None:
    """Save just these values."""
    for name, value in values.items():
        setattr(thing, name, value)
    thing.save(update_fields=list(values))


def view_stats() -> Permission:
    """Return the permission that opens the live page."""
    return Permission.objects.get(codename="view_stats")


# What is changed, and what the gateways are told then.
CHANGES: dict[str, tuple[Change, Callable[[World], list[Told]]]] = {
    "rule of a user created": (
        lambda w: AccessRule.objects.create(user=w.bea, topic="room.9"),
        lambda w: [w.acl(w.bea)],
    ),
    "rule of a user disabled": (
        lambda w: changed(w.rule, enabled=False),
        lambda w: [w.acl(w.ann)],
    ),
    "rule of a user deleted": (lambda w: w.rule.delete(), lambda w: [w.acl(w.ann)]),
    "rules deleted together": (
        lambda w: AccessRule.objects.filter(pk=w.rule.pk).delete(),
        lambda w: [w.acl(w.ann)],
    ),
    "rules changed in bulk": (
        lambda w: AccessRule.objects.filter(pk=w.rule.pk).update(enabled=False),
        lambda w: [w.acl(w.ann)],
    ),
    "rules created in bulk": (
        lambda w: AccessRule.objects.bulk_create([AccessRule(user=w.bea, topic="room.9")]),
        lambda w: [w.acl(w.bea)],
    ),
    "API tokens disabled in bulk": (
        lambda w: ApiToken.objects.filter(pk=w.token.pk).update(enabled=False),
        lambda w: [w.reauthorize(w.ann)],
    ),
    "rule of a group created": (
        lambda w: AccessRule.objects.create(group=w.team, topic="room.9"),
        lambda w: [w.acl(w.ann)],
    ),
    "rule of a group turned into a denial": (
        lambda w: changed(w.team_rule, effect="deny"),
        lambda w: [w.acl(w.ann)],
    ),
    "rule of a group deleted": (lambda w: w.team_rule.delete(), lambda w: [w.acl(w.ann)]),
    "rule of everyone created": (
        lambda w: AccessRule.objects.create(topic="room.9"),
        lambda w: [EVERYONE],
    ),
    "rule of everyone deleted": (lambda w: w.all_rule.delete(), lambda w: [EVERYONE]),
    "user joins a group": (lambda w: w.bea.groups.add(w.team), lambda w: [w.acl(w.bea)]),
    "group takes users": (
        lambda w: w.crew.user_set.set([w.ann, w.bea]),
        lambda w: [w.acl(w.ann)],
    ),
    "user leaves a group": (lambda w: w.ann.groups.remove(w.team), lambda w: [w.acl(w.ann)]),
    "group loses a user": (lambda w: w.team.user_set.remove(w.ann), lambda w: [w.acl(w.ann)]),
    "user leaves all groups": (lambda w: w.ann.groups.clear(), lambda w: [w.acl(w.ann)]),
    "group loses all users": (lambda w: w.team.user_set.clear(), lambda w: [w.acl(w.ann)]),
    "user deactivated": (
        lambda w: changed(w.ann, is_active=False),
        lambda w: [w.reauthorize(w.ann)],
    ),
    "user deactivated, that field only": (
        lambda w: changed_only(w.ann, is_active=False),
        lambda w: [w.reauthorize(w.ann)],
    ),
    "password changed": (
        lambda w: (w.ann.set_password("wonder land"), w.ann.save()),
        lambda w: [w.reauthorize(w.ann)],
    ),
    "user becomes staff, that field only": (
        lambda w: changed_only(w.ann, is_staff=True),
        lambda w: [w.reauthorize(w.ann)],
    ),
    "permission given to a user": (
        lambda w: w.ann.user_permissions.add(view_stats()),
        lambda w: [w.acl(w.ann)],
    ),
    "permission given to a group": (
        lambda w: w.team.permissions.add(view_stats()),
        lambda w: [w.acl(w.ann)],
    ),
    "users given to a permission": (
        lambda w: view_stats().user_set.add(w.ann),
        lambda w: [EVERYONE],
    ),
    "logged out": (lambda w: w.browser.logout(), lambda w: [w.reauthorize(w.ann)]),
    "API token disabled": (
        lambda w: changed(w.token, enabled=False),
        lambda w: [w.reauthorize(w.ann)],
    ),
    "API token deleted": (lambda w: w.token.delete(), lambda w: [w.reauthorize(w.ann)]),
}

SILENT: dict[str, Change] = {
    "user created": lambda w: User.objects.create(username=uuid.uuid4().hex),
    "group created": lambda w: Group.objects.create(name=uuid.uuid4().hex),
    "rule of a group without users": lambda w: AccessRule.objects.create(
        group=Group.objects.create(name=uuid.uuid4().hex), topic="room.9"
    ),
    "log-in noted": lambda w: changed_only(w.ann, last_login=timezone.now()),
    "name changed, that field only": lambda w: changed_only(w.ann, first_name="Ann"),
    "logged in": lambda w: Client().force_login(w.bea),
    "session touched": lambda w: w.browser.session.save(),
    "session of nobody ended": lambda w: w.stranger.logout(),
    "API token created": lambda w: ApiToken.objects.create_token(w.bea, "new"),
    "API token used": lambda w: w.token.mark_used(timezone.now()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_committed_is_told_once(world: World, ear: Ear, name: str) -> None:
    change, expected = CHANGES[name]
    wanted = expected(world)
    change(world)
    assert ear.heard() == wanted


@pytest.mark.parametrize("name", CHANGES)
def test_change_in_a_transaction_is_told_when_it_commits(world: World, ear: Ear, name: str) -> None:
    change, expected = CHANGES[name]
    wanted = expected(world)
    with transaction.atomic():
        change(world)
        assert ear.heard() == []
    assert ear.heard() == wanted


@pytest.mark.parametrize("name", CHANGES)
def test_change_rolled_back_tells_nothing(world: World, ear: Ear, name: str) -> None:
    with pytest.raises(RolledBackError), transaction.atomic():
        CHANGES[name][0](world)
        raise RolledBackError
    assert ear.heard() == []


@pytest.mark.parametrize("name", SILENT)
def test_change_of_no_right_or_credential_tells_nothing(world: World, ear: Ear, name: str) -> None:
    SILENT[name](world)
    assert ear.heard() == []


def test_savepoint_rolled_back_tells_the_rest_only(world: World, ear: Ear) -> None:
    with transaction.atomic():
        try:
            with transaction.atomic():
                changed(world.bea, is_active=False)
                raise RolledBackError
        except RolledBackError:
            changed(world.rule, enabled=False)
    assert ear.heard() == [world.acl(world.ann)]


def were_told(heard: list[Told], *users: User) -> bool:
    """Say whether it was said that the rules of these users, or of everyone, changed."""
    told: set[int] = set()
    for subject, body in heard:
        if subject == "gateway.control.acl":
            if body["users"] is None:
                return True
            told |= set(body["users"])
    return {user.pk for user in users} <= told


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda w: {"user": w.ann}, lambda w: {"user": w.bea}),
        (lambda w: {"group": w.team}, lambda w: {"group": w.crew}),
        (lambda w: {"user": w.ann}, lambda w: {"user": None, "group": w.crew}),
    ],
    ids=["from user to user", "from group to group", "from user to group"],
)
def test_rule_handed_on_tells_who_had_it_and_who_has_it(
    world: World, ear: Ear, before: Change, after: Change
) -> None:
    rule = AccessRule.objects.create(topic="room.9", **before(world))  # type: ignore[arg-type]
    ear.heard()
    changed(AccessRule.objects.get(pk=rule.pk), **after(world))  # type: ignore[arg-type]
    assert were_told(ear.heard(), world.ann, world.bea)


def test_rule_of_everyone_narrowed_to_one_user_tells_everyone(world: World, ear: Ear) -> None:
    changed(AccessRule.objects.get(pk=world.all_rule.pk), user=world.bea)
    assert EVERYONE in ear.heard()


def test_group_deleted_tells_its_users(world: World, ear: Ear) -> None:
    world.team.delete()
    assert were_told(ear.heard(), world.ann)


def test_groups_deleted_together_tell_their_users(world: World, ear: Ear) -> None:
    Group.objects.filter(pk__in=[world.team.pk, world.crew.pk]).delete()
    assert were_told(ear.heard(), world.ann, world.bea)


def test_user_deleted_is_told(world: World, ear: Ear) -> None:
    wanted = world.reauthorize(world.ann)
    world.ann.delete()
    assert wanted in ear.heard()


def test_users_deleted_together_are_told(world: World, ear: Ear) -> None:
    wanted = [world.reauthorize(world.ann), world.reauthorize(world.bea)]
    User.objects.filter(pk__in=[world.ann.pk, world.bea.pk]).delete()
    heard = ear.heard()
    assert [one in heard for one in wanted] == [True, True]


def test_sessions_cleared_tell_their_users(world: World, ear: Ear) -> None:
    mine = Session.objects.filter(pk=world.browser.session.session_key)
    mine.update(expire_date=timezone.now() - timedelta(seconds=1))
    call_command("clearsessions")
    assert ear.heard() == [world.reauthorize(world.ann)]


def test_group_of_many_users_tells_everyone(
    world: World, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "MANY", 1)
    changed(world.team_rule, enabled=False)
    assert ear.heard() == [world.acl(world.ann)]
    world.bea.groups.add(world.team)
    ear.heard()
    changed(world.team_rule, enabled=True)
    assert ear.heard() == [EVERYONE]


def test_change_without_nats_is_saved_and_logged(
    world: World, ear: Ear, nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    nats.kill()
    changed(world.ann, is_active=False)
    changed(world.rule, enabled=False)
    assert not User.objects.get(pk=world.ann.pk).is_active
    wait_until(
        lambda: (
            f"reauthorize user={world.ann.pk} failed" in caplog.text
            and "rules_changed failed" in caplog.text
        ),
        what="both failures logged",
    )
    levels = {one.levelno for one in caplog.records if one.name == "realtime.link"}
    assert levels == {logging.WARNING}
    nats.start()
    close_link()
