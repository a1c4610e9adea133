"""Fixtures: a connected broker, a stream, a fan-out over a stream in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from realtime.broker import Broker, connected
from realtime.embedded import NatsServer
from realtime.history import History
from tests.support.waiting import DEADLINE

from .support import CountingLayer, QueueingLayer, World, config


@pytest.fixture
async def broker(nats_server: NatsServer) -> AsyncIterator[Broker]:
    """Return a broker that is connected to the test's own server."""
    async with connected(nats_server.url, name="test") as broker:
        yield broker


@pytest.fixture
async def history(broker: Broker) -> History:
    """Return the history of a stream that is there and empty."""
    history = History(broker, config(), timeout=DEADLINE)
    await history.open()
    return history


@pytest.fixture(params=[CountingLayer, QueueingLayer], ids=["in process", "queued"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Return a started fan-out over a stream in memory."""
    world = World(request.param)
    await world.fanout.start()
    yield world
    await world.fanout.stop()
