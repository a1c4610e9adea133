"""One server for all tests of a module: they only look, or use subjects of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .nats_server import Server, nats_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with deploy/nats/nats.conf."""
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running
