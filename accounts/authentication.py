"""Authentication: who a credential belongs to, and what they may do.

Denials say nothing that the credential's owner does not know: never whether a user exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings as django_settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from realtime.protocol.exceptions import AuthFailed
from realtime.protocol.messages import AuthReply, AuthRequest
from realtime.protocol.subjects import USER_ID

from .access import rules_for
from .conf import settings
from .models import KEY_PREFIX, AccessRule, ApiToken
from .tokens import EXPIRED_TOKEN, INVALID_TOKEN, bound_to, verify_jwt

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.base import SessionBase

NO_CREDENTIAL = "Log in, or send a token."
INVALID_SESSION = "The session is not valid: log in again."

# What any of Django's session engines makes; the longest is a signed cookie. Anything else must
# not reach them: PostgreSQL raises on a NUL.
_SESSION_KEY = re.compile(r"[A-Za-z0-9_.:-]{8,4096}", re.ASCII)


class Verified(NamedTuple):
    """Whose credential it is, and when it ends (Unix seconds; None: never)."""

    user: User
    expires_at: float | None


class Claims(NamedTuple):
    """The primary key that a good token names, when it ends, and the password it hangs on."""

    user_id: Any
    expires_at: float | None
    credential: str | None


def authenticate(request: AuthRequest) -> AuthReply:
    """Return the answer to a gateway's question who a socket is.

    A token counts before the session key, so a wrong token is a denial even with a good session.

    Raises:
        django.db.Error: when the database does not answer; the caller then answers nothing.
    """
    try:
        verified = verify(request)
    except AuthFailed as exc:
        return AuthReply(success=False, error=exc.message)
    return _reply(verified, AccessRule.objects.for_user(verified.user))


def authenticate_all(requests: Sequence[AuthRequest]) -> list[AuthReply]:
    """Return the answers to many questions, with few more queries than for one.

    Raises:
        django.db.Error: when the database does not answer.
    """
    claims = [_claims_of(request) for request in requests]
    wanted = {one.user_id for one in claims if isinstance(one, Claims)}
    users = get_user_model()._default_manager.in_bulk(wanted) if wanted else {}
    found = [
        _settled(request, claimed, users) for request, claimed in zip(requests, claims, strict=True)
    ]
    who = {one.user.pk: one.user for one in found if isinstance(one, Verified)}
    rules = AccessRule.objects.for_users(who.values()) if who else {}
    return [
        AuthReply(success=False, error=one.message)
        if isinstance(one, AuthFailed)
        else _reply(one, rules[one.user.pk])
        for one in found
    ]


def _reply(verified: Verified, rules: Iterable[AccessRule]) -> AuthReply:
    user_id = str(verified.user.pk)
    return AuthReply(
        success=True,
        user_id=user_id,
        expires_at=verified.expires_at,
        rules=rules_for(verified.user, rules),
        subscriptions=[topic.replace(USER_ID, user_id) for topic in settings.AUTO_SUBSCRIBE],
        info={"name": verified.user.get_username()},
    )


def _claims_of(request: AuthRequest) -> Claims | AuthFailed | None:
    """Return what a JSON Web Token claims, None when the credential is something else."""
    try:
        if request.token is not None and _is_jwt(request.token):
            return _claimed(request.token)
    except AuthFailed as exc:
        return exc
    return None


def _settled(
    request: AuthRequest, claimed: Claims | AuthFailed | None, users: Mapping[Any, User]
) -> Verified | AuthFailed:
    try:
        if isinstance(claimed, Claims):
            return _active(users.get(claimed.user_id), claimed)
        return verify(request) if claimed is None else claimed
    except AuthFailed as exc:
        return exc


def verify(request: AuthRequest) -> Verified:
    """Return whose credential `request` carries.

    Raises:
        AuthFailed: when there is none, or it proves nothing.
    """
    if request.token is not None:
        return verify_token(request.token)
    if request.session_key:
        return _verify_session(request.session_key)
    raise AuthFailed(NO_CREDENTIAL)


def verify_token(token: str) -> Verified:
    """Return whose token it is: a JSON Web Token, or an API token.

    Raises:
        AuthFailed: when it proves nothing.
    """
    return _verify_jwt(token) if _is_jwt(token) else _verify_api_token(token)


def _is_jwt(token: str) -> bool:
    """Say whether a token is to be read as a JSON Web Token, else it is one of ours.

    Raises:
        AuthFailed: when it is neither.
    """
    if not token.isascii():
        raise AuthFailed(INVALID_TOKEN)
    return not token.startswith(KEY_PREFIX)


def _verify_jwt(token: str) -> Verified:
    claimed = _claimed(token)
    user = get_user_model()._default_manager.filter(pk=claimed.user_id).first()
    return _active(user, claimed)


def _claimed(token: str) -> Claims:
    verified = verify_jwt(token)
    try:
        user_id = get_user_model()._meta.pk.to_python(verified.user_id)
        return Claims(user_id, verified.expires_at, verified.credential)
    except ValidationError as exc:
        raise AuthFailed(INVALID_TOKEN) from exc


def _active(user: User | None, claimed: Claims) -> Verified:
    if user is None or not user.is_active or not bound_to(claimed.credential, user):
        raise AuthFailed(INVALID_TOKEN)
    return Verified(user, claimed.expires_at)


def _verify_api_token(key: str) -> Verified:
    token = ApiToken.objects.for_key(key)
    now = timezone.now()
    if token is None or not token.enabled or not token.user.is_active:
        raise AuthFailed(INVALID_TOKEN)
    if token.expired(now):
        raise AuthFailed(EXPIRED_TOKEN)
    token.mark_used(now)
    return Verified(token.user, token.expires_at.timestamp() if token.expires_at else None)


def _verify_session(key: str) -> Verified:
    if _SESSION_KEY.fullmatch(key) is None:
        raise AuthFailed(INVALID_SESSION)
    session: SessionBase = import_module(django_settings.SESSION_ENGINE).SessionStore(key)
    user = _session_user(session)
    if user is None or not user.is_active:
        raise AuthFailed(INVALID_SESSION)
    return Verified(user, _session_end(session, key))


def _session_user(session: SessionBase) -> User | None:
    """Return the user of a Django session, None when it is nobody's.

    The same steps as `django.contrib.auth.get_user`, but read-only: that one flushes the session,
    or gives it a new key which the browser here would never hear of.
    """
    try:
        user_id = get_user_model()._meta.pk.to_python(session[SESSION_KEY])
        backend = session[BACKEND_SESSION_KEY]
        session_hash = session[HASH_SESSION_KEY]
    except (KeyError, ValidationError):
        return None
    if backend not in django_settings.AUTHENTICATION_BACKENDS:
        return None
    user = load_backend(backend).get_user(user_id)
    if user is None:
        return None
    # A changed password changes the hash; SECRET_KEY_FALLBACKS keep old ones good.
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    if not any(constant_time_compare(session_hash, good) for good in hashes):
        return None
    return user


def _session_end(session: SessionBase, key: str) -> float:
    """Return when a Django session ends, in Unix seconds."""
    model = getattr(session, "model", None)
    if model is None:
        # Caches and cookies do not tell how old a session is: this is the latest it can be.
        return session.get_expiry_date().timestamp()
    end = model.objects.filter(session_key=key).values_list("expire_date", flat=True).first()
    if end is None or end <= timezone.now():
        raise AuthFailed(INVALID_SESSION)
    return end.timestamp()
