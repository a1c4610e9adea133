"""Fixtures: two users, and a look-up that can be held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django import Settings

    from .support import SlowLookUp

# Models are imported in the fixtures: pytest loads this file before Django is set up.


@pytest.fixture(autouse=True)
def fast_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def patient(settings: Settings) -> None:
    """Have no request of these tests count as too old that is only late."""
    settings.REALTIME = {**settings.REALTIME, "AUTH_TIMEOUT": 30.0, "DRAIN_SECONDS": 30.0}


@pytest.fixture
def alice(db: None) -> User:
    from django.contrib.auth.models import User

    return User.objects.create_user("alice", password="wonder land")


@pytest.fixture
def bob(db: None) -> User:
    from django.contrib.auth.models import User

    return User.objects.create_user("bob", password="builder yes")


@pytest.fixture
def slow() -> Iterator[SlowLookUp]:
    from .support import SlowLookUp

    look_up = SlowLookUp()
    yield look_up
    look_up.released.set()
