"""Fixtures: one running gateway for the package, and its API for each demo user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.support import new_topic
from tests.support.gateways import Gateway

from .support import Api


class Site(Gateway):
    """A gateway whose API is spoken to."""

    def api(self, user: str | None = None) -> Api:
        """Return the API for a demo user; None: for a stranger."""
        if user is None:
            return Api(self.ports[0])
        return Api.bearer(self.ports[0], self.token(user))


@pytest.fixture(scope="package")
def site(data_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run one gateway for all tests of the API."""
    # What is late on a busy machine is not to become a 503.
    patient = ("STORE_TIMEOUT", "HISTORY_TIMEOUT", "REQUEST_TIMEOUT")
    env = {f"REALTIME_{name}": "30" for name in patient}
    env["DJANGO_SETTINGS_MODULE"] = "tests.api.settings"
    site = Site(tmp_path_factory.mktemp("api"), data_template, env)
    try:
        site.start()
        yield site
    finally:
        site.close()


@pytest.fixture
def alice(site: Site) -> Api:
    """Return the API for alice, who has no permission of Django's but talks in the rooms."""
    return site.api("alice")


@pytest.fixture
def admin(site: Site) -> Api:
    """Return the API for the admin, who has every permission but no rule for the rooms."""
    return site.api("admin")


@pytest.fixture
def room() -> str:
    """Return a topic of the test's own."""
    return new_topic()
