"""The Django app `accounts`."""

from django.apps import AppConfig
from django.core.checks import Tags, register


class AccountsConfig(AppConfig):
    """Users, rules, tokens and the auth worker."""

    name = "accounts"
    verbose_name = "Accounts and access"

    def ready(self) -> None:
        """Register the system checks, the signals and the audit log."""
        from . import recording, signals  # noqa: F401
        from .checks import check_deployment, check_settings

        register(check_settings)
        register(check_deployment, Tags.security, deploy=True)
