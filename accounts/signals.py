"""Signals: a change of rules, groups or credentials reaches open sockets when it commits.

Nothing is told of a transaction that rolls back. A user whose credential is gone is not kicked
here: the gateway asks the auth worker again, and its answer ends just the sockets that it
should (a logout ends those of that browser, not those of the phone).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete
from django.dispatch import receiver

from realtime import commands

from .changes import changed
from .models import AccessRule, ApiToken

User = get_user_model()
# What of a user decides over credentials; `last_login`, say, does not.
CREDENTIALS = frozenset({"is_active", "password", "is_staff", "is_superuser"})
MANY = 1000
"""Users named one by one; beyond that everyone is asked about, which the gateways spread."""


@receiver(changed, sender=AccessRule)
def rule_changed(before: AccessRule | None, after: AccessRule | None, **kwargs: Any) -> None:
    """Tell whose rule it is, and whose it was."""
    for user_id, group_id in {
        (rule.user_id, rule.group_id): None for rule in (before, after) if rule is not None
    }:
        if user_id is not None:
            _rules_changed([user_id])
        elif group_id is not None:
            _rules_changed(_members([group_id]))
        else:
            _rules_changed(None)


@receiver(pre_delete, sender=Group)
def group_deleted(instance: Group, **kwargs: Any) -> None:
    """Tell who was in a group: deleting it sends no word of the memberships."""
    _rules_changed(_members([instance.pk]))


@receiver(m2m_changed, sender=User.groups.through)
def membership_changed(
    instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **kwargs: Any
) -> None:
    """Tell whose groups changed."""
    if action in ("post_add", "post_remove"):
        _rules_changed(pk_set if reverse else [instance.pk])
    elif action == "pre_clear":
        # Afterwards nobody can say who was in the group.
        _rules_changed(_members([instance.pk]) if reverse else [instance.pk])


@receiver(m2m_changed, sender=User.user_permissions.through)
@receiver(m2m_changed, sender=Group.permissions.through)
def permissions_changed(
    instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **kwargs: Any
) -> None:
    """Tell whose permissions of Django's changed: one of them opens the live page's topics."""
    if action not in ("post_add", "post_remove", "pre_clear"):
        return
    if isinstance(instance, Group):
        _rules_changed(_members([instance.pk]))
    elif isinstance(instance, Permission):
        # From the permission's side the users, or groups, may be anybody.
        _rules_changed(None)
    else:
        _rules_changed([instance.pk])


@receiver(post_save, sender=User)
def user_saved(
    instance: Any, created: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Have a user's credentials looked at again: deactivated, or with another password."""
    if not created and (update_fields is None or not CREDENTIALS.isdisjoint(update_fields)):
        _reauthorize(instance.pk)


@receiver(post_delete, sender=User)
def user_deleted(instance: Any, **kwargs: Any) -> None:
    """Have a deleted user's sockets looked at again."""
    _reauthorize(instance.pk)


@receiver(changed, sender=ApiToken)
def token_changed(before: ApiToken | None, **kwargs: Any) -> None:
    """Have the owner's sockets looked at again: the token may be disabled."""
    if before is not None:
        _reauthorize(before.user_id)


@receiver(post_delete, sender=Session)
def session_deleted(instance: Session, **kwargs: Any) -> None:
    """Have the sockets of a user who logged out looked at again."""
    user_id = instance.get_decoded().get(SESSION_KEY)
    if user_id is not None:
        _reauthorize(user_id)


def _members(groups: Iterable[int]) -> list[int] | None:
    members = User.objects.filter(groups__in=Group.objects.filter(pk__in=list(groups)))
    found = list(members.values_list("pk", flat=True)[: MANY + 1])
    return None if len(found) > MANY else found


def _rules_changed(users: Iterable[int] | None) -> None:
    named = None if users is None else sorted(users)
    if named is None or named:
        transaction.on_commit(lambda: commands.rules_changed(named))


def _reauthorize(user_id: int | str) -> None:
    transaction.on_commit(lambda: commands.reauthorize(user_id))
