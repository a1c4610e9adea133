"""`manage.py token USER`: print a JSON Web Token."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.management.users import active_user
from accounts.tokens import issue_jwt


class Command(BaseCommand):
    """Print a JSON Web Token for a user, and nothing else."""

    help = "Prints a JSON Web Token for a user, and nothing else."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the user and the lifetime."""
        parser.add_argument("user", help="username or id")
        parser.add_argument(
            "--lifetime",
            type=int,
            metavar="SECONDS",
            help="seconds until it expires (default: JWT_LIFETIME); a negative number makes one"
            " that has expired, for trying that out",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the token.

        Raises:
            CommandError: when there is no such user, or JWT_KEY cannot sign.
        """
        user = active_user(options["user"])
        try:
            self.stdout.write(issue_jwt(user, options["lifetime"]))
        except ValueError as exc:
            raise CommandError(str(exc)) from exc
