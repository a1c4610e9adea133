"""The suite's settings."""

from django.conf import settings


def test_data_dir_in_tests_is_not_the_projects() -> None:
    """No test may write to var/."""
    assert settings.BASE_DIR not in settings.DATA_DIR.parents
