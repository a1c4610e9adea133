"""Make the accounts of a run: users 1 to N in the gateway's own database, and their tokens.

DATA_DIR=… JWT_KEY=… python -m benchmarks.peers.accounts USERS RULES
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import cache

import jwt


def token_maker(key: str) -> Callable[[int], str]:
    """Return a function from user id to a token that is good for an hour."""
    expires = int(time.time()) + 3600

    # Made once a user: in a storm of connects the load generator would make little else.
    @cache
    def token_for(user: int) -> str:
        return jwt.encode({"sub": str(user), "exp": expires}, key, algorithm="HS256")

    return token_for


def make(users: int, rules: int) -> None:
    """Make users with ids from 1 on, a rule that opens every room, and idle rules beside it."""
    from django.contrib.auth.models import User

    from accounts.models import AccessRule

    User.objects.bulk_create(
        [User(pk=number, username=f"user{number}", password="!") for number in range(1, users + 1)],
        batch_size=500,
    )
    for action in ("subscribe", "publish"):
        AccessRule.objects.create(action=action, topic="room.>")
    AccessRule.objects.bulk_create(
        [AccessRule(action="subscribe", topic=f"rpc.idle{number}.>") for number in range(rules)]
    )


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)
    make(int(sys.argv[1]), int(sys.argv[2]))


if __name__ == "__main__":
    main()
