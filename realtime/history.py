"""History: what the stream holds of a topic: tops, pages, the latest, and the epoch.

Everything is read by JetStream's batched direct get (NATS ADR-31): no JetStream consumer is
made, nothing is kept on the server, and any replica may answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from .broker import Broker
from .nats_client import Message
from .protocol.jetstream import StreamInfo
from .protocol.messages import SEQUENCE, Event, event_from, matched
from .protocol.subjects import is_pattern

PAGE_EVENTS = 256
PAGE_BYTES = 256 * 1024
"""Stored bytes in a page. It is written to a socket whole, and so is well below its buffer."""
HISTORY_BYTES = 512 * 1024
"""Text of the events in a page of history for a client."""
NOTHING: Mapping[int, int] = {}
# The server answers at most 1,024 subjects of a multi_last request.
MAX_TOPICS_PER_REQUEST = 500


class Page(Struct, frozen=True):
    """Stored events of one topic, or of all that match a pattern, after a sequence.

    Attributes:
        complete: nothing between that sequence and the first event has been discarded.
        more: the stream holds more after the last event.
        behind: how many events the stream holds after that sequence.
    """

    events: list[Event]
    complete: bool
    more: bool
    behind: int = 0


class History:
    """Reads one stream.

    Args:
        timeout: seconds for one request.
        config: the stream's configuration, as JetStream takes it.
    """

    def __init__(self, broker: Broker, config: Mapping[str, Any], *, timeout: float) -> None:
        self._broker = broker
        self._config = config
        self._stream: str = config["name"]
        self._timeout = timeout
        self._asking: dict[str, asyncio.Future[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.epoch = ""

    async def open(self) -> StreamInfo:
        """Make the stream or bring it up to date, and learn its epoch.

        Raises:
            Unavailable: when JetStream does not answer.
        """
        info = await self._broker.ensure_stream(self._config, timeout=self._timeout)
        self.epoch = info.created
        return info

    async def info(self) -> StreamInfo:
        """Return the stream as it is now; made anew when somebody deleted it.

        Raises:
            Unavailable: when JetStream does not answer.
        """
        info = await self._broker.stream_info(self._stream, timeout=self._timeout)
        if info is None:
            info = await self.open()
        self.epoch = info.created
        return info

    async def top(self, topic: str) -> int:
        """Return the last sequence of a topic or pattern, 0 when nothing is stored.

        Requests made in one turn of the loop share one question to the stream.

        Raises:
            Unavailable: when the stream does not answer.
        """
        if is_pattern(topic):
            return await self._last(topic)
        loop = asyncio.get_running_loop()
        if not self._asking:
            loop.call_soon(self._ask)
        answer = self._asking.get(topic)
        if answer is None:
            answer = self._asking[topic] = loop.create_future()
        return await asyncio.shield(answer)

    async def tops(self, topics: Sequence[str]) -> dict[str, int]:
        """Return the last sequence of each topic that has one.

        Raises:
            Unavailable: when the stream does not answer.
        """
        found: dict[str, int] = {}
        for start in range(0, len(topics), MAX_TOPICS_PER_REQUEST):
            query = {"multi_last": topics[start : start + MAX_TOPICS_PER_REQUEST]}
            for message in await self._get(query):
                found[message.headers["Nats-Subject"]] = _sequence(message)
        return found

    async def page(
        self,
        topic: str,
        after: int,
        *,
        limit: int = PAGE_EVENTS,
        upto: int | None = None,
        known: Mapping[int, int] = NOTHING,
    ) -> Page:
        """Return stored events of a topic or pattern after a sequence, oldest first.

        Args:
            limit: how many at most.
            upto: leave out later ones.
            known: of a pattern's events by sequence, the one before it on its topic.

        Raises:
            Unavailable: when the stream does not answer.
        """
        # One more than wanted, from `after` itself: when that event is still held, nothing
        # behind it has been discarded, since limits discard the oldest first.
        messages, pending = await self._batch(topic, max(after, 1), limit + 1)
        held = bool(messages) and _sequence(messages[0]) == after
        if held:
            messages = messages[1:]
            if not messages and pending:
                # The event at `after` alone filled the byte budget.
                messages, pending = await self._batch(topic, after + 1, limit)
        count = len(messages) + pending
        if is_pattern(topic):
            # Limits of the stream discard the oldest event first, whatever its topic.
            complete = held or after + 1 >= (await self.info()).state.first
            events = _matching(topic, messages[:limit], after, known)
        else:
            complete = held or await self._complete(topic, after, count)
            events = _events(topic, messages[:limit], after)
        more = pending > 0 or len(messages) > limit
        if upto is not None and events and events[-1].sequence >= upto:
            more = False
            events = [event for event in events if event.sequence <= upto]
        return Page(events, complete, more, behind=count)

    def may_have_overflowed(self, behind: int) -> bool:
        """Say whether one of a pattern's topics may have reached its limit meanwhile.

        Args:
            behind: how many events of the pattern came meanwhile, as far as they are held.
        """
        limit: int = self._config["max_msgs_per_subject"]
        return 0 < limit <= behind

    async def latest(self, topic: str, limit: int, before: int | None) -> list[Event]:
        """Return the last events of a topic, oldest first.

        JetStream reads forwards only, but says how many follow: so step back twice as far
        each time until enough are in sight, then read them.

        Args:
            before: only those with a smaller sequence.

        Raises:
            Unavailable: when the stream does not answer.
        """
        top = await self.top(topic)
        end = top + 1 if before is None else min(before, top + 1)
        behind = await self.count(topic, end)
        start, step = end, limit
        while start > 1:
            start = max(1, end - step)
            inside = await self.count(topic, start) - behind
            if inside >= limit:
                break
            step *= 4
        events: list[Event] = []
        after, more = start - 1, end > 1
        while more:
            page = await self.page(topic, after, upto=end - 1)
            events = [*events, *page.events][-limit:]
            more = page.more and bool(page.events)
            after = page.events[-1].sequence if page.events else after
        return events

    async def count(self, topic: str, start: int) -> int:
        """Return how many events of a topic have a sequence of at least `start`.

        Raises:
            Unavailable: when the stream does not answer.
        """
        messages = await self._get({"seq": max(start, 1), "next_by_subj": topic, "batch": 1})
        return int(messages[0].headers["Nats-Num-Pending"]) + 1 if messages else 0

    async def _complete(self, topic: str, after: int, held: int) -> bool:
        """Say whether nothing after a sequence, itself no longer held, has been discarded."""
        if held == 0 and after == 0:
            return True
        limit = self._config["max_msgs_per_subject"]
        state = (await self.info()).state
        if after + 1 < state.first or 0 < limit <= held:
            return False
        # Something was deleted within the stream, by a limit of another topic or by hand;
        # for whoever never had anything that is no loss.
        return after == 0 or state.deleted == 0

    async def _last(self, pattern: str) -> int:
        message = await self._broker.direct_last(self._stream, pattern, timeout=self._timeout)
        return _sequence(message) if message is not None else 0

    async def _batch(self, topic: str, start: int, limit: int) -> tuple[list[Message], int]:
        """Return messages from a sequence on, and how many follow them."""
        messages = await self._get(
            {"seq": start, "next_by_subj": topic, "batch": limit, "max_bytes": PAGE_BYTES}
        )
        pending = int(messages[-1].headers["Nats-Num-Pending"]) if messages else 0
        return messages, pending

    async def _get(self, query: Mapping[str, Any]) -> list[Message]:
        return await self._broker.direct_get(self._stream, query, timeout=self._timeout)

    def _ask(self) -> None:
        asking, self._asking = self._asking, {}
        task = asyncio.get_running_loop().create_task(self._answer(asking))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, asking: dict[str, asyncio.Future[int]]) -> None:
        try:
            tops = await self.tops(list(asking))
        except Exception as exc:
            for answer in asking.values():
                answer.set_exception(exc)
                # Whoever asked may be gone by now; then nobody is there to hear of it.
                answer.exception()
            return
        for topic, answer in asking.items():
            answer.set_result(tops.get(topic, 0))


def newest(events: Sequence[Event], size: int) -> Sequence[Event]:
    """Return the newest of `events` whose texts have at most `size` bytes, and at least one."""
    total = 0
    for count, event in enumerate(reversed(events)):
        total += len(event.text)
        if count and total > size:
            return events[-count:]
    return events


def _sequence(message: Message) -> int:
    return int(message.headers[SEQUENCE])


def _events(topic: str, messages: Sequence[Message], after: int) -> list[Event]:
    events: list[Event] = []
    for message in messages:
        event = event_from(topic, message.data, message.headers, previous=after)
        after = event.sequence
        events.append(event)
    return events


def _matching(
    pattern: str, messages: Sequence[Message], after: int, known: Mapping[int, int]
) -> list[Event]:
    events: list[Event] = []
    lasts: dict[str, int] = {}
    for message in messages:
        topic, sequence = message.headers["Nats-Subject"], _sequence(message)
        # 0, where the page does not show it: no client takes that for a hole.
        previous = known.get(sequence) or lasts.get(topic, 0)
        event = event_from(topic, message.data, message.headers, previous=previous)
        events.append(matched(event, pattern, previous=after))
        after = lasts[topic] = sequence
    return events
