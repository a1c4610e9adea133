"""JSON Web Tokens (RFC 7519): issue and verify, as the ACCOUNTS settings say."""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any

import jwt
from django.utils.crypto import constant_time_compare
from msgspec import Struct

from realtime.protocol.exceptions import AuthFailed

from .conf import settings

if TYPE_CHECKING:
    from django.contrib.auth.models import User

logger = logging.getLogger(__name__)

USER_CLAIMS = ("sub", "userId", "id")
"""Where the user id is looked for; the first one present counts."""

CREDENTIAL_CLAIM = "cred"
"""Binds a token made here to the password that its user had then; others' tokens have none."""

INVALID_TOKEN = "The token is not valid."
EXPIRED_TOKEN = "The token has expired: get a new one."


class VerifiedToken(Struct, frozen=True):
    """What a token proved. `expires_at` in Unix seconds; None: it never expires."""

    user_id: str | int
    expires_at: float | None
    credential: str | None


def issue_jwt(user: User, lifetime: float | None = None) -> str:
    """Return a token for `user`, signed with the first of the configured algorithms.

    Args:
        lifetime: seconds until it expires; None: JWT_LIFETIME.

    Raises:
        ValueError: when JWT_KEY can only verify, as a public key can.
    """
    now = int(time.time())
    credential = _credential(user.get_session_auth_hash())
    if lifetime is None:
        lifetime = settings.JWT_LIFETIME
    claims: dict[str, Any] = {"sub": str(user.pk), "iat": now, "exp": now + int(lifetime)}
    claims[CREDENTIAL_CLAIM] = credential
    if settings.JWT_ISSUER:
        claims["iss"] = settings.JWT_ISSUER
    if settings.JWT_AUDIENCE:
        claims["aud"] = settings.JWT_AUDIENCE
    try:
        return jwt.encode(claims, settings.JWT_KEY, algorithm=_algorithms()[0])
    except AttributeError as exc:
        # cryptography's public keys have no sign().
        raise ValueError(
            "JWT_KEY is a public key: tokens are made where the private one is."
        ) from exc


def verify_jwt(token: str) -> VerifiedToken:
    """Return what `token` proves.

    `exp`, `nbf` and `iat` are read with a leeway of JWT_LEEWAY seconds.

    Raises:
        AuthFailed: when it proves nothing.
        jwt.InvalidKeyError: when JWT_KEY does not fit the algorithms (see checks.py).
    """
    # Without a key nothing can be verified, and nothing may pass.
    if not settings.JWT_KEY:
        raise AuthFailed(INVALID_TOKEN)
    try:
        claims = jwt.decode(
            token,
            settings.JWT_KEY,
            algorithms=_algorithms(),
            audience=settings.JWT_AUDIENCE or None,
            issuer=settings.JWT_ISSUER or None,
            leeway=settings.JWT_LEEWAY,
            # An integer `sub` is against RFC 7519 §4.1.2 but common; _user_id checks it.
            options={
                "require": ["exp"] if settings.JWT_REQUIRE_EXP else [],
                "verify_sub": False,
            },
        )
    except jwt.ExpiredSignatureError as exc:
        raise AuthFailed(EXPIRED_TOKEN) from exc
    except jwt.InvalidTokenError as exc:
        logger.debug("jwt denied error=%s", type(exc).__name__)
        raise AuthFailed(INVALID_TOKEN) from exc
    credential = claims.get(CREDENTIAL_CLAIM)
    if not isinstance(credential, str | None):
        raise AuthFailed(INVALID_TOKEN)
    return VerifiedToken(_user_id(claims), _expires_at(claims), credential)


def bound_to(credential: str | None, user: User) -> bool:
    """Say whether a token's credential claim fits the user's password of now."""
    if credential is None:
        return True
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(credential, _credential(good)) for good in hashes)


def _credential(session_hash: str) -> str:
    # Keyed already, by SECRET_KEY; hashed once more, for it must not be what a session carries.
    return hashlib.sha256(session_hash.encode()).hexdigest()[:32]


def _algorithms() -> list[str]:
    return [name for name in settings.JWT_ALGORITHMS if name.lower() != "none"]


def _user_id(claims: dict[str, Any]) -> str | int:
    for name in USER_CLAIMS:
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return value
        break
    raise AuthFailed(INVALID_TOKEN)


def _expires_at(claims: dict[str, Any]) -> float | None:
    if claims.get("exp") is None:
        return None
    try:
        expires_at = float(int(claims["exp"]))
    except OverflowError as exc:
        raise AuthFailed(INVALID_TOKEN) from exc
    # Within the leeway it is past already: then the leeway's end is when the session ends.
    return expires_at if expires_at > time.time() else expires_at + settings.JWT_LEEWAY
