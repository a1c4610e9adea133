"""`manage.py kick USER`: close a user's sockets on every gateway."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.kick import kick
from accounts.management.users import any_user
from realtime.protocol.exceptions import GatewayError


class Command(BaseCommand):
    """Close a user's sockets; they may log in again, unless something else forbids it."""

    help = "Closes all sockets of a user, on every gateway, with 4502: they do not come back."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the user and a reason."""
        parser.add_argument("user", help="username or id")
        parser.add_argument("--reason", default="", help="told to the client")

    def handle(self, *args: Any, **options: Any) -> None:
        """Kick.

        Raises:
            CommandError: when there is no such user, or NATS cannot be reached.
        """
        user = any_user(options["user"])
        try:
            kick(user, options["reason"])
        except GatewayError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"Told every gateway to close the sockets of {user.get_username()}.")
