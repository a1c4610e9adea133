"""Access rules: what may be stored, whom they concern, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection

from accounts.access import check_access
from accounts.models import AccessRule, Action, Effect
from realtime.protocol import rules
from realtime.protocol.exceptions import BadTopic
from realtime.protocol.subjects import parse_pattern


@pytest.fixture
def staff(db: None) -> Group:
    return Group.objects.create(name="staff")


def test_choices_are_those_of_the_protocol() -> None:
    assert tuple(Action.values) == rules.ACTIONS
    assert set(Effect.values) == {"allow", "deny"}


@pytest.mark.parametrize("topic", ["room.lobby", "room.*", "room.>", ">", "user.{user_id}.x"])
def test_rule_good_pattern_is_valid(db: None, topic: str) -> None:
    AccessRule(action="subscribe", topic=topic).full_clean()


@pytest.mark.parametrize("topic", ["room.>.x", "room..x", ".", "a b", "room.{id}", "ro*m", "x\n"])
def test_rule_bad_pattern_says_what_is_wrong(db: None, topic: str) -> None:
    with pytest.raises(BadTopic) as told:
        parse_pattern(topic)
    with pytest.raises(ValidationError) as found:
        AccessRule(action="subscribe", topic=topic).full_clean()
    assert found.value.message_dict == {"topic": [told.value.message]}


@pytest.mark.parametrize("field", ["effect", "action"])
def test_rule_unknown_choice_is_invalid(db: None, field: str) -> None:
    with pytest.raises(ValidationError, match="not a valid choice"):
        AccessRule(**{"topic": "room.1", field: "wave"}).full_clean()


def test_rule_for_user_and_group_is_invalid_with_a_sentence(alice: User, staff: Group) -> None:
    with pytest.raises(ValidationError, match="not both"):
        AccessRule(user=alice, group=staff, topic="room.1").full_clean()


def test_rule_for_user_and_group_is_refused_by_the_database(alice: User, staff: Group) -> None:
    with pytest.raises(IntegrityError):
        AccessRule.objects.create(user=alice, group=staff, topic="room.1")


def test_rule_of_deleted_user_or_group_never_becomes_everyones(alice: User, staff: Group) -> None:
    AccessRule.objects.create(user=alice, topic="room.1")
    AccessRule.objects.create(group=staff, topic="room.2")
    alice.delete()
    staff.delete()
    assert not AccessRule.objects.filter(topic__startswith="room.").exists()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "deny publish room.> for everyone"),
        ({"enabled": False}, "deny publish room.> for everyone (off)"),
        ({"user": "alice"}, "deny publish room.> for user alice"),
        ({"group": "staff"}, "deny publish room.> for group staff"),
    ],
)
def test_rule_as_text_says_everything(
    alice: User, staff: Group, fields: dict[str, Any], text: str
) -> None:
    fields = {
        name: {"alice": alice, "staff": staff}.get(value, value) for name, value in fields.items()
    }
    rule = AccessRule(effect=Effect.DENY, action=Action.PUBLISH, topic="room.>", **fields)
    assert str(rule) == text


def test_rule_as_rule_is_plain_text(db: None) -> None:
    rule = AccessRule(effect=Effect.DENY, action=Action.PUBLISH, topic="room.>").as_rule()
    assert rule == rules.Rule("deny", "publish", "room.>")
    assert type(rule.effect) is type(rule.action) is str


def test_for_user_returns_everyones_groups_and_own(
    alice: User, bob: User, staff: Group, django_assert_num_queries: Callable[[int], Any]
) -> None:
    AccessRule.objects.all().delete()
    others = Group.objects.create(name="others")
    second = Group.objects.create(name="second")
    alice.groups.add(staff, second)
    bob.groups.add(others)
    made: dict[str, dict[str, Any]] = {
        "room.everyone": {},
        "room.staff": {"group": staff},
        "room.second": {"group": second},
        "room.own": {"user": alice},
        "room.off": {"enabled": False},
        "room.staff-off": {"group": staff, "enabled": False},
        "room.others": {"group": others},
        "room.bob": {"user": bob},
    }
    for topic, fields in made.items():
        AccessRule.objects.create(topic=topic, **fields)
    with django_assert_num_queries(1):
        topics = [rule.topic for rule in AccessRule.objects.for_user(alice)]
    assert topics == ["room.everyone", "room.staff", "room.second", "room.own"]


def test_migration_makes_the_default_rule_with_a_note(db: None) -> None:
    rule = AccessRule.objects.get()
    assert str(rule) == "allow subscribe user.{user_id}.> for everyone"
    assert rule.note
    assert (rule.as_rule(),) == rules.DEFAULT_RULES


def test_migration_run_again_adds_nothing(db: None) -> None:
    migration = import_module("accounts.migrations.0002_default_rule")
    migration.add_default_rule(apps, connection.schema_editor())
    assert AccessRule.objects.count() == 1


def test_access_by_the_default_rule_is_for_the_own_id_only(alice: User, bob: User) -> None:
    answer = check_access(alice, "subscribe", f"user.{alice.pk}.notifications")
    assert (answer.allowed, answer.rule) == (True, AccessRule.objects.get())
    assert not check_access(alice, "subscribe", f"user.{bob.pk}.notifications").allowed


def test_access_names_the_very_rule_among_equal_ones(alice: User, staff: Group) -> None:
    alice.groups.add(staff)
    AccessRule.objects.create(user=alice, topic="room.1", enabled=False)
    first = AccessRule.objects.create(group=staff, topic="room.1")
    AccessRule.objects.create(user=alice, topic="room.1")
    assert check_access(alice, "subscribe", "room.1").rule == first


def test_access_deny_beats_allow(alice: User, staff: Group) -> None:
    alice.groups.add(staff)
    AccessRule.objects.create(user=alice, topic="room.1")
    deny = AccessRule.objects.create(group=staff, effect="deny", topic="room.>")
    answer = check_access(alice, "subscribe", "room.1")
    assert (answer.allowed, answer.rule) == (False, deny)


def test_access_to_an_event_channel_needs_no_rule_and_a_deny_beats_it(
    alice: User, settings: Any
) -> None:
    settings.REALTIME = {**settings.REALTIME, "INBOUND": ["IN"], "OUTBOUND": ["OUT"]}
    for action, topic in (("subscribe", "IN"), ("publish", "OUT"), ("request", "OUT")):
        answer = check_access(alice, action, topic)
        assert (answer.allowed, answer.rule) == (True, None)
    deny = AccessRule.objects.create(user=alice, effect="deny", topic="IN")
    assert check_access(alice, "subscribe", "IN").rule == deny
    with pytest.raises(BadTopic, match="event channels: IN"):
        check_access(alice, "subscribe", "OUT")


def test_access_of_a_superuser_needs_a_rule_too(admin_user: User) -> None:
    answer = check_access(admin_user, "publish", "room.1")
    assert (answer.allowed, answer.rule) == (False, None)


def test_access_of_an_inactive_user_is_denied(alice: User) -> None:
    alice.is_active = False
    answer = check_access(alice, "subscribe", f"user.{alice.pk}.x")
    assert (answer.allowed, answer.active, answer.rule) == (False, False, None)


@pytest.mark.parametrize("topic", ["gateway.auth", "room.*", "room.", ""])
def test_access_to_a_topic_not_open_to_clients_is_refused(alice: User, topic: str) -> None:
    with pytest.raises(BadTopic):
        check_access(alice, "subscribe", topic)
