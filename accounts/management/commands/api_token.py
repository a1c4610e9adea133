"""`manage.py api_token USER --name NAME`: make an API token."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.management.users import active_user
from accounts.models import ApiToken


class Command(BaseCommand):
    """Make an API token and print its key, once."""

    help = "Makes an API token for a user and prints its key, which cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the user and a name for the token."""
        parser.add_argument("user", help="username or id")
        parser.add_argument("--name", required=True, help="what will use it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the key.

        Raises:
            CommandError: when there is no such user, or the name is empty or too long.
        """
        user = active_user(options["user"])
        try:
            _, key = ApiToken.objects.create_token(user, options["name"])
        except ValidationError as exc:
            raise CommandError(f"--name: {' '.join(exc.messages)}") from exc
        self.stdout.write(key)
