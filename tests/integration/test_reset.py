"""Connections that are reset while bytes of theirs are unread: each is gone at once."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.wire import RawSocket, text
from tests.support.gateways import Gateway
from tests.support.waiting import until


@pytest.fixture
def site(tmp_path: Path, data_template: Path) -> Iterator[Gateway]:
    """Run a gateway whose heartbeat would not find them."""
    env = {"REALTIME_HEARTBEAT": "3600", "REALTIME_HEARTBEAT_TIMEOUT": "7200"}
    gateway = Gateway(tmp_path / "data", data_template, env)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


@pytest.mark.parametrize("unread", [text(type="ping"), text(type="ping")[:3]])
async def test_reset_behind_unread_bytes_ends_the_session_at_once(
    site: Gateway, unread: bytes
) -> None:
    """uvloop tells of the bytes, and then watches no more; the first are answered, too."""
    raw = RawSocket(site.ports[0])
    async with raw:
        await raw.open(site.token())
        (process,) = site.processes
        process.pause()
        await raw.send(unread)
        # Closing with a linger of no time resets the connection.
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    process.resume()
    await until(lambda: process.find("closed session="), what="the end of the session")
    assert process.find("Traceback") is None
