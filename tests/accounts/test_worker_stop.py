"""The auth worker's end, and its life as a service."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest
from pytest_django import Settings

from accounts.authentication import NO_CREDENTIAL
from accounts.worker import AuthWorker, serve
from realtime.broker import Broker
from realtime.protocol.messages import encode_message, parse_auth_reply

from .support import DEADLINE, FakeBroker, SlowLookUp, auth_request, started

pytestmark = pytest.mark.asyncio


async def test_worker_stopped_answers_what_is_in_flight(slow: SlowLookUp) -> None:
    broker = FakeBroker()
    worker = await started(broker, slow)
    await broker.ask("slow")
    await slow.started()
    stopping = asyncio.create_task(worker.stop())
    await broker.unsubscribed()
    slow.released.set()
    assert await stopping
    assert set(broker.replies) == {"slow"}


async def test_worker_stopped_gives_up_on_a_look_up_that_hangs(
    settings: Settings, slow: SlowLookUp, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REALTIME = {**settings.REALTIME, "DRAIN_SECONDS": 0.01}
    broker = FakeBroker()
    worker = await started(broker, slow)
    await broker.ask("slow")
    await slow.started()
    assert not await worker.stop()
    assert broker.replies == {}
    assert "unanswered=1" in caplog.text


async def test_worker_stopped_before_its_start_stops() -> None:
    assert await AuthWorker(cast(Broker, FakeBroker())).stop()


async def test_serve_answers_until_told_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = FakeBroker()
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve(cast(Broker, broker), stopping))
    await broker.subscribed()
    await broker.deliver(encode_message(auth_request()), "nothing")
    assert parse_auth_reply(await broker.reply_to("nothing")) == NO_CREDENTIAL
    stopping.set()
    async with asyncio.timeout(DEADLINE):
        assert await serving
    assert broker.closed
    assert "auth worker ready subject=gateway.auth" in caplog.text


async def test_serve_stops_while_nats_is_out_of_reach(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = FakeBroker(reachable=False)
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve(cast(Broker, broker), stopping))
    await broker.subscribed()
    stopping.set()
    async with asyncio.timeout(DEADLINE):
        assert await serving
    assert broker.closed
    assert "ready" not in caplog.text
