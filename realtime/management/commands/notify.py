"""`manage.py notify USER MESSAGE_OR_JSON`: send a notification from a terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management import BaseCommand, CommandError

from realtime.protocol.exceptions import GatewayError
from realtime.publish import anotify


class Command(BaseCommand):
    """Send a notification to one user."""

    help = "Sends a notification to one user, and waits until the stream has stored it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("user", help="username, or id")
        parser.add_argument("message", help='a JSON value, or any other text as {"message": text}')
        parser.add_argument("--message-id", help="sent twice with the same id, stored once")

    def handle(self, *args: Any, **options: Any) -> None:
        """Send."""
        users = get_user_model()._default_manager
        name = options["user"]
        user = users.filter(**{get_user_model().USERNAME_FIELD: name}).first()
        if user is None:
            # Ids are whatever the project's users have: numbers, UUIDs.
            with contextlib.suppress(ValidationError, ValueError):
                user = users.filter(pk=name).first()
        if user is None:
            raise CommandError(f"There is no user {name!r}: give a username or an id.")
        try:
            data = json.loads(options["message"])
        except ValueError:
            data = {"message": options["message"]}
        try:
            stored = async_to_sync(anotify)(user.pk, data, message_id=options["message_id"])
        except GatewayError as exc:
            raise CommandError(str(exc)) from exc
        note = " (stored before)" if stored.duplicate else ""
        self.stdout.write(f"Sent to {name} as event {stored.sequence}{note}.")
