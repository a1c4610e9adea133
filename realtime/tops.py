"""The top check: what no chain shows: a lost last event, a stream that is another one.

Every few seconds the stream's last sequence is compared with the one of the check before. When
it moved, the last event of each topic with sockets is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from .feed import Feed
from .history import History
from .patterns import PatternFeed, Patterns
from .protocol.chain import Chain
from .protocol.exceptions import GatewayError
from .protocol.gateway_frames import Reset, encode_frame

logger = logging.getLogger(__name__)


class TopCheck:
    """Compares the feeds of a process with the stream.

    Args:
        interval: seconds between two checks.
        sweep: called before each.
        repair: called with a feed that misses something.
    """

    def __init__(
        self,
        history: History,
        patterns: Patterns,
        feeds: Mapping[str, Feed],
        *,
        interval: float,
        sweep: Callable[[], None],
        repair: Callable[[Feed], None],
    ) -> None:
        self._history = history
        self._patterns = patterns
        self._feeds = feeds
        self._interval = interval
        self._sweep = sweep
        self._repair = repair
        self._epoch = ""
        self._checked = -1
        self._before = 0
        self._now = asyncio.Event()

    def note_epoch(self) -> None:
        """Take the stream as it is known now for the one that sockets were told of."""
        self._epoch = self._epoch or self._history.epoch

    def soon(self) -> None:
        """Check everything at once: messages may have been lost."""
        self._checked = -1
        self._now.set()

    def again(self) -> None:
        """Let the next check compare every topic, whether or not the stream moved."""
        self._checked = -1

    async def forever(self) -> None:
        """Check from time to time; never raises."""
        while True:
            try:
                async with asyncio.timeout(self._interval):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()
            try:
                await self._check()
            except GatewayError as exc:
                logger.debug("cannot check tops reason=%s", exc)
            except Exception:
                logger.exception("top check failed")

    async def _check(self) -> None:
        self._sweep()
        served = [feed for feed in self._feeds.values() if feed.durable and feed.opened is None]
        # From before the question: what arrives with its answer is no news of an older stream.
        lasts = [feed.chain.last for feed in served]
        info = await self._history.info()
        if self._epoch != info.created:
            if self._epoch:
                self._reset(served)
            self._epoch, self._before = info.created, 0
        elif restored := [
            feed for feed, last in zip(served, lasts, strict=True) if last > info.state.last
        ]:
            # The same stream, from an older copy of its files: its sequences come again.
            self._reset(restored)
            self._before = 0
        elif self._checked == info.state.last:
            return
        await self._compare(served)
        self._checked = self._before = info.state.last
        for feed in served:
            if feed.chain.hole is not None:
                self._repair(feed)

    async def _compare(self, served: Sequence[Feed]) -> None:
        topics = [feed for feed in served if not isinstance(feed, PatternFeed)]
        tops = await self._history.tops([feed.topic for feed in topics])
        for feed in topics:
            feed.chain.expect(tops.get(feed.topic, 0))
        patterns = [feed for feed in served if isinstance(feed, PatternFeed)]
        await self._patterns.check(patterns, self._before)

    def _reset(self, feeds: Sequence[Feed]) -> None:
        logger.warning("the stream was recreated epoch=%s", self._history.epoch)
        for feed in feeds:
            feed.flush()
            feed.clear()
            feed.chain = Chain(0)
            feed.flushed = 0
            feed.tell(
                encode_frame(Reset(topic=feed.topic, epoch=self._history.epoch)), feed.deliveries
            )
            for delivery in feed.deliveries:
                delivery.reset()
