"""A pytest plugin for projects that use the gateway: `pytest_plugins = ["realtime.testing"]`.

docs/testing.md has examples. PYTEST_DONT_REWRITE: its assertions carry their own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..embedded import NatsServer

if TYPE_CHECKING:
    from .broker import MemoryBroker, Sent
    from .client import RealtimeClient

__all__ = ["nats_server", "realtime_broker", "realtime_client"]


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """Run a nats-server with JetStream for one test, on a free port: `nats_server.url`.

    Sharing one would save 20 ms a test and cost the isolation: streams of the same subjects
    cannot live side by side.
    """
    # Killed processes lose nothing without fsync, and this halves the time of a publish.
    server = NatsServer(tmp_path / "nats", sync_interval="2m")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def realtime_broker(request: pytest.FixtureRequest) -> Iterator[MemoryBroker]:
    """Keep what `notify` and `publish` send during one test, instead of sending it.

    A test that may use the database also sees what its transactions wrote to the outbox.
    """
    # Models and settings can be imported once Django is set up, which is after plugins load.
    from .. import link
    from .broker import MemoryBroker

    broker = MemoryBroker(_queued if _may_use_database(request.node) else list)
    with link.standing_in(broker):
        yield broker


@pytest.fixture
def realtime_client() -> type[RealtimeClient]:
    """Return the class of the client, to be entered with `async with`."""
    from .client import RealtimeClient

    return RealtimeClient


def _may_use_database(test: Any) -> bool:
    fixtures = {"db", "transactional_db", "django_db_serialized_rollback"}
    by_class = any(one.__name__ == "TransactionTestCase" for one in _classes_of(test))
    return bool(
        by_class or test.get_closest_marker("django_db") or fixtures & set(test.fixturenames)
    )


def _classes_of(test: Any) -> tuple[type, ...]:
    return test.cls.__mro__ if getattr(test, "cls", None) is not None else ()


def _queued() -> list[Sent]:
    from ..models import OutboxMessage
    from .broker import Sent

    rows = OutboxMessage.objects.order_by("pk")
    return [Sent(one.topic, bytes(one.payload), one.message_id) for one in rows]
