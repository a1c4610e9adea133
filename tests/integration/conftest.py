"""Fixtures: a gateway with compression, and a connection by hand that uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.wire import OFFER, RawSocket
from tests.support.gateways import Gateway

from .deflating import run, said


@pytest.fixture(scope="module")
def compressing(data_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run one gateway with compression for all tests of this module."""
    yield from run(
        tmp_path_factory.mktemp("compression"),
        data_template,
        DJANGO_SETTINGS_MODULE="tests.integration.with_echo",
        REALTIME_COMPRESSION="true",
        REALTIME_COMPRESSION_MIN_BYTES="400",
    )


@pytest.fixture
async def raw(compressing: Gateway) -> AsyncIterator[RawSocket]:
    """Return an authenticated connection by hand that may use compression."""
    async with RawSocket(compressing.ports[0]) as raw:
        assert await raw.shake(OFFER) == 101
        await raw.send(said(type="connect", token=compressing.token()))
        await raw.until("ready")
        yield raw
