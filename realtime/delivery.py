"""Delivery: one socket's subscription to one topic: catching up, live, and acknowledged.

A subscription is a cursor over its topic. While it is behind, it reads pages from the ring or
the stream and writes them at the socket's own pace; once it stands at the topic's last event
it goes live, in the same turn of the loop, so that nothing is lost or repeated at the seam.
With QoS 1 it also remembers what is not acknowledged and steps out of the live set when too
much is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from .protocol.exceptions import CloseCode, GatewayError
from .protocol.gateway_frames import Gap, encode_frame, error_for
from .protocol.messages import Event, redelivered
from .protocol.websocket import frame_texts

if TYPE_CHECKING:
    from .feed import Feed

logger = logging.getLogger(__name__)

MAX_WAIT = 2.0
"""Longest pause between two tries to read history, in seconds."""
EMPTY_TRIES = 5
"""Times that an event known to exist is looked for before it counts as gone."""


class Socket(Protocol):
    """What a subscription writes to. Nothing here blocks or raises.

    Attributes:
        ending: close code and reason, once this side ends it.
    """

    ending: tuple[int, str] | None

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        """Write JSON texts, given framed as well; the list is never changed afterwards."""

    def write_text(self, text: bytes) -> None:
        """Write one JSON text."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""

    @property
    def congested(self) -> bool:
        """Say whether much waits to be written."""

    async def drained(self) -> bool:
        """Return when little waits to be written; False when the socket is gone."""


class AckPolicy(Struct, frozen=True):
    """QoS 1: seconds until a repeat, how many tries, how many events in flight."""

    wait: float
    tries: int
    in_flight: int


class Unacked(Struct):
    """An event that waits for its acknowledgement; `due` in loop time."""

    event: Event
    due: float
    tries: int = 1


class Delivery:
    """One socket's cursor over one topic.

    Args:
        position: the last sequence that the client has.
        ack: None for QoS 0.
    """

    __slots__ = (
        "_ack",
        "_paused",
        "_task",
        "_timer",
        "_unacked",
        "durable",
        "feed",
        "on_ack",
        "position",
        "socket",
    )

    def __init__(
        self, feed: Feed, socket: Socket, position: int, *, ack: AckPolicy | None = None
    ) -> None:
        self.feed = feed
        self.socket = socket
        self.position = position
        self.durable: str | None = None
        self.on_ack: Callable[[int], None] | None = None
        self._ack = ack
        self._paused = False
        self._unacked: dict[int, Unacked] = {}
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, pages: Sequence[Event] = ()) -> None:
        """Write what was read already, then the rest of the history, then go live."""
        self.feed.deliveries.add(self)
        if not self.socket.congested:
            # Else other topics that were resumed with this one have filled it: it reads them later.
            self._write(pages[: self._room()])
        if self.position >= self.feed.chain.last:
            self.feed.attach(self)
        else:
            self._catch_up()

    def stop(self) -> None:
        """Write nothing more."""
        self.feed.detach(self)
        self.feed.deliveries.discard(self)
        if self._task is not None:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause(self) -> None:
        """Write nothing more until `go_on`: the client may have lost the right to it."""
        self.feed.flush()
        if self.feed.serves(self) and self._ack is None:
            # Live sockets are written to past their delivery, so only here it learns its place.
            self.position = max(self.position, self.feed.chain.last)
        self._paused = True
        self.feed.detach(self)
        if self._task is not None:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def go_on(self) -> None:
        """Write what came meanwhile, then go live."""
        self._paused = False
        self.start()
        self._arm()

    def reset(self) -> None:
        """Start anew at nothing: the stream was recreated."""
        self.position = 0
        self._unacked.clear()
        if self._catching_up:
            # A page of the old stream may be on its way.
            self._restart()

    def take(self, events: Sequence[Event]) -> None:
        """Write live events one by one: QoS 1, or a client that is ahead of the topic."""
        self._write([event for event in events if event.sequence > self.position][: self._room()])
        if self.position < events[-1].sequence:
            # Acknowledgements make room again; then it catches up from its position.
            self.feed.detach(self)

    @property
    def acknowledges(self) -> bool:
        """Say whether events wait for an acknowledgement."""
        return self._ack is not None

    def rewind(self, position: int) -> None:
        """Send again what follows a position (`replay`)."""
        self.feed.detach(self)
        known = self._ack is not None or self._paused
        last = self.position if known else self.feed.chain.last
        self.position = min(position, last)
        self._restart()

    def fall_behind(self, position: int) -> None:
        """Catch up from a position at the socket's own pace: too much came at once."""
        self.feed.detach(self)
        self.position = max(self.position, position)
        self._restart()

    def acknowledge(self, sequence: int, *, upto: bool) -> bool:
        """Take an acknowledgement; say whether something waited for it."""
        if upto:
            known = [key for key in self._unacked if key <= sequence]
        else:
            known = [sequence] if sequence in self._unacked else []
        for key in known:
            del self._unacked[key]
        if known:
            if self.on_ack is not None:
                self.on_ack(min(self._unacked, default=self.position + 1) - 1)
            if not self.feed.serves(self) and not self._catching_up and not self._paused:
                self.start()
        return bool(known)

    def sequence_of(self, message_id: str) -> int | None:
        """Return the sequence of an unacknowledged event by its `messageId`."""
        for sequence, unacked in self._unacked.items():
            if unacked.event.message_id == message_id:
                return sequence
        return None

    @property
    def _catching_up(self) -> bool:
        return self._task is not None and not self._task.done()

    def _room(self) -> int | None:
        """Return how many more events may be in flight; None: any number."""
        return None if self._ack is None else max(self._ack.in_flight - len(self._unacked), 0)

    def _restart(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._catch_up()

    def _catch_up(self) -> None:
        if self._paused:
            return
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        """Read pages until the topic's last event, or until too much is unacknowledged."""
        attempt = 0
        while await self.socket.drained():
            if self.position >= self.feed.chain.last:
                self.feed.attach(self)
                return
            if self._room() == 0:
                return
            try:
                attempt = 0 if await self._next_page(attempt) else attempt + 1
            except GatewayError as exc:
                if not attempt:
                    error = type(exc)(exc.message, topic=self.feed.topic)
                    self.socket.write_text(encode_frame(error_for(error, None)))
                attempt += 1
            except Exception:
                logger.exception("catching up failed topic=%s", self.feed.topic)
                self.socket.close(CloseCode.GOING_AWAY, "internal error")
                return
            if attempt:
                await asyncio.sleep(min(0.05 * 2**attempt, MAX_WAIT))

    async def _next_page(self, attempt: int) -> bool:
        """Read and write one page; say whether it moved the cursor."""
        before, last = self.position, self.feed.chain.last
        page = await self.feed.page(before, self._room() or 0)
        if not page.complete:
            self._gap(before, page.events[0].sequence - 1 if page.events else last)
        elif not page.events and attempt >= EMPTY_TRIES:
            # Not a replica that lags: the event is gone.
            self._gap(before, last)
        # Again: other subscriptions of this socket read their pages meanwhile.
        if await self.socket.drained():
            self._write(page.events)
        return self.position > before

    def _gap(self, after: int, upto: int) -> None:
        if upto <= after:
            return
        gap = Gap(topic=self.feed.topic, from_seq=after + 1, to_seq=upto)
        self.socket.write_text(encode_frame(gap))
        self.position = max(self.position, upto)

    def _write(self, events: Sequence[Event]) -> None:
        if not events:
            return
        texts = [event.text for event in events]
        self.socket.write(frame_texts(texts), texts)
        self.position = max(self.position, events[-1].sequence)
        if self._ack is not None:
            due = asyncio.get_running_loop().time() + self._ack.wait
            for event in events:
                self._unacked[event.sequence] = Unacked(event, due)
            self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._unacked:
            due = min(unacked.due for unacked in self._unacked.values())
            self._timer = asyncio.get_running_loop().call_at(due, self._redeliver)

    def _redeliver(self) -> None:
        self._timer = None
        if self._ack is None:
            return
        now = asyncio.get_running_loop().time()
        for unacked in self._unacked.values():
            if unacked.due > now:
                continue
            if unacked.tries >= self._ack.tries:
                self.socket.close(CloseCode.ACK_LOST, "an event was never acknowledged")
                return
            unacked.tries += 1
            unacked.due = now + self._ack.wait
            self.feed.metrics.redelivered += 1
            self.socket.write_text(redelivered(unacked.event))
        self._arm()
