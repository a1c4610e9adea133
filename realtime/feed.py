"""A feed: one topic in one process: its chain, its recent events, the sockets that are live.

An event arrives encoded; here it is framed once and written to each socket, and events that
follow each other without a pause are joined into one write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from . import tracing
from .delivery import Delivery
from .history import PAGE_EVENTS, History, Page
from .metrics import Metrics
from .protocol.chain import Chain
from .protocol.messages import Event
from .protocol.websocket import frame_texts

logger = logging.getLogger(__name__)

RING_BYTES = 256 * 1024
"""Text kept in the ring of one topic."""
RING_TOTAL_BYTES = 64 * 1024**2
"""Text kept in all rings together; beyond it each topic keeps just its last event."""
JOIN_TURNS = 4
"""Loop turns that may bring more before what waits is written."""
JOIN_BYTES = 128 * 1024
"""Text that is written without waiting for more."""
FLUSH_BYTES = 512 * 1024
"""Text written to every socket at once; more goes at each socket's own pace."""


class Shared:
    """What the feeds of a process share.

    Args:
        ring_events: recent events kept of each topic.

    Attributes:
        ring_bytes: text kept in all rings.
        arrived: bytes of text that came since the last flush.
    """

    def __init__(self, history: History, metrics: Metrics, ring_events: int) -> None:
        self.history = history
        self.metrics = metrics
        self.ring_events = ring_events
        self.ring_bytes = 0
        self.arrived = 0
        self._seen = 0
        self._turns = 0
        self._flushing: list[Feed] = []

    def flush_soon(self, feed: Feed) -> None:
        """Flush a feed once a loop turn brings nothing more, in one call for all of them.

        Where an event is handled, the next ones have often been read already: written on their
        own, the first of a burst would cost every socket a write.
        """
        if not self._flushing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._flushing.append(feed)

    def count(self, events: Sequence[Event], sockets: int) -> None:
        """Count a flush; nothing here is done for each socket."""
        metrics = self.metrics
        metrics.deliveries += len(events) * sockets
        metrics.events["relay" if events[0].sequence else "ephemeral"] += len(events)
        if sockets and events[0].sequence:
            now = time.time()
            for event in events:
                # Not below zero where NATS's clock is ahead: a sum that falls looks like a restart.
                metrics.latency.observe(max(now - event.timestamp / 1000, 0.0), sockets)
        if tracing.tracer is not None and sockets:
            tracing.delivered(events, sockets)

    def _flush(self) -> None:
        if self._seen < self.arrived < JOIN_BYTES and self._turns < JOIN_TURNS:
            self._seen = self.arrived
            self._turns += 1
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self.arrived = self._seen = self._turns = 0
        feeds, self._flushing = self._flushing, []
        for feed in feeds:
            try:
                feed.flush()
            except Exception:
                # The others still wait for theirs.
                logger.exception("flush failed topic=%s", feed.topic)


class Feed:
    """One topic in this process.

    A feed whose topic is not stored (`durable` false) has no chain to keep and no history.

    Args:
        shared: what the feeds of a process share.

    Attributes:
        announced: events come by reading the stream (patterns.py), and so without overtaking.
        live: sockets that are written every event as it comes.
        tracked: live deliveries whose events pass one by one.
        deliveries: all, also those that are still catching up.
        early: events that came before the feed knew the topic's top.
    """

    announced = False
    __slots__ = (
        "_flushing",
        "_pending",
        "_reading",
        "_ring_bytes",
        "chain",
        "deliveries",
        "durable",
        "early",
        "flushed",
        "holders",
        "idle_since",
        "live",
        "opened",
        "repair",
        "ring",
        "shared",
        "topic",
        "tracked",
    )

    def __init__(self, topic: str, durable: bool, shared: Shared) -> None:
        self.shared = shared
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
        self._reading: dict[tuple[int, int, int], asyncio.Task[Page]] = {}

    @property
    def metrics(self) -> Metrics:
        """What this process counts."""
        return self.shared.metrics

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
        """Deliver an event that the chain let through, with those that follow at once."""
        if self.durable:
            self._remember(event)
        self._pending.append(event)
        self.shared.arrived += len(event.text)
        if not self._flushing:
            self._flushing = True
            self.shared.flush_soon(self)

    def flush(self) -> None:
        """Write what is pending to every live socket."""
        self._flushing = False
        events, self._pending = self._pending, []
        if not events:
            return
        texts = [event.text for event in events]
        before, self.flushed = self.flushed, events[-1].sequence
        if self.durable and sum(map(len, texts)) > FLUSH_BYTES:
            for delivery in [item for item in self.deliveries if self.serves(item)]:
                delivery.fall_behind(before)
            return
        if self.live:
            frames = frame_texts(texts)
            for socket in self.live:
                socket.write(frames, texts)
        if self.tracked:
            for delivery in tuple(self.tracked):
                delivery.take(events)
        self.shared.count(events, len(self.live) + len(self.tracked))

    def ease(self) -> None:
        """Let sockets for which much waits go on at their own pace; after a `flush`."""
        for delivery in [it for it in self.deliveries if it.socket.congested and self.serves(it)]:
            delivery.fall_behind(self.flushed)

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
        # Not beyond the chain's last: what follows comes live. After a storm many sockets
        # ask for the same page, so they share one request.
        key = (after, self.chain.last, limit or PAGE_EVENTS)
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.get_running_loop().create_task(self.read(*key))
            self._reading[key] = reading
            reading.add_done_callback(partial(self._read_done, key))
        return await asyncio.shield(reading)

    async def read(self, after: int, upto: int, limit: int = PAGE_EVENTS) -> Page:
        """Return events after a sequence, up to another, from the stream.

        Raises:
            Unavailable: when the stream does not answer.
        """
        return await self.shared.history.page(self.topic, after, upto=upto, limit=limit)

    def clear(self) -> None:
        """Forget recent events, and what is being read."""
        self._reading.clear()
        self.ring.clear()
        self.shared.ring_bytes -= self._ring_bytes
        self._ring_bytes = 0

    def _read_done(self, key: tuple[int, int, int], reading: asyncio.Task[Page]) -> None:
        if self._reading.get(key) is reading:
            del self._reading[key]
        if not reading.cancelled():
            # Whoever asked may be gone by now; then nobody is there to hear of it.
            reading.exception()

    def _remember(self, event: Event) -> None:
        ring, shared = self.ring, self.shared
        ring.append(event)
        change = len(event.text)
        while len(ring) > 1 and (
            len(ring) > shared.ring_events
            or self._ring_bytes + change > RING_BYTES
            or shared.ring_bytes + change > RING_TOTAL_BYTES
        ):
            change -= len(ring.pop(0).text)
        self._ring_bytes += change
        shared.ring_bytes += change
