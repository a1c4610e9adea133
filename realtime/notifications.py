"""A user's notifications with what is read: everything up to a durable position named `read`.

It is the position that sockets keep (positions.py): a client that subscribes to
`user.<id>.notifications` with `durable: "read"` and acknowledges moves the same mark. What
`mark_read` moves is told on `user.<id>.read` as well, so that open pages agree at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from .broker import Broker
from .conf import settings
from .history import HISTORY_BYTES, History, newest
from .parts import make_history, make_positions
from .positions import Position
from .protocol.exceptions import GatewayError
from .protocol.messages import Event
from .publish import notifications_of

READ = "read"
"""The `durable` name of the read position."""


class OtherEpoch(GatewayError):
    """The position belongs to a stream that is no more."""


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
        mark_of(broker, history, user_id), page(history, topic, limit, before)
    )
    if unread:
        found = [event for event in events if event.sequence > mark.sequence]
        more = more and len(found) == len(events)
        events = found
    return NotificationPage(mark, events, more)


async def mark_read(
    broker: Broker, user_id: str, sequence: int, *, epoch: str | None = None
) -> ReadMark:
    """Mark as read everything up to a sequence, at most what there is; it never goes back.

    Args:
        epoch: of the stream that `sequence` belongs to, where that is known.

    Raises:
        OtherEpoch: when the stream is another one.
        Unavailable: when NATS did not take it.
    """
    topic = notifications_of(user_id)
    history = make_history(broker)
    # A position beyond the end would count what comes later as read.
    _, top = await asyncio.gather(history.info(), history.top(topic))
    if epoch is not None and epoch != history.epoch:
        raise OtherEpoch("The store of notifications was started anew: reload the page.")
    if sequence := min(sequence, top):
        positions = make_positions(broker)
        position = await positions.advance(user_id, READ, topic, sequence, history.epoch)
        payload = msgspec.json.encode({"seqNo": position.sequence, "epoch": position.epoch})
        await broker.store(
            read_topic_of(user_id), payload, headers=None, timeout=settings.STORE_TIMEOUT
        )
    return await mark_of(broker, history, user_id)


def read_topic_of(user_id: int | str) -> str:
    """Return the topic on which moves of a user's mark are told.

    Raises:
        BadTopic: when the id is not one token.
    """
    return f"{notifications_of(user_id).removesuffix('notifications')}{READ}"


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


async def mark_of(broker: Broker, history: History, user_id: str) -> ReadMark:
    """Return what a user has read.

    Raises:
        Unavailable: when NATS does not answer.
    """
    topic = notifications_of(user_id)
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
