"""The fan-out, heart of the gateway: topic to the sockets of this process.

A process joins the channel-layer group of a topic once, when its first socket subscribes.
Inside, a feed (feed.py) holds the topic's chain, a ring of recent events and the set of
sockets that are live.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from msgspec import Struct

from .bridge import Bridge, event_of, is_durable
from .feed import Feed, Shared
from .history import History
from .metrics import Metrics
from .protocol.chain import Chain
from .protocol.exceptions import GatewayError, Unavailable
from .protocol.frames import Reset, encode_frame
from .protocol.messages import Event
from .protocol.subjects import group_for
from .repair import Repair

logger = logging.getLogger(__name__)

MAX_IDLE = 1000
"""Topics without sockets that linger; beyond it the one idle for longest goes."""
MAX_EARLY = 1024
"""Events kept while a topic is being joined; the stream has the rest."""
TURN_BYTES = 128 * 1024
"""Text taken from the channel layer in one turn of the loop, about."""


class FanoutOptions(Struct, frozen=True):
    """Durations in seconds."""

    durable_topics: tuple[str, ...]
    hold: float
    check_interval: float
    linger: float
    ring_events: int


class Fanout:
    """All topics of this process.

    Args:
        layer: any channel layer.
        bridge: the in-process bridge; None when bridges run elsewhere.
    """

    def __init__(
        self,
        layer: Any,
        history: History,
        bridge: Bridge | None,
        options: FanoutOptions,
        metrics: Metrics,
    ) -> None:
        self.history = history
        self.options = options
        self.metrics = metrics
        self.feeds: dict[str, Feed] = {}
        self._shared = Shared(history, metrics, options.ring_events)
        self._repair = Repair(history, metrics, hold=options.hold, failed=self._check_again)
        self._layer = layer
        self._bridge = bridge
        self._channel = ""
        self._epoch = ""
        self._checked = -1
        self._idle: dict[str, Feed] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._check_now = asyncio.Event()

    @property
    def epoch(self) -> str:
        """The stream's creation time."""
        return self.history.epoch

    @property
    def ring_bytes(self) -> int:
        """Bytes of text kept of recent events."""
        return self._shared.ring_bytes

    def durable(self, topic: str) -> bool:
        """Say whether the stream stores a topic."""
        return is_durable(topic, self.options.durable_topics)

    async def start(self) -> None:
        """Listen on this process's one channel and check the tops from time to time."""
        self._channel = await self._layer.new_channel()
        self._epoch = self.history.epoch
        self._spawn(self._receive())
        self._spawn(self._check_forever())

    async def stop(self) -> None:
        """End the background tasks."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self, topic: str) -> Feed:
        """Return the feed of a topic, joined and positioned at its top; pair with `leave`.

        Raises:
            Unavailable: when NATS or the channel layer is out of reach.
        """
        feed = self.feeds.get(topic)
        if feed is None:
            feed = Feed(topic, self.durable(topic), self._shared)
            self.feeds[topic] = feed
            feed.opened = self._spawn(self._open(feed))
        feed.holders += 1
        self._idle.pop(topic, None)
        if feed.opened is not None:
            try:
                await asyncio.shield(feed.opened)
            except BaseException as exc:
                feed.holders -= 1
                if isinstance(exc, GatewayError):
                    raise type(exc)(exc.message, topic=topic) from exc
                raise
        return feed

    def leave(self, feed: Feed) -> None:
        """Let go of a feed; it lingers a while, for whoever comes back soon."""
        feed.holders -= 1
        if not feed.holders and self.feeds.get(feed.topic) is feed:
            feed.idle_since = asyncio.get_running_loop().time()
            self._idle[feed.topic] = feed
            if len(self._idle) > MAX_IDLE:
                self._forget(next(iter(self._idle.values())))

    def check_soon(self) -> None:
        """Check all tops at once: messages may have been lost."""
        self._checked = -1
        self._check_now.set()

    async def _open(self, feed: Feed) -> None:
        try:
            self._epoch = self._epoch or self.history.epoch
            if (leaving := self._leaving.get(feed.topic)) is not None:
                await asyncio.wait([leaving])
            await self._layer.group_add(group_for(feed.topic), self._channel)
            if self._bridge is not None:
                await self._bridge.follow(feed.topic)
            if feed.durable:
                feed.chain = Chain(await self.history.top(feed.topic))
                feed.flushed = feed.chain.last
                for event in feed.early:
                    self._deliver(feed, event)
                feed.early.clear()
        except GatewayError:
            self._forget(feed)
            raise
        except Exception as exc:
            # A layer may raise anything: it is the team's choice.
            self._forget(feed)
            logger.warning("cannot join topic=%s reason=%r", feed.topic, exc)
            raise Unavailable("The topic cannot be joined right now; try again.") from exc
        finally:
            feed.opened = None

    def _forget(self, feed: Feed) -> None:
        self.feeds.pop(feed.topic, None)
        self._idle.pop(feed.topic, None)
        feed.clear()
        self._leaving[feed.topic] = self._spawn(self._abandon(feed))

    async def _abandon(self, feed: Feed) -> None:
        if feed.repair is not None:
            feed.repair.cancel()
        try:
            if self._bridge is not None:
                await self._bridge.unfollow(feed.topic)
            await self._layer.group_discard(group_for(feed.topic), self._channel)
        except Exception as exc:
            logger.warning("cannot leave topic=%s reason=%r", feed.topic, exc)
        finally:
            del self._leaving[feed.topic]

    async def _receive(self) -> None:
        taken = 0
        while True:
            if taken > TURN_BYTES:
                # A queue that is full hands over without a pause; sockets need one to drain.
                taken = 0
                await asyncio.sleep(0)
            try:
                message = await self._layer.receive(self._channel)
                event = event_of(message)
            except Exception as exc:
                logger.warning("channel layer failed reason=%r", exc)
                self.check_soon()
                await asyncio.sleep(0.25)
                continue
            feed = self.feeds.get(event.topic)
            if feed is not None:
                taken += len(event.text)
                self._take(feed, event)

    def _take(self, feed: Feed, event: Event) -> None:
        if not feed.durable:
            feed.push(event)
            return
        if feed.opened is not None:
            if len(feed.early) < MAX_EARLY:
                feed.early.append(event)
            return
        self._deliver(feed, event)

    def _deliver(self, feed: Feed, event: Event) -> None:
        deliverable = feed.chain.receive(event)
        for ready in deliverable:
            feed.push(ready)
        if not deliverable:
            if feed.chain.hole is None:
                self.metrics.repeats += 1
            else:
                self._repair_soon(feed)

    def _repair_soon(self, feed: Feed) -> None:
        if feed.repair is None:
            feed.repair = self._spawn(self._repair.run(feed))

    def _check_again(self) -> None:
        """Let the next top check compare every topic, whether or not the stream moved."""
        self._checked = -1

    async def _check_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.options.check_interval):
                    await self._check_now.wait()
            except TimeoutError:
                pass
            self._check_now.clear()
            try:
                await self._check()
            except GatewayError as exc:
                logger.debug("cannot check tops reason=%s", exc)
            except Exception:
                logger.exception("top check failed")

    async def _check(self) -> None:
        """Compare every feed with the stream: a lost last event, a new stream, idle feeds."""
        now = asyncio.get_running_loop().time()
        for feed in list(self.feeds.values()):
            idle = not feed.holders and feed.opened is None
            if idle and now - feed.idle_since > self.options.linger:
                self._forget(feed)
        served = [feed for feed in self.feeds.values() if feed.durable and feed.opened is None]
        # From before the question: what arrives with its answer is no news of an older stream.
        lasts = [feed.chain.last for feed in served]
        info = await self.history.info()
        if self._epoch != info.created:
            if self._epoch:
                self._reset(served)
            self._epoch = info.created
        elif restored := [
            feed for feed, last in zip(served, lasts, strict=True) if last > info.state.last
        ]:
            # The same stream, from an older copy of its files: its sequences come again.
            self._reset(restored)
        elif self._checked == info.state.last:
            return
        tops = await self.history.tops([feed.topic for feed in served])
        self._checked = info.state.last
        for feed in served:
            feed.chain.expect(tops.get(feed.topic, 0))
            if feed.chain.hole is not None:
                self._repair_soon(feed)

    def _reset(self, feeds: list[Feed]) -> None:
        logger.warning("the stream was recreated epoch=%s", self.history.epoch)
        for feed in feeds:
            feed.flush()
            feed.clear()
            feed.chain = Chain(0)
            feed.flushed = 0
            feed.tell(
                encode_frame(Reset(topic=feed.topic, epoch=self.history.epoch)), feed.deliveries
            )
            for delivery in feed.deliveries:
                delivery.reset()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever waited for it heard of it; perhaps nobody waits any more.
            task.exception()
