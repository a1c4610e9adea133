"""System checks of the ACCOUNTS settings."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.checks import run_checks
from django.db import DatabaseError
from pytest_django import Settings

from accounts import demo
from accounts.checks import check_deployment, check_settings
from accounts.conf import settings as accounts_settings
from accounts.models import AccessRule

from .support import public_pem, rsa_key

KEY = "0123456789abcdef" * 2
PUBLIC = public_pem(rsa_key())


def ids(settings: Settings, **accounts: Any) -> list[str | None]:
    settings.ACCOUNTS = {"JWT_KEY": KEY, **accounts}
    return [message.id for message in check_settings()]


def test_checks_of_the_project_find_nothing() -> None:
    assert check_settings() == []


@pytest.mark.parametrize(
    ("accounts", "found"),
    [
        ({"JWT_KEYS": "x"}, "accounts.E001"),
        ({"JWT_KEY": ""}, "accounts.E002"),
        ({"JWT_ALGORITHMS": []}, "accounts.E003"),
        ({"JWT_ALGORITHMS": ["HS999"]}, "accounts.E004"),
        ({"JWT_ALGORITHMS": ["none"]}, "accounts.E004"),
        ({"JWT_ALGORITHMS": ["NONE"]}, "accounts.E004"),
        ({"JWT_ALGORITHMS": ["RS256"]}, "accounts.E004"),
        ({"JWT_KEY": PUBLIC, "JWT_ALGORITHMS": ["RS256", "HS256"]}, "accounts.E004"),
        ({"JWT_KEY": "short"}, "accounts.W001"),
        ({"JWT_KEY": "k" * 32}, "accounts.W001"),
        ({"JWT_LEEWAY": -1}, "accounts.E005"),
        ({"JWT_LEEWAY": "30"}, "accounts.E005"),
        ({"JWT_LEEWAY": float("nan")}, "accounts.E005"),
        ({"AUTH_THREADS": 0}, "accounts.E005"),
        ({"AUTH_THREADS": 1.5}, "accounts.E005"),
        ({"AUTH_QUEUE": True}, "accounts.E005"),
        ({"AUTO_SUBSCRIBE": ["user..x"]}, "accounts.E006"),
    ],
    # Both test processes must find the same ids, and each makes a key of its own.
    ids=lambda value: str(value).replace(repr(PUBLIC), "public key"),
)
def test_checks_of_a_wrong_setting_find_it(
    settings: Settings, accounts: dict[str, Any], found: str
) -> None:
    assert ids(settings, **accounts) == [found]


@pytest.mark.parametrize(
    "accounts",
    [
        {},
        {"JWT_LEEWAY": 0, "AUTH_QUEUE": 0, "AUTH_THREADS": 1},
        {"JWT_KEY": PUBLIC, "JWT_ALGORITHMS": ["RS256"]},
        {"AUTO_SUBSCRIBE": ["user.{user_id}.notifications"]},
    ],
    ids=["defaults", "least", "rsa", "subscribe"],
)
def test_checks_of_good_settings_find_nothing(settings: Settings, accounts: dict[str, Any]) -> None:
    assert ids(settings, **accounts) == []


def test_settings_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="JWT_KEYS"):
        _ = accounts_settings.JWT_KEYS


# What `check --deploy` adds.


def deployment_ids() -> list[str | None]:
    return [message.id for message in check_deployment()]


def test_deployment_checks_belong_to_deploy_only(db: None) -> None:
    demo.make_demo_accounts()
    ids = {one.id for one in run_checks(include_deployment_checks=True)}
    assert "accounts.E007" in ids
    assert "accounts.E007" not in {one.id for one in run_checks()}


def test_deployment_of_a_new_installation_is_clean(db: None) -> None:
    assert deployment_ids() == []


@pytest.mark.parametrize("topic", [">", "*", "*.>", "*.news", "user.>", "user.*", "user.*.x"])
@pytest.mark.parametrize("action", ["subscribe", "publish", "request"])
def test_deployment_rule_that_opens_others_topics_to_everyone_is_found(
    db: None, action: str, topic: str
) -> None:
    rule = AccessRule.objects.create(action=action, topic=topic)
    (message,) = check_deployment()
    assert message.id == "accounts.W002"
    assert f"Rule {rule.pk} " in message.msg


@pytest.mark.parametrize(
    "values",
    [
        {"topic": "user.{user_id}.>"},
        {"topic": "room.>"},
        {"topic": "users.>"},
        {"topic": ">", "enabled": False},
        {"topic": ">", "effect": "deny"},
        {"topic": ">", "group": "team"},
        {"topic": ">", "user": "ann"},
    ],
    ids=str,
)
def test_deployment_other_rules_are_fine(db: None, values: dict[str, Any]) -> None:
    if "group" in values:
        values = {**values, "group": Group.objects.create(name="team")}
    if "user" in values:
        values = {**values, "user": User.objects.create(username="ann")}
    AccessRule.objects.create(**values)
    assert deployment_ids() == []


def test_deployment_demo_accounts_are_found_until_they_are_made_safe(db: None) -> None:
    demo.make_demo_accounts()
    assert deployment_ids() == ["accounts.E007"] * 3
    for user in User.objects.exclude(username="bob"):
        user.set_password("another one")
        user.save()
    assert deployment_ids() == ["accounts.E007"]
    User.objects.filter(username="bob").update(is_active=False)
    assert deployment_ids() == []


@pytest.mark.parametrize(
    ("engine", "found"),
    [
        ("db", []),
        ("cached_db", []),
        ("cache", ["accounts.W003"]),
        ("signed_cookies", ["accounts.W003"]),
        ("file", ["accounts.W003"]),
    ],
)
def test_deployment_sessions_that_end_unheard_are_found(
    db: None, settings: Settings, engine: str, found: list[str]
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    assert deployment_ids() == found


def test_deployment_without_a_database_says_what_was_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(**kwargs: Any) -> None:
        raise DatabaseError("connection refused")

    monkeypatch.setattr(AccessRule.objects, "filter", away)
    (message,) = check_deployment()
    assert message.id == "accounts.I001"
    assert "connection refused" in message.msg
