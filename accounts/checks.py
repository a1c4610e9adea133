"""System checks: a wrong ACCOUNTS setting fails `manage.py check`, with a stable id.

`check --deploy` also looks at the rules and accounts in the database.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import jwt
from django.conf import settings as django_settings
from django.contrib.auth.hashers import check_password
from django.core.checks import CheckMessage, Error, Info, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from realtime.protocol.exceptions import BadTopic
from realtime.protocol.subjects import parse_pattern

from .conf import DEFAULTS, settings

WILDCARDS = frozenset({"*", ">"})


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Return what is wrong with the ACCOUNTS settings."""
    return [*_unknown(), *_jwt(), *_numbers(), *_auto_subscribe()]


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """Return what should not be so in production: sessions, rules for everyone, demo accounts."""
    found: list[CheckMessage] = [*_sessions()]
    try:
        found += [*_rules_for_everyone(), *_demo_accounts()]
    except (DatabaseError, ImproperlyConfigured) as exc:
        found.append(
            Info(
                f"Rules and accounts were not looked at: {' '.join(str(exc).split())}",
                hint="Run the check where the database answers, after `migrate`.",
                id="accounts.I001",
            )
        )
    return found


def _sessions() -> Iterator[CheckMessage]:
    engine = django_settings.SESSION_ENGINE
    # Imported by name, as Django does; models cannot be imported before the apps are loaded.
    if not hasattr(import_module(engine).SessionStore, "get_model_class"):
        yield Warning(
            f"SESSION_ENGINE is {engine!r}: a log-out does not close the sockets that are open.",
            hint="Keep sessions in the database: 'django.contrib.sessions.backends.db'.",
            id="accounts.W003",
        )


def _rules_for_everyone() -> Iterator[CheckMessage]:
    from .models import AccessRule, Effect

    rules = AccessRule.objects.filter(
        user__isnull=True, group__isnull=True, enabled=True, effect=Effect.ALLOW
    )
    for rule in rules:
        first, _, rest = rule.topic.partition(".")
        if first in WILDCARDS or (first == "user" and rest.partition(".")[0] in WILDCARDS):
            yield Warning(
                f"Rule {rule.pk} lets everyone {rule.action} on {rule.topic!r}: also on what is"
                " other users'.",
                hint="Allow 'user.{user_id}.>', or name what is open to all, such as 'room.>'.",
                id="accounts.W002",
            )


def _demo_accounts() -> Iterator[CheckMessage]:
    from django.contrib.auth import get_user_model

    from .demo import ACCOUNTS

    names = [name for name, _ in ACCOUNTS]
    for user in get_user_model()._default_manager.filter(username__in=names, is_active=True):
        if check_password(user.get_username(), user.password):
            yield Error(
                f"The demo account {user.get_username()!r} has its demo password.",
                hint="Give it another password, deactivate it, or delete it.",
                id="accounts.E007",
            )


def _unknown() -> Iterator[CheckMessage]:
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
        elif len(set(settings.JWT_KEY)) < 5:
            yield Warning(
                "ACCOUNTS['JWT_KEY'] has less than 5 different characters: it can be guessed.",
                hint="Make one with `python -c 'import secrets; print(secrets.token_hex(32))'`.",
                id="accounts.W001",
            )


def _numbers() -> Iterator[CheckMessage]:
    for name, least in (
        ("JWT_LEEWAY", 0),
        ("JWT_LIFETIME", 1),
        ("JWT_API_LIFETIME", 1),
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
