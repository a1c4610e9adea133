"""What these tests stand on: events, a stream in memory, sockets that remember."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any, cast

from realtime.broker import Broker
from realtime.delivery import AckPolicy, Delivery
from realtime.fanout import Fanout, FanoutOptions
from realtime.feed import Feed
from realtime.history import History, Page
from realtime.holders import Holders
from realtime.layers import InProcessChannelLayer
from realtime.metrics import Metrics
from realtime.nats_client import Message
from realtime.patterns import Patterns
from realtime.presence import Presence
from realtime.protocol.exceptions import Unavailable
from realtime.protocol.jetstream import Stored, StreamInfo, StreamState
from realtime.protocol.messages import LAST_SEQUENCE, SEQUENCE, TIME_STAMP, Event, event_from
from realtime.protocol.subjects import Subjects, group_for
from realtime.rosters import Rosters
from tests.support.strict import strict_json
from tests.support.waiting import DEADLINE

TOPIC = "room.test"
DURABLE = ("user.>", "room.>")
OPEN = ("user", "room", "live")
TIME = "2026-01-02T03:04:05.678Z"


def event(
    sequence: int, previous: int, topic: str = TOPIC, *, message_id: str | None = None
) -> Event:
    """Return an event whose data is its sequence."""
    headers = {SEQUENCE: str(sequence), LAST_SEQUENCE: str(previous), TIME_STAMP: TIME}
    if message_id is not None:
        headers["Nats-Msg-Id"] = message_id
    return event_from(topic, str(sequence).encode(), headers)


def chained(sequences: Sequence[int], topic: str = TOPIC) -> list[Event]:
    """Return events with these sequences, each naming the one before it."""
    return [event(one, before, topic) for before, one in zip((0, *sequences), sequences)]  # noqa: B905


def config(**changes: Any) -> dict[str, Any]:
    """Return the configuration of a stream as JetStream takes it."""
    return {
        "name": "TEST",
        "subjects": list(DURABLE),
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs_per_subject": 2_000,
        "duplicate_window": 60 * 10**9,
        "allow_direct": True,
        "republish": {"src": ">", "dest": "gateway.relay.>"},
        **changes,
    }


async def store(broker: Broker, topic: str, count: int = 1) -> list[Stored]:
    """Store so many events, each with its number as data, and return what the stream said."""
    return [
        await broker.store(topic, str(number).encode(), headers=None, timeout=DEADLINE)
        for number in range(count)
    ]


async def settled(*brokers: Broker) -> None:
    """Return when the server has all that these brokers sent, subscriptions above all.

    A message to itself is behind everything that was sent before.
    """
    for broker in brokers:
        back = asyncio.Event()

        async def come_back(message: Message, back: asyncio.Event = back) -> None:
            back.set()

        fence = f"fence.{uuid.uuid4().hex}"
        subscription = await broker.subscribe(fence, come_back)
        await broker.publish(fence, b"")
        await asyncio.wait_for(back.wait(), DEADLINE)
        await broker.unsubscribe(subscription)


async def stream_api(broker: Broker, verb: str, stream: str, body: Any = None) -> Any:
    """Ask the JetStream API about a stream, as an administrator's tool does."""
    data = b"" if body is None else json.dumps(body).encode()
    reply = await broker.request(f"$JS.API.STREAM.{verb}.{stream}", data, timeout=DEADLINE)
    answer = json.loads(reply.data)
    assert "error" not in answer, answer
    return answer


class FakeSocket:
    """A delivery's socket that remembers what was written to it."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.wire = b""
        self.writes = 0
        self.closed: tuple[int, str] | None = None
        self.ending: tuple[int, str] | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        self.writes += 1
        self.wire += frames
        self.frames += [strict_json(text.decode()) for text in texts]

    def write_text(self, text: bytes) -> None:
        self.write(b"", (text,))

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = self.ending = (code, reason)
        self.writable.set()

    @property
    def congested(self) -> bool:
        return not self.writable.is_set()

    async def drained(self) -> bool:
        await self.writable.wait()
        return self.closed is None

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the frames of one type."""
        return [frame for frame in self.frames if frame["type"] == kind]

    @property
    def sequences(self) -> list[int]:
        """The sequences of the messages, repeats marked as such left out."""
        return [one["seqNo"] for one in self.of("message") if not one.get("redelivered")]

    @property
    def repeats(self) -> list[int]:
        """The sequences of the messages that were marked as repeats."""
        return [one["seqNo"] for one in self.of("message") if one.get("redelivered")]


class MemoryHistory:
    """A stream in memory that answers as `History` does, or fails, or takes its time.

    Attributes:
        asked: what was asked for: "top", "tops", "page", "info".
        failing: names of what raises Unavailable.
        failed: what did.
        gates: events that a question waits for, by name.
    """

    def __init__(self) -> None:
        self.epoch = "2026-01-01T00:00:00Z"
        self.first = 1
        self.last = 0
        self.topics: dict[str, list[Event]] = {}
        self.asked: list[str] = []
        self.failing: set[str] = set()
        self.failed: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def store(self, topic: str = TOPIC, count: int = 1) -> list[Event]:
        """Store events and return them, as the stream would republish them."""
        held = self.topics.setdefault(topic, [])
        made = []
        for _ in range(count):
            self.last += 1
            previous = held[-1].sequence if held else 0
            held.append(event(self.last, previous, topic))
            made.append(held[-1])
        return made

    def discard(self, upto: int) -> None:
        """Discard the events up to a sequence, as a stream does that is full."""
        self.first = max(self.first, upto + 1)
        for held in self.topics.values():
            held[:] = [one for one in held if one.sequence > upto]

    def recreate(self, epoch: str) -> None:
        """Delete the stream and make it anew."""
        self.epoch, self.first, self.last = epoch, 1, 0
        self.topics.clear()

    async def top(self, topic: str) -> int:
        found = self._top(topic)
        await self._answer("top")
        return found

    async def tops(self, topics: Sequence[str]) -> dict[str, int]:
        found = {topic: self._top(topic) for topic in topics if self._top(topic)}
        await self._answer("tops")
        return found

    async def page(
        self, topic: str, after: int, *, limit: int = 256, upto: int | None = None
    ) -> Page:
        wanted = [one for one in self.topics.get(topic, []) if one.sequence > after]
        more = len(wanted) > limit
        events = [one for one in wanted[:limit] if upto is None or one.sequence <= upto]
        page = Page(events, complete=after + 1 >= self.first, more=more and len(events) == limit)
        await self._answer("page")
        return page

    async def info(self) -> StreamInfo:
        info = StreamInfo({}, self.epoch, StreamState(self.first, self.last))
        await self._answer("info")
        return info

    def _top(self, topic: str) -> int:
        held = self.topics.get(topic)
        return held[-1].sequence if held else 0

    async def _answer(self, name: str) -> None:
        self.asked.append(name)
        if name in self.failing:
            self.failed.append(name)
            raise Unavailable("The stream does not answer; try again.")
        if (gate := self.gates.get(name)) is not None:
            await gate.wait()


class CountingLayer(InProcessChannelLayer):
    """The in-process layer, which counts groups joined and left, and drops what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[str] = []
        self.discarded: list[str] = []
        self.discarding: asyncio.Event | None = None
        self.loses: Callable[[Event], bool] = lambda event: False
        self.lost: list[int] = []

    async def group_add(self, group: str, channel: str) -> None:
        self.added.append(group)
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.discarded.append(group)
        if self.discarding is not None:
            await self.discarding.wait()
        await super().group_discard(group, channel)

    async def group_send(self, group: str, message: Any) -> None:
        event = message["event"]
        if isinstance(event, Event) and self.loses(event):
            self.lost.append(event.sequence)
            return
        await super().group_send(group, message)


class QueueingLayer(CountingLayer):
    """The same, but messages wait in a queue, as with Redis."""

    listen = None  # type: ignore[assignment]


class World:
    """A fan-out over a stream in memory."""

    def __init__(self, layer: type[CountingLayer] = CountingLayer, **options: Any) -> None:
        self.layer = layer()
        self.history = MemoryHistory()
        self.fanout = fanout_over(self.layer, self.history, **options)

    async def relay(self, *events: Event) -> None:
        """Send events into their groups, as a bridge does."""
        for one in events:
            await self.layer.group_send(
                group_for(one.topic), {"type": "gateway.event", "event": one}
            )

    async def publish(self, count: int = 1, topic: str = TOPIC) -> list[Event]:
        """Store events and relay them."""
        events = self.history.store(topic, count)
        await self.relay(*events)
        return events

    async def join(
        self, socket: FakeSocket, position: int | None = None, *, ack: AckPolicy | None = None
    ) -> Delivery:
        """Subscribe a socket: from the topic's top, or after a position."""
        feed = await self.fanout.join(TOPIC)
        return deliver(feed, socket, position, ack=ack)

    def leave(self, delivery: Delivery) -> None:
        """End a subscription."""
        delivery.stop()
        self.fanout.leave(delivery.feed)


def deliver(
    feed: Feed, socket: FakeSocket, position: int | None = None, *, ack: AckPolicy | None = None
) -> Delivery:
    """Start a delivery on a joined feed."""
    delivery = Delivery(feed, socket, feed.chain.last if position is None else position, ack=ack)
    delivery.start()
    return delivery


def fanout_over(
    layer: Any, history: Any, bridge: Any = None, *, broker: Any = None, **options: Any
) -> Fanout:
    """Return a fan-out that checks no tops by itself, unless told so.

    Args:
        broker: hears for patterns; None: none can be joined.
    """
    given = {
        "durable_topics": DURABLE,
        "hold": 0.005,
        "check_interval": 3600.0,
        "linger": 3600.0,
        "ring_events": 128,
        **options,
    }
    stream = cast(History, history)
    patterns = Patterns(broker, stream, Subjects("gateway"), durable_topics=given["durable_topics"])
    return Fanout(layer, stream, bridge, FanoutOptions(**given), Metrics(), patterns=patterns)


def nobody_watches() -> Presence:
    """Return a presence that no topic is watched by, and that tells nobody."""
    return Presence(cast(Rosters, None), Holders(), cast(Any, None), grace=0.0)


async def turns(count: int = 20) -> None:
    """Let the loop run so many turns: what needs no I/O and no timer has happened then."""
    for _ in range(count):
        await asyncio.sleep(0)
