"""Settings of the backend's side: a typed, live view of the `ACCOUNTS` dict in Django's settings.

Every setting is documented in docs/configuration.md; a wrong one fails `manage.py check`
(checks.py). Reading is live, so that `override_settings` works in tests.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings

DEFAULTS: dict[str, Any] = {
    # JSON Web Tokens (RFC 7519)
    "JWT_KEY": "",
    "JWT_ALGORITHMS": ["HS256"],
    "JWT_REQUIRE_EXP": True,
    "JWT_LEEWAY": 30.0,
    "JWT_LIFETIME": 3600.0,
    "JWT_API_LIFETIME": 900.0,
    "JWT_AUDIENCE": None,
    "JWT_ISSUER": None,
    # Sessions
    "AUTO_SUBSCRIBE": [],
    # The auth worker
    "AUTH_THREADS": 8,
    "AUTH_QUEUE": 1000,
}


class Settings:
    """Attribute access to `ACCOUNTS`, with defaults; unknown names raise AttributeError."""

    # Durations in seconds.
    JWT_KEY: str
    JWT_ALGORITHMS: list[str]
    JWT_REQUIRE_EXP: bool
    JWT_LEEWAY: float
    JWT_LIFETIME: float
    JWT_API_LIFETIME: float
    JWT_AUDIENCE: str | list[str] | None
    JWT_ISSUER: str | None
    AUTO_SUBSCRIBE: list[str]
    AUTH_THREADS: int
    AUTH_QUEUE: int

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"ACCOUNTS has no setting {name!r}")
        return getattr(django_settings, "ACCOUNTS", {}).get(name, DEFAULTS[name])


settings = Settings()
