"""Self-check: how late the event loop runs, and how long an event takes all the way.

The canary publishes to a topic of its own every few seconds, and takes the time until the
event reaches a subscription here: through NATS, bridge, layer and fan-out. Its topic is one that
the stream does not store, so that it leaves no trace among the events; the stream is asked how it
is instead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from .broker import Broker
from .delivery import Delivery
from .fanout import Fanout
from .metrics import Metrics
from .protocol.exceptions import GatewayError

logger = logging.getLogger(__name__)

LAG_SECONDS = 0.25
"""Between two looks at how late a timer runs."""
CANARY_TIMEOUT = 10.0
"""Seconds in which an event must come back; a lost one is repaired within a few."""
FAILURES = 2
"""Failures in a row after which this process is not ready."""


class CanarySocket:
    """A delivery's socket that notes when it was written to."""

    congested = False
    ending: tuple[int, str] | None = None

    def __init__(self) -> None:
        self.arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        """Note an event."""
        if not self.arrived.done():
            self.arrived.set_result(None)

    def write_text(self, text: bytes) -> None:
        """Take no notice: no event."""

    def close(self, code: int, reason: str) -> None:
        """Do nothing: there is nothing to close."""

    async def drained(self) -> bool:
        """Return at once."""
        return True


class SelfCheck:
    """What one process observes of itself.

    Args:
        topic: the canary's own topic.
        every: seconds between two of its events; 0: none.
        beat: called a few times a minute, with what else there is to do regularly.
    """

    def __init__(
        self,
        broker: Broker,
        fanout: Fanout,
        metrics: Metrics,
        *,
        topic: str,
        every: float,
        beat: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._fanout = fanout
        self._metrics = metrics
        self._topic = topic
        self._every = every
        self._beat = beat
        self._tasks: list[asyncio.Task[None]] = []
        self.failures = 0

    @property
    def healthy(self) -> bool:
        """Say whether events still come through."""
        return self.failures < FAILURES

    def start(self) -> None:
        """Observe in the background."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._watch_lag())]
        if self._every:
            self._tasks.append(loop.create_task(self._sing()))

    async def stop(self) -> None:
        """End what runs in the background."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        ticks = 0
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._metrics.lag.observe(max(loop.time() - due, 0.0))
            ticks += 1
            if ticks % 4 == 0:
                self._beat()

    async def _sing(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                self._metrics.canary = await self.round_trip()
                self.failures = 0
            except (GatewayError, TimeoutError) as exc:
                self.failures += 1
                self._metrics.canary_failures += 1
                logger.warning("canary failed times=%d reason=%r", self.failures, exc)
            except Exception:
                logger.exception("canary failed")

    async def round_trip(self) -> float:
        """Send one event through everything and return the seconds it took.

        Raises:
            TimeoutError: when it did not come back in time.
            Unavailable: when it could not be sent.
        """
        feed = await self._fanout.join(self._topic)
        try:
            socket = CanarySocket()
            delivery = Delivery(feed, socket, feed.chain.last)
            delivery.start()
            try:
                began = time.perf_counter()
                await self._broker.publish(self._topic, b"{}")
                async with asyncio.timeout(CANARY_TIMEOUT):
                    await socket.arrived
                took = time.perf_counter() - began
                await self._fanout.history.info()
                return took
            finally:
                delivery.stop()
        finally:
            self._fanout.leave(feed)
