"""Ports for servers that a test starts."""

from __future__ import annotations

import os

from realtime import embedded
from realtime.embedded import free_port

__all__ = ["free_port"]

# Each worker of pytest-xdist draws from a share of its own: what one has drawn and does not listen
# on yet, or not while it restarts a server, no other one draws.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
embedded._PORTS = embedded._PORTS[_worker::_workers]
