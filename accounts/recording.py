"""Recording: what goes into the audit log when rules, memberships, tokens or users change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.dispatch import receiver

from realtime.commands import disconnected

from .audit import Change, Kind, Record, record
from .changes import changed
from .management.users import user_by_id
from .models import AccessRule, ApiToken

User = get_user_model()
FLAGS = ("is_active", "is_staff", "is_superuser")
WATCHED = frozenset({User.USERNAME_FIELD, "password", *FLAGS})

Names = set[str]


def _name(model: Any, pk: Any, using: str) -> str | None:
    """Return a user's or group's name, which a fixture may bring only later."""
    if pk is None:
        return None
    found = model._base_manager.using(using).filter(pk=pk).first()
    return f"id {pk}" if found is None else str(found)


@receiver(changed, sender=AccessRule)
def rule_changed(before: AccessRule | None, after: AccessRule | None, using: str, **_: Any) -> None:
    """Record a rule."""

    def values(rule: AccessRule | None) -> dict[str, Any] | None:
        if rule is None:
            return None
        return {
            "effect": str(rule.effect),
            "action": str(rule.action),
            "topic": rule.topic,
            "user": _name(User, rule.user_id, using),
            "group": _name(Group, rule.group_id, using),
            "enabled": rule.enabled,
            "note": rule.note,
        }

    old, new = values(before), values(after)
    shown = new or old or {}
    who = shown["user"] or shown["group"] or "everyone"
    subject = f"{shown['effect']} {shown['action']} {shown['topic']} for {who}"
    pk = (after or before).pk  # type: ignore[union-attr]
    record([Record(Kind.RULE, subject, pk, old, new)], using)


@receiver(changed, sender=ApiToken)
def token_changed(before: ApiToken | None, after: ApiToken | None, using: str, **_: Any) -> None:
    """Record an API token, and whether its key was replaced; never the key or its digest."""

    def values(token: ApiToken | None) -> dict[str, Any] | None:
        if token is None:
            return None
        expires_at = token.expires_at
        return {
            "name": token.name,
            "user": _name(User, token.user_id, using),
            "enabled": token.enabled,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }

    old, new = values(before), values(after)
    if before is not None and after is not None and before.digest != after.digest:
        old, new = {**(old or {}), "key": "the old one"}, {**(new or {}), "key": "a new one"}
    shown = new or old or {}
    pk = (after or before).pk  # type: ignore[union-attr]
    subject = f"{shown['name']} of {shown['user']}"
    record([Record(Kind.TOKEN, subject, pk, old, new)], using)


@receiver(pre_save, sender=User)
def user_saving(
    instance: Any, using: str, update_fields: frozenset[str] | None = None, **_: Any
) -> None:
    """Remember what a user was."""
    # A log-in writes `last_login` alone, and need not cost another query.
    if update_fields is None or not WATCHED.isdisjoint(update_fields):
        instance._audited = User._base_manager.using(using).filter(pk=instance.pk).first()


@receiver(post_save, sender=User)
def user_saved(instance: Any, created: bool, using: str, **_: Any) -> None:
    """Record what became of a user's rights and password; who is new counts when privileged."""
    before = instance.__dict__.pop("_audited", None)
    if created and (instance.is_staff or instance.is_superuser):
        record([_user_record(instance, None, _user_values(instance))], using)
    elif before is not None:
        old, new = _user_values(before), _user_values(instance)
        if before.password != instance.password:
            old, new = {**old, "password": "the old one"}, {**new, "password": "a new one"}
        record([_user_record(instance, old, new)], using)


@receiver(pre_delete, sender=User)
def user_deleted(instance: Any, using: str, **_: Any) -> None:
    """Record a user, with the groups that the deletion takes them out of without a signal."""
    groups = sorted(instance.groups.using(using).values_list("name", flat=True))
    values = {**_user_values(instance), "groups": groups}
    record([_user_record(instance, values, None)], using)


def _user_record(user: Any, before: Any, after: Any) -> Record:
    return Record(Kind.USER, user.get_username(), user.pk, before, after)


def _user_values(user: Any) -> dict[str, Any]:
    return {"username": user.get_username(), **{flag: getattr(user, flag) for flag in FLAGS}}


@receiver(m2m_changed, sender=User.groups.through)
def membership_changed(
    instance: Any, action: str, reverse: bool, pk_set: Collection[Any] | None, using: str, **_: Any
) -> None:
    """Record whose groups changed: one entry a user, however many at once."""
    if action == "pre_clear":
        # Afterwards nobody can say who was in the group.
        gone = {instance.name} if reverse else None
        users = instance.user_set.using(using).all() if reverse else [instance]
        _memberships(users, using, now=lambda names: names - (names if gone is None else gone))
    elif action in ("post_add", "post_remove") and pk_set:
        if reverse:
            names, users = {instance.name}, User._base_manager.using(using).filter(pk__in=pk_set)
        else:
            chosen = Group.objects.using(using).filter(pk__in=pk_set)
            names, users = set(chosen.values_list("name", flat=True)), [instance]
        if action == "post_add":
            _memberships(users, using, was=lambda groups: groups - names)
        else:
            _memberships(users, using, was=lambda groups: groups | names)


@receiver(pre_delete, sender=Group)
def group_deleted(instance: Group, using: str, **_: Any) -> None:
    """Record whom a deleted group loses: deleting it sends no word of the memberships."""
    users = instance.user_set.using(using).all()
    _memberships(users, using, now=lambda names: names - {instance.name})


def _memberships(
    users: Iterable[Any],
    using: str,
    *,
    was: Callable[[Names], Names] = lambda names: names,
    now: Callable[[Names], Names] = lambda names: names,
) -> None:
    """Record users' groups before and after, both made from those they are in at this moment."""
    found = {user.pk: user for user in users}
    groups: dict[Any, Names] = {key: set() for key in found}
    rows = Group.objects.using(using).filter(user__in=list(found))
    for key, name in rows.values_list("user", "name"):
        if key in groups:
            groups[key].add(name)
    record(
        (
            Record(
                Kind.MEMBERSHIP,
                user.get_username(),
                key,
                {"groups": sorted(was(groups[key]))},
                {"groups": sorted(now(groups[key]))},
            )
            for key, user in found.items()
        ),
        using,
    )


@receiver(disconnected)
def user_disconnected(user_id: int | str, reason: str, **_: Any) -> None:
    """Record that a user's sockets were closed, by whichever way it was asked for."""
    # Another backend's users have no row here, and ids of another form.
    user = user_by_id(str(user_id))
    subject = str(user_id) if user is None else user.get_username()
    after = {"reason": reason} if reason else None
    record([Record(Kind.SOCKETS, subject, user_id, None, after, Change.DISCONNECTED)])
