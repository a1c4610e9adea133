"""System checks of the ACCOUNTS settings."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from accounts.checks import check_settings
from accounts.conf import settings as accounts_settings

from .support import public_pem, rsa_key

KEY = "k" * 32
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
        ({"JWT_LEEWAY": -1}, "accounts.E005"),
        ({"JWT_LEEWAY": "30"}, "accounts.E005"),
        ({"JWT_LEEWAY": float("nan")}, "accounts.E005"),
        ({"AUTH_THREADS": 0}, "accounts.E005"),
        ({"AUTH_THREADS": 1.5}, "accounts.E005"),
        ({"AUTH_QUEUE": True}, "accounts.E005"),
        ({"AUTO_SUBSCRIBE": ["user..x"]}, "accounts.E006"),
    ],
    ids=str,
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
