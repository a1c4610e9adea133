"""Fixtures of the client's tests: a scripted gateway, and a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from realtime.client import Backoff, GatewayClient, Timing

from ..browser.fake_gateway import FakeGateway, Peer
from ..support.gateways import Gateway, open_for_requests

# Short where a test waits for them to pass, long where they must not.
TIMING = Timing(connect=30, reply=30, publish=30, replay=30, again=0.05, close=0.5)


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    """Run a scripted gateway."""
    gateway = FakeGateway()
    yield gateway
    gateway.close()


class Scripted:
    """A client of a scripted gateway; what the gateway does blocks, so it runs in threads."""

    def __init__(self, fake: FakeGateway, **options: Any) -> None:
        self.fake = fake
        self.states: list[str] = []
        self.notices: list[Any] = []
        defaults = {"timing": TIMING, "backoff": Backoff(draw=lambda: 0.0), "token": "t"}
        self.client = GatewayClient(
            fake.url,
            **{**defaults, **options},
            on_state=lambda state: self.states.append(state.name),
            on_notice=self.notices.append,
        )

    async def ready(self, **fields: Any) -> Peer:
        """Accept the next socket and answer its `connect`."""
        return await asyncio.to_thread(self.fake.ready, **fields)

    async def accept(self) -> Peer:
        """Accept the next socket."""
        return await asyncio.to_thread(self.fake.accept)

    async def expect(self, peer: Peer, kind: str) -> dict[str, Any]:
        """Take the next frame."""
        return await asyncio.to_thread(peer.expect, kind)

    async def open(self, **fields: Any) -> Peer:
        """Start the client and return the gateway's end of its socket, which is ready."""
        self.client.start()
        peer = await self.ready(**fields)
        await self.client.connect()
        return peer

    async def subscribe(self, peer: Peer, topic: str, top: int = 0, **options: Any) -> Any:
        """Subscribe, with the gateway saying that the topic stands at `top`."""
        task = asyncio.create_task(self.client.subscribe(topic, **options))
        await asyncio.to_thread(peer.subscribed, top)
        return await task


@pytest.fixture
async def scripted(fake: FakeGateway) -> AsyncIterator[Callable[..., Scripted]]:
    """Return a function that makes a client of the scripted gateway."""
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> Scripted:
            made = Scripted(fake, **options)
            stack.push_async_callback(made.client.close)
            return made

        yield make


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Gateway]:
    """Run the real gateway for the tests of this package; each leaves it alive."""
    with open_for_requests(tmp_path_factory.mktemp("live"), data_template) as site:
        yield site
