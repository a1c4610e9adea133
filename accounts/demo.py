"""Demo accounts, for trying the gateway out; never for a server that others can reach."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import transaction

from .models import AccessRule, Action

GROUP = "demo"
RULES = (
    (Action.SUBSCRIBE, "room.>", "Demo: the demo group talks in every room."),
    (Action.PUBLISH, "room.>", "Demo: the demo group talks in every room."),
    (Action.SUBSCRIBE, "live.prices.>", "Demo: the demo group watches the made-up prices."),
)
# Username (and password), role.
ACCOUNTS = (("alice", "user"), ("bob", "user"), ("admin", "superuser"))


def make_demo_accounts() -> list[tuple[str, str, str]]:
    """Make the demo accounts, their group and its rules, and return who there is.

    What exists is left as it is, so that a password changed, a rule deleted or a membership
    ended since then stays so.

    Returns:
        Username, the password it was made with, and role ("user" or "superuser") of each.
    """
    with transaction.atomic():
        group, group_made = Group.objects.get_or_create(name=GROUP)
        if group_made:
            for action, topic, note in RULES:
                AccessRule.objects.create(group=group, action=action, topic=topic, note=note)
        for name, role in ACCOUNTS:
            _make_account(name, role, group, group_made)
    return [(name, name, role) for name, role in ACCOUNTS]


def _make_account(name: str, role: str, group: Group, group_made: bool) -> None:
    superuser = role == "superuser"
    defaults: dict[str, Any] = {
        # Called only for a new account: hashing takes long on purpose.
        "password": lambda: make_password(name),
        "is_staff": superuser,
        "is_superuser": superuser,
    }
    user, made = get_user_model()._default_manager.get_or_create(username=name, defaults=defaults)
    if not superuser and (made or group_made):
        user.groups.add(group)
