"""The audit log: who changed what a user may, when, and what it was before and after.

Written in the transaction of the change, so that there is no one without the other. No key,
digest, password or session is ever in it.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, models
from django.http import HttpRequest

_request: ContextVar[HttpRequest | None] = ContextVar("audited_request", default=None)

Values = Mapping[str, Any]


class Kind(models.TextChoices):
    """What an entry is about."""

    RULE = "rule"
    MEMBERSHIP = "membership"
    TOKEN = "token", "API token"
    USER = "user"
    SOCKETS = "sockets"


class Change(models.TextChoices):
    """What was done."""

    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"
    DISCONNECTED = "disconnected"


class AuditEntry(models.Model):
    """One change. It names people and things by text, and so outlives them."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.CharField(max_length=254, help_text="A user here, else of the machine.")
    actor_id = models.CharField(max_length=64, blank=True)
    source = models.CharField(max_length=200, help_text="The page or the command.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    change = models.CharField(max_length=12, choices=Change.choices)
    subject = models.CharField(max_length=400)
    subject_id = models.CharField(max_length=64)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        """Newest first."""

        verbose_name_plural = "audit entries"
        ordering = ("-at", "-pk")

    def __str__(self) -> str:
        return f"{self.actor} {self.change} {self.get_kind_display()} {self.subject}"

    def differences(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield what changed: name, before and after (None where there was or is nothing)."""
        before, after = self.before or {}, self.after or {}
        for name in {**before, **after}:
            if before.get(name) != after.get(name):
                yield name, before.get(name), after.get(name)


class Actor(NamedTuple):
    """Who does something, and by which page or command."""

    name: str
    id: str
    source: str


class Record(NamedTuple):
    """A change to be written down; `before` and `after` are None where there is nothing."""

    kind: Kind
    subject: str
    subject_id: Any
    before: Values | None
    after: Values | None
    change: Change | None = None


@contextmanager
def audited(request: HttpRequest) -> Iterator[None]:
    """Name the user of a request as the one who does what is done within."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def actor() -> Actor:
    """Return who is at work: the user of the request, else the one who runs this program."""
    request = _request.get()
    if request is None:
        # The name of the command alone: its arguments may hold a secret.
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
        return Actor(_machine_user(), "", command[:200])
    match = request.resolver_match
    # Not the path: the address of a password reset is a secret.
    source = f"{request.method} {match.view_name if match is not None else ''}".strip()[:200]
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return Actor("(not logged in)", "", source)
    return Actor(user.get_username(), str(user.pk), source)


def record(records: Iterable[Record], using: str = DEFAULT_DB_ALIAS) -> None:
    """Write changes down; those that changed nothing are left out."""
    name, actor_id, source = actor()
    AuditEntry.objects.using(using).bulk_create(
        [
            AuditEntry(
                actor=name,
                actor_id=actor_id,
                source=source,
                kind=one.kind,
                change=one.change or _change(one),
                subject=one.subject[:400],
                subject_id=str(one.subject_id),
                before=one.before,
                after=one.after,
            )
            for one in records
            if one.change is not None or one.before != one.after
        ],
        batch_size=500,
    )


def _change(one: Record) -> Change:
    if one.before is None:
        return Change.CREATED
    return Change.DELETED if one.after is None else Change.CHANGED


def _machine_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # A container's user need not have a name.
        return f"uid {os.getuid()}"
