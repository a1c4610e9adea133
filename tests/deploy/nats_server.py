"""A real nats-server with a configuration of deploy/nats, on free ports and a temporary store."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nats.aio.client import Client

from realtime.embedded import end, find_binary, spawn

NATS = Path(__file__).parents[2] / "deploy" / "nats"
USERS = ("gateway", "bridge", "auth", "backend", "admin", "sys")
DEADLINE = 30
"""Seconds until a condition that is waited for counts as not met."""

# nats-py hands it over in lower case.
_VIOLATION = re.compile(r'permissions violation for \w+ to "([^"]+)"(?: using queue "([^"]+)")?')


class Server(NamedTuple):
    """Where a started server listens."""

    address: str
    pid: int

    def url(self, user: str, password: str | None = None) -> str:
        """Return the address with the credentials of `user` in it."""
        return f"nats://{user}:{password or password_of(user)}@{self.address}"


def password_of(user: str) -> str:
    """Return the password that `environment` gives to a user of nats.conf."""
    return f"{user}Password1"


def environment(store: Path, name: str = "nats") -> dict[str, str]:
    """Return the variables that nats.conf asks for."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "NATS_SERVER_NAME": name,
        "NATS_STORE_DIR": str(store),
        **{f"NATS_{user.upper()}_PASSWORD": password_of(user) for user in USERS},
    }


@contextlib.contextmanager
def nats_server(
    directory: Path,
    *,
    config: Path = NATS / "nats.conf",
    name: str = "nats",
    more: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Server]:
    """Start nats-server with `config` and end it afterwards.

    Args:
        more: environment variables beside those of nats.conf.
        arguments: of nats-server.
    """
    home = directory / name
    home.mkdir()
    log = home / "log"
    # Port -1: the server takes a free one and writes down which.
    address = ["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir", str(home)]
    process = spawn(
        [find_binary(), "-c", str(config), *address, *arguments],
        log,
        env=environment(home / "store", name) | dict(more or {}),
    )
    try:
        ports = home / f"{Path(find_binary()).name}_{process.pid}.ports"
        deadline = time.monotonic() + DEADLINE
        while not ports.exists() or not ports.read_text().endswith("}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.01)
        url: str = json.loads(ports.read_text())["nats"][0]
        yield Server(url.removeprefix("nats://"), process.pid)
    finally:
        end(process, 5)


class Peer:
    """A client, and what the server told it that it may not do."""

    def __init__(self) -> None:
        self.client = Client()
        self._refused: set[tuple[str, str]] = set()

    async def heard(self, exc: Exception) -> None:
        """Take note of an error that the server sent (nats-py's `error_cb`)."""
        if violation := _VIOLATION.search(str(exc)):
            self._refused.add((violation[1], violation[2] or ""))

    async def settle(self) -> None:
        """Return when the server has dealt with all that was done so far."""
        # nats-py writes its PING before what it still holds back, and then that.
        for _ in range(2):
            await self.client.flush(timeout=DEADLINE)

    async def refused(self) -> set[tuple[str, str]]:
        """Return the refused subjects so far, in lower case, each with its queue group or ""."""
        await self.settle()
        return self._refused


@contextlib.asynccontextmanager
async def connected(server: Server, user: str) -> AsyncIterator[Peer]:
    """Yield a client of `server` that is logged in as `user`, with that user's inbox prefix."""
    peer = Peer()
    await peer.client.connect(
        server.url(user),
        inbox_prefix=f"_INBOX_{user}",
        error_cb=peer.heard,
        allow_reconnect=False,
        connect_timeout=DEADLINE,
    )
    try:
        yield peer
    finally:
        await peer.client.close()
