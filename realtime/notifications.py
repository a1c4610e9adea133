"""A user's notifications with what is read: everything up to a durable position named `read`.

It is the position that sockets keep (positions.py): a client that subscribes to
`user.<id>.notifications` with `durable: "read"` and acknowledges moves the same mark.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from .broker import Broker
from .history import HISTORY_BYTES, History, newest
from .positions import Position
from .protocol.messages import Event
from .publish import notifications_of
from .runtime import make_history, make_positions

READ = "read"
"""The `durable` name of the read position."""


class ReadMark(Struct, frozen=True):
    """What is read: everything up to `sequence` of the stream of `epoch`; `unread` follow it."""

    sequence: int
    epoch: str
    unread: int


class NotificationPage(Struct, frozen=True):
    """Notifications, newest first; `more`: older ones follow."""

    mark: ReadMark
    events: Sequence[Event]
    more: bool


async def notifications(
    broker: Broker, user_id: str, *, limit: int, before: int | None, unread: bool
) -> NotificationPage:
    """Return a page of a user's notifications.

    Args:
        before: only those with a smaller sequence.
        unread: only those that are not read.

    Raises:
        Unavailable: when NATS does not answer.
    """
    topic = notifications_of(user_id)
    history = make_history(broker)
    mark, (events, more) = await asyncio.gather(
        _mark(broker, history, user_id, topic), page(history, topic, limit, before)
    )
    if unread:
        found = [event for event in events if event.sequence > mark.sequence]
        more = more and len(found) == len(events)
        events = found
    return NotificationPage(mark, events, more)


async def mark_read(broker: Broker, user_id: str, sequence: int) -> ReadMark:
    """Mark as read everything up to a sequence, at most what there is; it never goes back.

    Raises:
        Unavailable: when NATS did not take it.
    """
    topic = notifications_of(user_id)
    history = make_history(broker)
    # A position beyond the end would count what comes later as read.
    _, top = await asyncio.gather(history.info(), history.top(topic))
    if sequence := min(sequence, top):
        positions = make_positions(broker)
        await positions.advance(user_id, READ, topic, sequence, history.epoch)
    return await _mark(broker, history, user_id, topic)


async def page(
    history: History, topic: str, limit: int, before: int | None
) -> tuple[Sequence[Event], bool]:
    """Return stored events of a topic, newest first, and whether there are older ones.

    Raises:
        Unavailable: when the stream does not answer.
    """
    found = await history.latest(topic, limit + 1, before)
    events = newest(found[-limit:], HISTORY_BYTES)
    return events[::-1], len(events) < len(found)


async def _mark(broker: Broker, history: History, user_id: str, topic: str) -> ReadMark:
    info, position = await asyncio.gather(
        history.info(), make_positions(broker).read(user_id, READ, topic)
    )
    sequence = _read_up_to(position, info.created, info.state.last)
    unread = await history.count(topic, sequence + 1)
    return ReadMark(sequence, info.created, unread)


def _read_up_to(position: Position | None, epoch: str, last: int) -> int:
    """Return the sequence up to which everything is read; another stream's says nothing."""
    if position is None or position.epoch != epoch or position.sequence > last:
        return 0
    return position.sequence
