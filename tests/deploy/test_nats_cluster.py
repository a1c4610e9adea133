"""deploy/nats/cluster/nats.conf: three servers keep what is stored when one of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from realtime.broker import Broker
from realtime.embedded import free_port
from realtime.protocol.exceptions import Unavailable

from .nats_server import NATS, Server, nats_server

NAMES = ("nats-1", "nats-2", "nats-3")
DEADLINE = 60.0
STREAM = {
    "name": "GATEWAY",
    "subjects": ["user.>"],
    "storage": "file",
    "num_replicas": 3,
    "allow_direct": True,
    "republish": {"src": ">", "dest": "gateway.relay.>"},
}

Value = TypeVar("Value")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Server]]:
    """Three servers with the cluster's configuration, on local route ports."""
    ports = {name: free_port() for name in NAMES}
    routes = ", ".join(f"nats://route:routePassword1@127.0.0.1:{port}" for port in ports.values())
    variables = {"NATS_ROUTE_PASSWORD": "routePassword1", "NATS_ROUTES": f"[{routes}]"}
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                nats_server(
                    tmp_path,
                    config=NATS / "cluster" / "nats.conf",
                    name=name,
                    more=variables,
                    arguments=["--cluster", f"nats://127.0.0.1:{port}"],
                )
            )
            for name, port in ports.items()
        ]


async def in_time(act: Callable[[], Awaitable[Value]]) -> Value:
    """Return what `act` returns, tried again while JetStream has no leader for it."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return await act()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def payloads(broker: Broker, wanted: set[bytes]) -> set[bytes]:
    """Return what the stream holds of the topic; any server may answer, and lag behind."""
    query = {"seq": 1, "next_by_subj": "user.7.a", "batch": 10}
    messages = await broker.direct_get("GATEWAY", query, timeout=2)
    if not wanted <= (held := {message.data for message in messages}):
        raise Unavailable("It lags.")
    return held


@pytest.mark.asyncio
async def test_cluster_that_loses_a_server_keeps_what_was_stored_and_stores_on(
    cluster: list[Server],
) -> None:
    url = ",".join(server.url("gateway") for server in cluster)
    broker = Broker(url, name="gateway", inbox_prefix="_INBOX_gateway", connect_timeout=DEADLINE)
    await broker.connect()
    try:
        await in_time(lambda: broker.ensure_stream(STREAM, timeout=5))
        await in_time(lambda: broker.store("user.7.a", b"1", headers=None, timeout=2))
        # The one the client is on, so that it has to find another too.
        os.kill(cluster[0].pid, signal.SIGKILL)
        await in_time(lambda: broker.store("user.7.a", b"2", headers=None, timeout=2))
        assert await in_time(lambda: payloads(broker, {b"1", b"2"})) == {b"1", b"2"}
    finally:
        await broker.close()
