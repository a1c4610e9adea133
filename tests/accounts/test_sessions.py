"""Django sessions as credentials, and which credential counts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.authentication import INVALID_SESSION, NO_CREDENTIAL, authenticate
from accounts.models import AccessRule
from accounts.tokens import INVALID_TOKEN, issue_jwt
from realtime.protocol.messages import AuthReply

from .support import auth_request

ENGINES = ("db", "cached_db", "cache", "file", "signed_cookies")


def log_in(user: User) -> str:
    """Return the session key of a browser in which `user` has logged in."""
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value


def ask(session_key: str) -> AuthReply:
    return authenticate(auth_request(session_key=session_key))


def assert_denied(reply: AuthReply) -> None:
    assert reply == AuthReply(success=False, error=INVALID_SESSION)


def test_session_good_passes_until_it_expires(alice: User) -> None:
    key = log_in(alice)
    reply = ask(key)
    assert (reply.success, reply.user_id) == (True, str(alice.pk))
    assert reply.expires_at == Session.objects.get(pk=key).expire_date.timestamp()


@pytest.mark.parametrize("engine", ENGINES)
def test_session_of_each_engine_passes_with_expiry(
    alice: User, settings: Settings, tmp_path: Path, engine: str
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    reply = ask(log_in(alice))
    assert reply.user_id == str(alice.pk)
    assert reply.expires_at is not None
    assert reply.expires_at > timezone.now().timestamp()


@pytest.mark.parametrize("engine", ENGINES)
def test_session_unknown_to_each_engine_is_denied(
    db: None, settings: Settings, tmp_path: Path, engine: str
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    assert_denied(ask("a" * 32))


def test_session_expired_is_denied(alice: User) -> None:
    key = log_in(alice)
    Session.objects.filter(pk=key).update(expire_date=timezone.now() - timedelta(seconds=1))
    assert_denied(ask(key))


def test_session_expired_in_the_database_but_cached_is_denied(
    alice: User, settings: Settings
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    key = log_in(alice)
    Session.objects.filter(pk=key).update(expire_date=timezone.now() - timedelta(seconds=1))
    assert_denied(ask(key))


def test_session_after_logout_is_denied(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    key = client.cookies["sessionid"].value
    client.logout()
    assert_denied(ask(key))


def test_session_of_nobody_is_denied(db: None) -> None:
    client = Client()
    session = client.session
    session["colour"] = "blue"
    session.save()
    assert session.session_key is not None
    assert_denied(ask(session.session_key))


def test_session_after_password_change_is_denied(alice: User) -> None:
    key = log_in(alice)
    alice.set_password("looking glass")
    alice.save()
    assert_denied(ask(key))


def test_session_of_inactive_user_is_denied(alice: User) -> None:
    key = log_in(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert_denied(ask(key))


def test_session_of_inactive_user_whose_backend_lets_them_is_denied(
    alice: User, settings: Settings
) -> None:
    backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    settings.AUTHENTICATION_BACKENDS = [backend]
    key = log_in(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert_denied(ask(key))


def test_session_of_deleted_user_is_denied(alice: User) -> None:
    key = log_in(alice)
    alice.delete()
    assert_denied(ask(key))


def test_session_of_removed_backend_is_denied(alice: User, settings: Settings) -> None:
    key = log_in(alice)
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
    assert_denied(ask(key))


def test_session_without_hash_is_denied(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    session = client.session
    del session["_auth_user_hash"]
    session.save()
    assert_denied(ask(client.cookies["sessionid"].value))


def test_session_under_a_fallback_key_passes_and_is_left_alone(
    alice: User, settings: Settings
) -> None:
    settings.SECRET_KEY = "old" * 20
    key = log_in(alice)
    before = Session.objects.values_list("session_key", "session_data")[0]
    settings.SECRET_KEY = "new" * 20
    settings.SECRET_KEY_FALLBACKS = ["old" * 20]
    assert ask(key).success
    assert list(Session.objects.values_list("session_key", "session_data")) == [before]


def test_session_under_a_retired_key_is_denied(alice: User, settings: Settings) -> None:
    settings.SECRET_KEY = "old" * 20
    key = log_in(alice)
    settings.SECRET_KEY = "new" * 20
    settings.SECRET_KEY_FALLBACKS = ["other" * 20]
    assert_denied(ask(key))


def test_session_denied_is_left_alone(alice: User) -> None:
    key = log_in(alice)
    alice.set_password("looking glass")
    alice.save()
    ask(key)
    assert Session.objects.filter(pk=key).exists()


@pytest.mark.parametrize("key", ["x", "a" * 7, "a" * 31 + "\0", "é" * 32, "a" * 5000, "../" * 9])
def test_session_key_that_is_none_is_denied_unasked(
    db: None, key: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        assert_denied(ask(key))


@pytest.mark.parametrize("key", [None, ""])
def test_credential_missing_is_denied(db: None, key: str | None) -> None:
    reply = authenticate(auth_request(session_key=key))
    assert reply == AuthReply(success=False, error=NO_CREDENTIAL)


def test_credential_token_counts_before_session(alice: User, bob: User) -> None:
    reply = authenticate(auth_request(issue_jwt(bob), log_in(alice)))
    assert reply.user_id == str(bob.pk)


@pytest.mark.parametrize("token", ["", "wrong", "rt_wrong"])
def test_credential_wrong_token_with_good_session_is_denied(alice: User, token: str) -> None:
    reply = authenticate(auth_request(token, log_in(alice)))
    assert reply == AuthReply(success=False, error=INVALID_TOKEN)


def test_reply_carries_the_rules_of_the_user(alice: User, bob: User) -> None:
    own = AccessRule.objects.create(user=alice, action="publish", topic="room.1")
    other = AccessRule.objects.create(user=bob, action="publish", topic="room.2")
    rules = ask(log_in(alice)).rules
    assert rules is not None
    assert own.as_rule() in rules
    assert other.as_rule() not in rules


def test_reply_without_any_rule_lists_none_rather_than_leaving_it_open(alice: User) -> None:
    AccessRule.objects.all().delete()
    assert ask(log_in(alice)).rules == []


def test_reply_subscriptions_follow_the_setting(alice: User, settings: Settings) -> None:
    settings.ACCOUNTS = {"AUTO_SUBSCRIBE": ["user.{user_id}.notifications", "live.news"]}
    reply = ask(log_in(alice))
    assert reply.subscriptions == [f"user.{alice.pk}.notifications", "live.news"]
