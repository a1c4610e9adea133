"""What administrators keep here: access rules, and API tokens; and the log of their changes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from realtime.protocol import rules
from realtime.protocol.exceptions import BadTopic
from realtime.protocol.subjects import MAX_TOPIC_BYTES, parse_pattern

from .audit import AuditEntry
from .changes import Observed, ObservedQuerySet, observed

if TYPE_CHECKING:
    from django.contrib.auth.models import User

__all__ = ["AccessRule", "ApiToken", "AuditEntry"]

KEY_PREFIX = "rt_"
"""What every API key begins with, so that it is told from a JWT and found in leaks."""

USE_INTERVAL = timedelta(minutes=1)
"""How stale `ApiToken.last_used_at` may be: a write per use would cost more than it tells."""


def validate_pattern(value: str) -> None:
    """Return when `value` is a topic pattern.

    Raises:
        ValidationError: with a sentence that says what is wrong.
    """
    try:
        parse_pattern(value)
    except BadTopic as exc:
        raise ValidationError(exc.message, code="pattern") from exc


class Effect(models.TextChoices):
    """What a rule does; deny beats allow."""

    ALLOW = "allow"
    DENY = "deny"


class Action(models.TextChoices):
    """What a rule is about."""

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    REQUEST = "request"


class AccessRuleManager(models.Manager.from_queryset(ObservedQuerySet)):  # type: ignore[misc]
    """Finds the rules that concern a user."""

    def for_user(self, user: User) -> models.QuerySet[AccessRule]:
        """Return the enabled rules for `user`: everyone's, their groups' and their own."""
        return self.filter(
            Q(user__isnull=True, group__isnull=True)
            | Q(user=user)
            | Q(group__in=Group.objects.filter(user=user)),
            enabled=True,
        ).order_by("pk")

    def for_users(self, users: Collection[User]) -> dict[Any, list[AccessRule]]:
        """Return what `for_user` does for many users, by primary key, with two queries in all."""
        groups: dict[Any, set[Any]] = {user.pk: set() for user in users}
        for user, group in Group.objects.filter(user__in=users).values_list("user", "pk"):
            groups[user].add(group)
        rules = self.filter(
            Q(user__isnull=True, group__isnull=True)
            | Q(user__in=users)
            | Q(group__in=set().union(*groups.values())),
            enabled=True,
        ).order_by("pk")
        return {
            user: [
                rule
                for rule in rules
                if rule.user_id == user
                or rule.group_id in mine
                or (rule.user_id is None and rule.group_id is None)
            ]
            for user, mine in groups.items()
        }


@observed
class AccessRule(Observed):
    """One rule: for everyone, a group or a user; what; and where.

    It goes with the user or group it is for. Were those set to null instead, a rule for one
    would turn into a rule for everyone.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="access_rules",
        help_text="Leave user and group empty for a rule that is for everyone.",
    )
    group = models.ForeignKey(
        Group, on_delete=models.CASCADE, null=True, blank=True, related_name="access_rules"
    )
    effect = models.CharField(
        max_length=5,
        choices=Effect.choices,
        default=Effect.ALLOW,
        help_text="Deny beats allow. What no rule allows is denied.",
    )
    action = models.CharField(max_length=9, choices=Action.choices, default=Action.SUBSCRIBE)
    topic = models.CharField(
        max_length=MAX_TOPIC_BYTES,
        validators=[validate_pattern],
        help_text="A topic such as room.lobby, or a pattern: * stands for one token, > for the"
        " rest, {user_id} for the user's own id.",
    )
    enabled = models.BooleanField(default=True)
    note = models.CharField(max_length=200, blank=True, help_text="Why this rule is here.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = AccessRuleManager()

    class Meta:
        """At most one of user and group."""

        ordering = ("topic", "pk")
        constraints = (
            models.CheckConstraint(
                name="accounts_accessrule_user_or_group",
                condition=Q(user__isnull=True) | Q(group__isnull=True),
                violation_error_message="A rule is for a user, for a group, or for everyone:"
                " choose a user or a group, not both.",
            ),
        )

    def __str__(self) -> str:
        state = "" if self.enabled else " (off)"
        return f"{self.effect} {self.action} {self.topic} for {self.who}{state}"

    @property
    def who(self) -> str:
        """Whom the rule is for, in words."""
        if self.user is not None:
            return f"user {self.user.get_username()}"
        if self.group is not None:
            return f"group {self.group.name}"
        return "everyone"

    def as_rule(self) -> rules.Rule:
        """Return the rule as it travels in an auth reply."""
        return rules.Rule(
            cast(rules.Effect, str(self.effect)), cast(rules.Action, str(self.action)), self.topic
        )


class ApiTokenManager(models.Manager.from_queryset(ObservedQuerySet)):  # type: ignore[misc]
    """Makes tokens and finds them by their key."""

    def create_token(
        self, user: User, name: str, expires_at: datetime | None = None
    ) -> tuple[ApiToken, str]:
        """Return a new token and its key, which is not kept and cannot be had again.

        Raises:
            ValidationError: when the name is empty or too long.
        """
        token = self.model(user=user, name=name, expires_at=expires_at)
        key = token.set_new_key()
        token.full_clean()
        token.save(using=self.db)
        return token, key

    def for_key(self, key: str) -> ApiToken | None:
        """Return the token of `key`, with its user, whether or not it is still usable."""
        return self.select_related("user").filter(digest=digest_of(key)).first()


@observed
class ApiToken(Observed):
    """A key for a program that acts as a user. Only its digest is stored."""

    # Written at every use, or nearly.
    UNOBSERVED = frozenset({"last_used_at"})

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=100, help_text="What uses it, for example 'build server'.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="Leave empty for a token that does not expire."
    )
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiTokenManager()

    class Meta:
        """Named for people."""

        verbose_name = "API token"
        ordering = ("user", "name", "pk")

    def __str__(self) -> str:
        return f"{self.name} of {self.user.get_username()}"

    def set_new_key(self) -> str:
        """Give this token a new key and return it; the caller saves."""
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        self.digest = digest_of(key)
        return key

    def expired(self, now: datetime) -> bool:
        """Say whether the token's time is over at `now`."""
        return self.expires_at is not None and self.expires_at <= now

    def mark_used(self, now: datetime) -> None:
        """Note that it was used, at most once a minute."""
        if self.last_used_at is not None and now - self.last_used_at < USE_INTERVAL:
            return
        self.last_used_at = now
        # An update, not save(): it must not undo an administrator's change made meanwhile.
        ApiToken.objects.filter(pk=self.pk).update(last_used_at=now)


def digest_of(key: str) -> str:
    """Return what is stored of an API key.

    A plain SHA-256 is enough: the key has 256 bits of entropy, so nobody can guess through it.
    """
    return hashlib.sha256(key.encode()).hexdigest()
