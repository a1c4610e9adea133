"""Compression as a client does it, and gateways with and without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.wire import COMPRESSED, TEXT, compressed, frame
from tests.support.client import TestClient
from tests.support.gateways import Gateway


def said(*, rsv: int = COMPRESSED, **fields: Any) -> bytes:
    """Return a compressed text frame with one JSON object."""
    return frame(TEXT, compressed(json.dumps(fields).encode()), rsv=rsv)


def run(directory: Path, template: Path, **env: str) -> Iterator[Gateway]:
    """Run a gateway; it has had no exception when it ends."""
    site = Gateway(directory, template, env)
    try:
        site.start()
        yield site
        assert "Traceback" not in site.processes[0].text()
    finally:
        site.close()


def client(site: Gateway, compression: bool, user: str = "alice") -> TestClient:
    """Return a client of a demo user: `compression` offers it."""
    return TestClient(site.ws_url(), token=site.token(user), compression=compression)
