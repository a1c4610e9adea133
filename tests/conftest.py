"""Fixtures of the whole suite; first of all, a data directory that is not the project's."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest
import pytest_django

# No test may write to the project's var/, so this comes before Django's settings, which keep
# the database and the keys in DATA_DIR. They are loaded here; where pytest's configuration names
# the settings module, pytest-django has loaded them already, and they are turned round.
_DATA_DIR = Path(tempfile.mkdtemp(prefix="gateway-tests-")).resolve()
os.environ["DATA_DIR"] = str(_DATA_DIR)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402

if settings.DATA_DIR != _DATA_DIR:
    settings.DATABASES["default"]["NAME"] = _DATA_DIR / "db.sqlite3"
    settings.DATA_DIR = _DATA_DIR

from .support.gateways import Cluster, Gateway, make_template  # noqa: E402
from .support.redis import RedisServer  # noqa: E402

pytest_plugins = ["realtime.testing"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in `make test &` of a script. What is started here would inherit it, and be deaf to the
    # interrupts of tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no bug: an example may take longer than hypothesis's 200 ms.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


class StartGateway(Protocol):
    """What the fixture `gateway` is."""

    def __call__(self, *, fresh: bool = False, **env: str) -> Gateway:
        """Start one and return it.

        Args:
            fresh: with an empty data directory, as on a first start.
            env: added to its environment.
        """


class StartCluster(Protocol):
    """What the fixture `cluster_of_processes` is."""

    def __call__(
        self, *, web: int = 1, bridges: int = 1, auth_workers: int = 1, **env: str
    ) -> Cluster:
        """Start one with so many processes of each kind and return it when all are ready."""


def pytest_unconfigure() -> None:
    """Remove the data directory."""
    shutil.rmtree(_DATA_DIR, ignore_errors=True)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return an empty data directory for the processes of one test."""
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a redis-server for one test."""
    server = RedisServer(log=tmp_path / "redis.log")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def data_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with a migrated database and the demo accounts, made once."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def gateway(data_dir: Path, request: pytest.FixtureRequest) -> StartGateway:
    """Return a function that starts `manage.py gateway --demo`; it is ended after the test."""

    def start(*, fresh: bool = False, **env: str) -> Gateway:
        template = None if fresh else request.getfixturevalue("data_template")
        site = Gateway(data_dir, template, env)
        request.addfinalizer(site.close)
        site.start()
        return site

    return start


@pytest.fixture
def cluster_of_processes(
    data_dir: Path, data_template: Path, request: pytest.FixtureRequest
) -> StartCluster:
    """Return a function that starts the gateway's processes apart; ended after the test."""

    def start(*, web: int = 1, bridges: int = 1, auth_workers: int = 1, **env: str) -> Cluster:
        site = Cluster(data_dir, data_template, env)
        request.addfinalizer(site.close)
        site.start(web=web, bridges=bridges, auth_workers=auth_workers)
        return site

    return start


@pytest.fixture(autouse=True, scope="module")
def default_rules_again(
    request: pytest.FixtureRequest, django_db_blocker: pytest_django.DjangoDbBlocker
) -> Iterator[None]:
    """Put back what migrations stored, after tests whose end empties the tables.

    In one process pytest-django has them run last; of two, one may take another file after them.
    """
    yield
    if any(_empties_tables(item) for item in request.session.items if item.parent == request.node):
        migration = import_module("accounts.migrations.0002_default_rule")
        with django_db_blocker.unblock():
            migration.add_default_rule(apps, connection.schema_editor())


def _empties_tables(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("django_db")
    transactional = marker is not None and bool(marker.kwargs.get("transaction"))
    return transactional or "transactional_db" in getattr(item, "fixturenames", ())
