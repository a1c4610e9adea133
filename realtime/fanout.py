"""The fan-out, heart of the gateway: topic to the sockets of this process.

A process joins the channel-layer group of a topic once, when its first socket subscribes.
Inside, a feed holds the topic's chain, a ring of recent events and the set of sockets that
are live. An event arrives encoded; here it is framed once and written to each of them, and
events of one loop turn are joined into one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from .bridge import Bridge, event_of, is_durable
from .delivery import Delivery
from .history import History, Page
from .protocol.chain import Chain, Hole
from .protocol.exceptions import GatewayError, Unavailable
from .protocol.frames import Gap, Reset, encode_frame
from .protocol.messages import Event
from .protocol.subjects import group_for
from .protocol.websocket import frame_texts

logger = logging.getLogger(__name__)

REPAIR_TRIES = 5
"""Reads of a hole before it is given up: a replica may lag behind what was just stored."""
RING_BYTES = 256 * 1024
"""Text kept in the ring of one topic."""
RING_TOTAL_BYTES = 64 * 1024**2
"""Text kept in all rings together; beyond it each topic keeps just its last event."""
FLUSH_BYTES = 512 * 1024
"""Text written to every socket at once; more (a repaired hole) goes at each socket's own pace."""
MAX_IDLE = 1000
"""Topics without sockets that linger; beyond it the one idle for longest goes."""
MAX_EARLY = 1024
"""Events kept while a topic is being joined; the stream has the rest."""


class FanoutOptions(Struct, frozen=True):
    """Durations in seconds."""

    durable_topics: tuple[str, ...]
    hold: float
    check_interval: float
    linger: float
    ring_events: int


class Counters(Struct):
    """What the fan-out did since it started."""

    events: int = 0
    deliveries: int = 0
    repeats: int = 0
    holes: int = 0
    gaps: int = 0


class Feed:
    """One topic in this process.

    A feed whose topic is not stored (`durable` false) has no chain to keep and no history.

    Attributes:
        live: sockets that are written every event as it comes.
        tracked: live deliveries whose events pass one by one.
        deliveries: all, also those that are still catching up.
        early: events that came before the feed knew the topic's top.
    """

    __slots__ = (
        "_flushing",
        "_pending",
        "_ring_bytes",
        "chain",
        "deliveries",
        "durable",
        "early",
        "fanout",
        "flushed",
        "holders",
        "idle_since",
        "live",
        "opened",
        "repair",
        "ring",
        "topic",
        "tracked",
    )

    def __init__(self, fanout: Fanout, topic: str, durable: bool) -> None:
        self.fanout = fanout
        self.topic = topic
        self.durable = durable
        self.chain = Chain(0)
        self.flushed = 0
        self.live: set[Any] = set()
        self.tracked: set[Delivery] = set()
        self.deliveries: set[Delivery] = set()
        self.early: list[Event] = []
        self.holders = 0
        self.idle_since = 0.0
        self.opened: asyncio.Task[None] | None = None
        self.repair: asyncio.Task[None] | None = None
        # A list: short, and empty for most topics, where a deque takes 760 bytes.
        self.ring: list[Event] = []
        self._ring_bytes = 0
        self._pending: list[Event] = []
        self._flushing = False

    def attach(self, delivery: Delivery) -> None:
        """Make a delivery live; it stands at the chain's last event."""
        # What still waits for this turn's flush was read by the delivery already.
        self.flush()
        if delivery.acknowledges or delivery.position > self.chain.last:
            self.tracked.add(delivery)
        else:
            self.live.add(delivery.socket)

    def detach(self, delivery: Delivery) -> None:
        """Take a delivery out of the live ones, if it is one."""
        if self.serves(delivery):
            self.flush()
        self.tracked.discard(delivery)
        self.live.discard(delivery.socket)

    def serves(self, delivery: Delivery) -> bool:
        """Say whether a delivery is live."""
        return delivery in self.tracked or delivery.socket in self.live

    def push(self, event: Event) -> None:
        """Deliver an event that the chain let through, at the end of this loop turn."""
        if self.durable:
            self._remember(event)
        self._pending.append(event)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what is pending to every live socket."""
        self._flushing = False
        events, self._pending = self._pending, []
        if not events:
            return
        before, self.flushed = self.flushed, events[-1].sequence
        if self.durable and sum(len(event.text) for event in events) > FLUSH_BYTES:
            for delivery in [item for item in self.deliveries if self.serves(item)]:
                delivery.fall_behind(before)
            return
        if self.live:
            texts = [event.text for event in events]
            frames = frame_texts(texts)
            for socket in self.live:
                socket.write(frames, texts)
        for delivery in tuple(self.tracked):
            delivery.take(events)
        counters = self.fanout.counters
        counters.events += len(events)
        counters.deliveries += len(events) * (len(self.live) + len(self.tracked))

    def tell(self, text: bytes, deliveries: Iterable[Delivery]) -> None:
        """Write a frame that is no event, after the events before it."""
        self.flush()
        for delivery in deliveries:
            delivery.socket.write_text(text)

    async def page(self, after: int, limit: int = 0) -> Page:
        """Return events after a position: from the ring if it reaches back so far.

        Raises:
            Unavailable: when the stream does not answer.
        """
        ring = self.ring
        if ring and ring[0].previous <= after:
            events = [event for event in ring if event.sequence > after]
            more = bool(limit) and len(events) > limit
            return Page(events[: limit or None], complete=True, more=more)
        # Not beyond the chain's last: what follows comes live.
        return await self.fanout.history.page(
            self.topic, after, upto=self.chain.last, **({"limit": limit} if limit else {})
        )

    def clear(self) -> None:
        """Forget recent events."""
        self.ring.clear()
        self.fanout.ring_bytes -= self._ring_bytes
        self._ring_bytes = 0

    def _remember(self, event: Event) -> None:
        ring, fanout = self.ring, self.fanout
        ring.append(event)
        change = len(event.text)
        while len(ring) > 1 and (
            len(ring) > fanout.options.ring_events
            or self._ring_bytes + change > RING_BYTES
            or fanout.ring_bytes + change > RING_TOTAL_BYTES
        ):
            change -= len(ring.pop(0).text)
        self._ring_bytes += change
        fanout.ring_bytes += change


class Fanout:
    """All topics of this process.

    Args:
        layer: any channel layer.
        bridge: the in-process bridge; None when bridges run elsewhere.
    """

    def __init__(
        self, layer: Any, history: History, bridge: Bridge | None, options: FanoutOptions
    ) -> None:
        self.history = history
        self.options = options
        self.counters = Counters()
        self.feeds: dict[str, Feed] = {}
        self._layer = layer
        self._bridge = bridge
        self._channel = ""
        self.ring_bytes = 0
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
            feed = Feed(self, topic, is_durable(topic, self.options.durable_topics))
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
        while True:
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
                self.counters.repeats += 1
            else:
                self._repair_soon(feed, self.options.hold)

    def _repair_soon(self, feed: Feed, wait: float) -> None:
        if feed.repair is None:
            feed.repair = self._spawn(self._repair(feed, wait))

    async def _repair(self, feed: Feed, wait: float) -> None:
        """Fetch the holes of a topic from the stream and deliver what was held behind them."""
        try:
            await asyncio.sleep(wait)
            while (hole := feed.chain.hole) is not None:
                self.counters.holes += 1
                chain = feed.chain
                page = await self._read(feed.topic, hole)
                if feed.chain is not chain:
                    # The stream was recreated meanwhile: what was read is of the old one.
                    continue
                for ready in feed.chain.fill(hole, page.events, complete=page.complete):
                    if isinstance(ready, Hole):
                        self._gap(feed, ready)
                    else:
                        feed.push(ready)
        except GatewayError as exc:
            # The next top check starts it again.
            self._checked = -1
            logger.warning("cannot repair topic=%s reason=%s", feed.topic, exc)
        except Exception:
            logger.exception("repair failed topic=%s", feed.topic)
        finally:
            feed.repair = None

    async def _read(self, topic: str, hole: Hole) -> Page:
        """Read all of a hole; a page that ends early is read again, for a lagging replica."""
        events: list[Event] = []
        after, complete = hole.after, True
        for attempt in range(REPAIR_TRIES):
            if attempt:
                await asyncio.sleep(self.options.hold * 2**attempt)
            more = True
            while more:
                page = await self.history.page(topic, after, upto=hole.upto)
                if not events:
                    complete = page.complete
                events.extend(page.events)
                after = page.events[-1].sequence if page.events else after
                more = page.more and bool(page.events)
            if after >= hole.upto:
                break
        return Page(events, complete, more=False)

    def _gap(self, feed: Feed, hole: Hole) -> None:
        self.counters.gaps += 1
        logger.warning("gap topic=%s after=%d upto=%d", feed.topic, hole.after, hole.upto)
        gap = Gap(topic=feed.topic, from_seq=hole.after + 1, to_seq=hole.upto)
        # Those that are catching up meet the gap by themselves.
        feed.flush()
        feed.flushed = hole.upto
        feed.tell(encode_frame(gap), [item for item in feed.deliveries if feed.serves(item)])
        feed.clear()

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
                self._repair_soon(feed, self.options.hold)

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
