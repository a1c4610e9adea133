"""System checks of `check --deploy`: what works, and must not stay so in production."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, Warning, register

from .conf import settings
from .protocol.origins import parse_origin

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@register(Tags.security, deploy=True)
def check_deploy(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check what matters in production."""
    found: list[CheckMessage] = []
    if len(settings.SESSION_KEY) < 32 or len(set(settings.SESSION_KEY)) < 5:
        found.append(
            Warning(
                "REALTIME['SESSION_KEY'] is weak: who guesses it can forge a sessionId.",
                hint="Use 32 random characters or more, the same in every web process.",
                id="realtime.W002",
            )
        )
    if apps.is_installed("daphne") and settings.EVENT_LOOP != "uvloop":
        found.append(
            Warning("EVENT_LOOP is not uvloop: deliveries take longer.", id="realtime.W003")
        )
    return [*found, *_check_exposure()]


def _check_exposure() -> list[CheckMessage]:
    """Check which pages may open sockets on a visitor's cookie."""
    found: list[CheckMessage] = []
    for origin in settings.ALLOWED_ORIGINS:
        parsed = parse_origin(origin)
        if parsed is not None and parsed[0] == "http" and parsed[1] not in LOCAL:
            found.append(
                Warning(
                    f"REALTIME['ALLOWED_ORIGINS'] has {origin!r}, a site without TLS: who is on"
                    " its network can open sockets as its visitors.",
                    hint="Serve that site over https, and list it so.",
                    id="realtime.W004",
                )
            )
    if "*" in django_settings.ALLOWED_HOSTS:
        found.append(
            Warning(
                "ALLOWED_HOSTS accepts any name, and pages of the name that was asked for may open"
                " sockets on a visitor's cookie: by DNS rebinding any site's can.",
                hint="List the names under which browsers reach this site.",
                id="realtime.W005",
            )
        )
    return found
