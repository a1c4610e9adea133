"""The Django app `realtime`."""

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    """Registers the gateway's system checks."""

    name = "realtime"
    verbose_name = "Realtime gateway"

    def ready(self) -> None:
        """Register the checks; trace from here on, if that is wanted."""
        from . import checks, deploy_checks, tracing  # noqa: F401
        from .conf import settings

        if settings.TRACING:
            tracing.start()
