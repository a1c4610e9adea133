"""Users as people name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def user_by_id(user_id: str) -> User | None:
    """Return the user of that id, None when there is none."""
    model = get_user_model()
    try:
        return model._default_manager.filter(pk=model._meta.pk.to_python(user_id)).first()
    except ValidationError:
        return None


def find_user(name_or_id: str) -> User | None:
    """Return the user of that username, or else of that id; None when there is none."""
    model = get_user_model()
    user = model._default_manager.filter(**{model.USERNAME_FIELD: name_or_id}).first()
    return user or user_by_id(name_or_id)


def any_user(name_or_id: str) -> User:
    """Return the user of that username, or else of that id.

    Raises:
        CommandError: when there is none.
    """
    user = find_user(name_or_id)
    if user is None:
        raise CommandError(f"There is no user with the username or id {name_or_id!r}.")
    return user


def active_user(name_or_id: str) -> User:
    """Return the active user of that username, or else of that id.

    Raises:
        CommandError: when there is none, or it is inactive.
    """
    user = any_user(name_or_id)
    if not user.is_active:
        raise CommandError(f"The user {user.get_username()!r} is inactive and cannot log in.")
    return user
