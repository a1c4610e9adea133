"""The Django app `realtime`."""

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    """Registers the gateway's system checks."""

    name = "realtime"
    verbose_name = "Realtime gateway"

    def ready(self) -> None:
        """Register the checks."""
        from . import checks  # noqa: F401
