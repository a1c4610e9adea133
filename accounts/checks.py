"""System checks: a wrong ACCOUNTS setting fails `manage.py check`, with a stable id."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jwt
from django.core.checks import CheckMessage, Error, Warning

from realtime.protocol.exceptions import BadTopic
from realtime.protocol.subjects import parse_pattern

from .conf import DEFAULTS, settings


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Return what is wrong with the ACCOUNTS settings."""
    return [*_unknown(), *_jwt(), *_numbers(), *_auto_subscribe()]


def _unknown() -> Iterator[CheckMessage]:
    from django.conf import settings as django_settings

    for name in sorted(set(getattr(django_settings, "ACCOUNTS", {})) - set(DEFAULTS)):
        yield Error(f"ACCOUNTS has no setting {name!r}.", id="accounts.E001")


def _jwt() -> Iterator[CheckMessage]:
    if not settings.JWT_KEY:
        yield Error("ACCOUNTS['JWT_KEY'] is empty: no token can be verified.", id="accounts.E002")
        return
    if not settings.JWT_ALGORITHMS:
        yield Error("ACCOUNTS['JWT_ALGORITHMS'] names no algorithm.", id="accounts.E003")
    for name in settings.JWT_ALGORITHMS:
        try:
            if name.lower() == "none":
                raise NotImplementedError("it leaves a token unsigned")
            algorithm = jwt.get_algorithm_by_name(name)
            # Fails where one key is to serve algorithms of two families, the classic way to
            # pass off a public key as a shared secret (RFC 8725 §2.1).
            key = algorithm.prepare_key(settings.JWT_KEY)
        except (NotImplementedError, jwt.InvalidKeyError, ValueError) as exc:
            yield Error(
                f"ACCOUNTS['JWT_ALGORITHMS']: {name} cannot be used with JWT_KEY: {exc}.",
                id="accounts.E004",
            )
            continue
        if weakness := algorithm.check_key_length(key):
            yield Warning(f"ACCOUNTS['JWT_KEY']: {weakness}", id="accounts.W001")


def _numbers() -> Iterator[CheckMessage]:
    for name, least in (
        ("JWT_LEEWAY", 0),
        ("JWT_LIFETIME", 1),
        ("AUTH_THREADS", 1),
        ("AUTH_QUEUE", 0),
    ):
        value = getattr(settings, name)
        whole = isinstance(DEFAULTS[name], int)
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < math.inf:
            yield Error(
                f"ACCOUNTS[{name!r}] is a{' whole' if whole else ''} number of at least {least},"
                f" not {value!r}.",
                id="accounts.E005",
            )


def _auto_subscribe() -> Iterator[CheckMessage]:
    for topic in settings.AUTO_SUBSCRIBE:
        try:
            parse_pattern(topic)
        except BadTopic as exc:
            yield Error(f"ACCOUNTS['AUTO_SUBSCRIBE']: {topic!r}: {exc}", id="accounts.E006")
