"""The fan-out, heart of the gateway: topic to the sockets of this process.

A process joins the channel-layer group of a topic once, when its first socket subscribes.
Inside, a feed (feed.py) holds the topic's chain, a ring of recent events and the set of
sockets that are live.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from msgspec import Struct

from .bridge import Bridge, event_of, is_durable
from .feed import Feed, Shared
from .history import History
from .metrics import Metrics
from .patterns import PatternFeed, Patterns
from .protocol.chain import Chain
from .protocol.exceptions import GatewayError, Unavailable
from .protocol.messages import Event
from .protocol.subjects import group_for, is_pattern
from .repair import Repair
from .tops import TopCheck

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
        patterns: hears for patterns.
    """

    def __init__(
        self,
        layer: Any,
        history: History,
        bridge: Bridge | None,
        options: FanoutOptions,
        metrics: Metrics,
        *,
        patterns: Patterns,
    ) -> None:
        self.history = history
        self.options = options
        self.metrics = metrics
        self.feeds: dict[str, Feed] = {}
        self._check = TopCheck(
            history,
            patterns,
            self.feeds,
            interval=options.check_interval,
            sweep=self._sweep,
            repair=self._repair_soon,
        )
        self._shared = Shared(history, metrics, options.ring_events)
        self._repair = Repair(metrics, hold=options.hold, failed=self._check.again)
        self._layer = layer
        self._bridge = bridge
        self._patterns = patterns
        self._channel = ""
        self._idle: dict[str, Feed] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def epoch(self) -> str:
        """The stream's creation time."""
        return self.history.epoch

    @property
    def ring_bytes(self) -> int:
        """Bytes of text kept of recent events."""
        return self._shared.ring_bytes

    def durable(self, topic: str) -> bool:
        """Say whether the stream stores a topic, or all that match a pattern.

        Raises:
            BadTopic: it stores a part of what matches.
        """
        if is_pattern(topic):
            return self._patterns.durable(topic)
        return is_durable(topic, self.options.durable_topics)

    async def start(self) -> None:
        """Listen on this process's one channel and check the tops from time to time."""
        self._channel = await self._layer.new_channel()
        self._check.note_epoch()
        if (listen := getattr(self._layer, "listen", None)) is not None:
            listen(self._channel, self._hear)
        else:
            self._spawn(self._receive())
        self._spawn(self._check.forever())

    async def stop(self) -> None:
        """End the background tasks."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self, topic: str) -> Feed:
        """Return the feed of a topic or pattern, positioned at its top; pair with `leave`.

        Raises:
            BadTopic: a pattern that the stream stores in part.
            TooManySubscriptions: this process hears for as many patterns as it can.
            Unavailable: when NATS or the channel layer is out of reach.
        """
        feed = self.feeds.get(topic)
        if feed is None:
            kind = PatternFeed if is_pattern(topic) else Feed
            feed = kind(topic, self.durable(topic), self._shared)
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
        """Let go of a feed; it lingers a while, for whoever comes back soon.

        A pattern does not: every event that matches it would be read for nobody.
        """
        feed.holders -= 1
        if feed.holders or self.feeds.get(feed.topic) is not feed:
            return
        if isinstance(feed, PatternFeed):
            self._forget(feed)
        else:
            feed.idle_since = asyncio.get_running_loop().time()
            self._idle[feed.topic] = feed
            if len(self._idle) > MAX_IDLE:
                self._forget(next(iter(self._idle.values())))

    def check_soon(self) -> None:
        """Check all tops at once: messages may have been lost."""
        self._check.soon()

    async def _open(self, feed: Feed) -> None:
        try:
            self._check.note_epoch()
            if (leaving := self._leaving.get(feed.topic)) is not None:
                await asyncio.wait([leaving])
            if isinstance(feed, PatternFeed):
                await self._patterns.follow(feed, partial(self._announced, feed))
            else:
                await self._enter(feed)
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
            if isinstance(feed, PatternFeed):
                self._announced(feed)

    async def _enter(self, feed: Feed) -> None:
        await self._layer.group_add(group_for(feed.topic), self._channel)
        if self._bridge is not None:
            await self._bridge.follow(feed.topic)
        if feed.durable:
            feed.chain = Chain(await self.history.top(feed.topic))
            feed.flushed = feed.chain.last
            for event in feed.early:
                self._deliver(feed, event)
            feed.early.clear()

    def _announced(self, feed: PatternFeed) -> None:
        served = feed.opened is None and self.feeds.get(feed.topic) is feed
        if served and feed.chain.hole is not None:
            self._repair_soon(feed)

    def _forget(self, feed: Feed) -> None:
        self.feeds.pop(feed.topic, None)
        self._idle.pop(feed.topic, None)
        feed.clear()
        self._leaving[feed.topic] = self._spawn(self._abandon(feed))

    async def _abandon(self, feed: Feed) -> None:
        if feed.repair is not None:
            feed.repair.cancel()
        try:
            if isinstance(feed, PatternFeed):
                await self._patterns.unfollow(feed)
                return
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
            taken += len(event.text)
            self._take(event)

    def _hear(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        # Groups have plain names: another consumer of the project may send to one.
        if isinstance(event, Event):
            self._take(event)

    def _take(self, event: Event) -> None:
        feed = self.feeds.get(event.topic)
        if feed is None:
            return
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

    def _sweep(self) -> None:
        """Leave topics that have been without sockets for too long."""
        now = asyncio.get_running_loop().time()
        for feed in list(self.feeds.values()):
            idle = not feed.holders and feed.opened is None
            if idle and now - feed.idle_since > self.options.linger:
                self._forget(feed)

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
