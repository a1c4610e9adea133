"""The project's settings without throttles, and with a password hash that is quick."""

from __future__ import annotations

from gateway_project.settings import *  # noqa: F403
from gateway_project.settings import REALTIME as _REALTIME

REALTIME = {**_REALTIME, "API_RATES": {"read": None, "write": None, "token": None}}
# The demo accounts have the second kind.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
