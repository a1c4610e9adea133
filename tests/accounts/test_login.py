"""Log-in: refused after too many failures, for that name from that address alone."""

from __future__ import annotations

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

PAGES = ("login", "admin:login")
PASSWORD = "wonder land"


@pytest.fixture(autouse=True)
def few_failures(settings: Settings) -> None:
    settings.AXES_FAILURE_LIMIT = 3


def log_in(page: str, password: str, *, name: str = "alice", ip: str = "192.0.2.1") -> HttpResponse:
    form = {"username": name, "password": password}
    return Client(REMOTE_ADDR=ip).post(reverse(page), form)


@pytest.mark.parametrize("page", PAGES)
def test_login_right_after_too_many_wrong_is_refused(alice: User, page: str) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    assert [log_in(page, "wrong").status_code for _ in range(3)] == [200, 200, 429]
    refused = log_in(page, PASSWORD)
    assert refused.status_code == 429
    assert b"Try again in 900 seconds" in refused.content


def test_login_refused_elsewhere_goes_on_here(alice: User, bob: User) -> None:
    """Nobody can lock somebody else out."""
    for _ in range(3):
        log_in("login", "wrong")
    assert log_in("login", PASSWORD, ip="192.0.2.2").status_code == 302
    assert log_in("login", "builder yes", name="bob").status_code == 302


def test_login_right_in_between_forgives_the_wrong_ones(alice: User) -> None:
    for _ in range(3):
        log_in("login", "wrong")
        log_in("login", "wrong")
        assert log_in("login", PASSWORD).status_code == 302


def test_login_of_nobody_is_refused_alike(db: None) -> None:
    """Else it would tell who exists."""
    assert [log_in("login", "x", name="nobody").status_code for _ in range(3)] == [200, 200, 429]


def test_login_failed_leaves_no_password_in_the_database(alice: User) -> None:
    log_in("login", "not-the-password")
    (attempt,) = AccessAttempt.objects.values()
    assert attempt["username"] == "alice"
    assert "not-the-password" not in str(attempt)


def test_login_gives_the_session_a_new_key(alice: User) -> None:
    """A key that somebody planted before is worth nothing after."""
    client = Client(REMOTE_ADDR="192.0.2.1")
    session = client.session
    session["planted"] = True
    session.save()
    before = session.session_key
    client.cookies["sessionid"] = before
    client.post(reverse("login"), {"username": "alice", "password": PASSWORD})
    assert client.session.session_key != before
    assert not client.session.exists(before)
