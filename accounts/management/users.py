"""Users as commands name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def any_user(name_or_id: str) -> User:
    """Return the user of that username, or else of that id.

    Raises:
        CommandError: when there is none.
    """
    model = get_user_model()
    users = model._default_manager
    user = users.filter(**{model.USERNAME_FIELD: name_or_id}).first()
    if user is None:
        try:
            user = users.filter(pk=model._meta.pk.to_python(name_or_id)).first()
        except ValidationError:
            user = None
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
