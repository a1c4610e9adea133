"""Kick: close all sockets of a user; who did it is written down (recording.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime.commands import disconnect

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def kick(user: User, reason: str = "") -> None:
    """Close a user's sockets on every gateway, with 4502; they may log in again.

    Raises:
        Unavailable: when NATS cannot be reached; then nothing is written down either.
    """
    disconnect(user.pk, reason)
