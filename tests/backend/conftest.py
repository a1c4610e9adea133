"""A NATS server as it is deployed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.nats_server import Server, nats_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with deploy/nats/nats.conf."""
    with nats_server(tmp_path) as running:
        yield running
