"""A gateway that takes Socket.IO clients, and the real client from npm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.gateways import Gateway
from .support import NodeClient, Poller

HERE = Path(__file__).resolve().parent
CHANNELS = {"REALTIME_INBOUND": "IN,both", "REALTIME_OUTBOUND": "OUT,both"}
SOCKETIO = {"REALTIME_SOCKETIO": "polling,websocket", **CHANNELS}


@pytest.fixture(scope="package")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory into which socket.io-client was installed, at the locked version."""
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        pytest.skip("node and npm are missing: the real socket.io-client cannot be run")
    directory = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "driver.mjs"):
        shutil.copy(HERE / name, directory)
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"npm could not install socket.io-client: {done.stderr[-300:]}")
    return directory


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Gateway]:
    """Run a gateway for the tests of this folder."""
    gateway = Gateway(tmp_path_factory.mktemp("socketio") / "data", data_template, SOCKETIO)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


@pytest.fixture(params=["polling", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    """Name the one transport that a client uses."""
    return request.param


@pytest.fixture
def client(modules: Path, site: Gateway, transport: str) -> Callable[..., NodeClient]:
    """Return a function that makes a client, of alice unless it says otherwise."""

    def make(user: str = "alice", **options: Any) -> NodeClient:
        options.setdefault("auth", {"token": site.token(user)})
        options.setdefault("transports", [transport])
        return NodeClient(modules, site.url(), **options)

    return make


@pytest.fixture
def poller(site: Gateway) -> Poller:
    """Return a client by raw HTTP."""
    return Poller(site.url())
