"""API tokens as credentials."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.authentication import authenticate
from accounts.models import KEY_PREFIX, ApiToken
from accounts.tokens import EXPIRED_TOKEN, INVALID_TOKEN
from realtime.protocol.messages import AuthReply

from .support import auth_request


def ask(key: str) -> AuthReply:
    return authenticate(auth_request(key))


def denied(sentence: str = INVALID_TOKEN) -> AuthReply:
    return AuthReply(success=False, error=sentence)


def test_api_token_good_passes_without_expiry(alice: User) -> None:
    _, key = ApiToken.objects.create_token(alice, "build")
    reply = ask(key)
    assert (reply.success, reply.user_id, reply.expires_at) == (True, str(alice.pk), None)


def test_api_token_key_is_not_stored(alice: User) -> None:
    token, key = ApiToken.objects.create_token(alice, "build")
    token.refresh_from_db()
    stored = " ".join(str(value) for value in vars(token).values())
    assert key.startswith(KEY_PREFIX)
    assert key not in stored
    assert key.removeprefix(KEY_PREFIX) not in stored


def test_api_token_keys_differ(alice: User) -> None:
    assert len({ApiToken.objects.create_token(alice, "build")[1] for _ in range(5)}) == 5


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_api_token_bad_name_is_refused(alice: User, name: str) -> None:
    with pytest.raises(ValidationError, match=r"blank|100 characters"):
        ApiToken.objects.create_token(alice, name)


def test_api_token_with_expiry_passes_until_then(alice: User) -> None:
    end = timezone.now() + timedelta(hours=1)
    _, key = ApiToken.objects.create_token(alice, "build", end)
    assert ask(key).expires_at == pytest.approx(end.timestamp())


def test_api_token_expired_is_denied(alice: User) -> None:
    _, key = ApiToken.objects.create_token(alice, "build", timezone.now())
    assert ask(key) == denied(EXPIRED_TOKEN)


def test_api_token_revoked_is_denied(alice: User) -> None:
    token, key = ApiToken.objects.create_token(alice, "build")
    ApiToken.objects.filter(pk=token.pk).update(enabled=False)
    assert ask(key) == denied()


def test_api_token_revoked_and_expired_is_not_called_expired(alice: User) -> None:
    token, key = ApiToken.objects.create_token(alice, "build", timezone.now())
    ApiToken.objects.filter(pk=token.pk).update(enabled=False)
    assert ask(key) == denied()


def test_api_token_deleted_is_denied(alice: User) -> None:
    token, key = ApiToken.objects.create_token(alice, "build")
    token.delete()
    assert ask(key) == denied()


def test_api_token_of_inactive_user_is_denied(alice: User) -> None:
    _, key = ApiToken.objects.create_token(alice, "build")
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert ask(key) == denied()


@pytest.mark.parametrize("key", [KEY_PREFIX, KEY_PREFIX + "x" * 43, KEY_PREFIX + "é"])
def test_api_token_unknown_is_denied(db: None, key: str) -> None:
    assert ask(key) == denied()


def test_api_token_digest_is_no_key(alice: User) -> None:
    token, _ = ApiToken.objects.create_token(alice, "build")
    assert ask(token.digest) == denied()
    assert ask(KEY_PREFIX + token.digest) == denied()


def test_api_token_first_use_is_noted(alice: User) -> None:
    token, key = ApiToken.objects.create_token(alice, "build")
    before = timezone.now()
    ask(key)
    token.refresh_from_db()
    assert token.last_used_at is not None
    assert token.last_used_at >= before


@pytest.mark.parametrize(("age", "noted"), [(50, False), (61, True)])
def test_api_token_use_is_noted_once_a_minute(alice: User, age: int, noted: bool) -> None:
    token, key = ApiToken.objects.create_token(alice, "build")
    last = timezone.now() - timedelta(seconds=age)
    ApiToken.objects.filter(pk=token.pk).update(last_used_at=last)
    ask(key)
    token.refresh_from_db()
    assert (token.last_used_at != last) is noted


def test_api_token_denied_use_is_not_noted(alice: User) -> None:
    token, key = ApiToken.objects.create_token(alice, "build", timezone.now())
    ask(key)
    token.refresh_from_db()
    assert token.last_used_at is None
