"""What a user has read of their notifications: one position for all devices and tabs.

The position is a durable one (positions.py) named READ, so a client that subscribes with
`durable: "read"` shares it. Every move is also published on `user.<id>.read`, so that open
pages agree at once.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import Struct

from . import link, publish
from .broker import Broker
from .conf import settings
from .positions import Position
from .protocol.exceptions import GatewayError, Unavailable
from .runtime import make_history, make_positions

READ = "read"
"""Name of the durable position up to which notifications are read."""

AWAY_SECONDS = 5.0
"""How long pages are shown without asking after the stream did not answer: a bell on every page
must not make every page wait."""

_ask_again_at = 0.0


class OtherEpoch(GatewayError):
    """The position belongs to a stream that is no more."""


class Inbox(Struct, frozen=True):
    """The last notifications of a user, and up to where they are read.

    Attributes:
        latest: the events, and the position to subscribe from.
        read: None when nothing was ever marked, or the mark belongs to another epoch.
    """

    latest: publish.Latest
    read: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for `json_script`."""
        return {**self.latest.as_dict(), "read": self.read}


def read_topic_of(user_id: int | str) -> str:
    """Return the topic on which moves of a user's position are told.

    Raises:
        BadTopic: when the id is not one token.
    """
    return publish.notifications_of(user_id).removesuffix("notifications") + READ


def inbox(user_id: int | str, limit: int = 20) -> Inbox:
    """Return what a page shows of a user's notifications before its socket is open.

    Raises:
        BadTopic: when the id is not one token.
        Unavailable: when the stream does not answer.
    """
    global _ask_again_at
    topic = publish.notifications_of(user_id)
    if time.monotonic() < _ask_again_at:
        raise Unavailable("The stream did not answer a moment ago.")

    async def read(broker: Broker) -> Inbox:
        latest = await publish.latest_with(broker, topic, limit)
        stored = await make_positions(broker).read(str(user_id), READ, topic)
        current = stored is not None and stored.epoch == latest.epoch
        return Inbox(latest, stored.sequence if stored is not None and current else None)

    try:
        return link.run(read, timeout=publish.LATEST_TIMEOUT)
    except Unavailable:
        _ask_again_at = time.monotonic() + AWAY_SECONDS
        raise


async def position_of(user_id: int | str) -> Position | None:
    """Return up to where a user has read, None when nothing was ever marked.

    Raises:
        BadTopic: when the id is not one token.
        Unavailable: when NATS does not answer.
    """
    topic = publish.notifications_of(user_id)
    return await link.arun(lambda broker: make_positions(broker).read(str(user_id), READ, topic))


def as_dict(position: Position | None) -> dict[str, Any]:
    """Return a position as pages and events carry it."""
    if position is None:
        return {"seqNo": None, "epoch": None}
    return {"seqNo": position.sequence, "epoch": position.epoch}


async def mark_read(user_id: int | str, sequence: int, epoch: str) -> Position:
    """Mark a user's notifications up to a sequence as read, and tell their open pages.

    Returns:
        Where the position stands now: beyond `sequence` when another device was further.

    Raises:
        OtherEpoch: when the stream was started anew since.
        Unavailable: when NATS did not take it; try again.
    """
    topic = publish.notifications_of(user_id)

    async def move(broker: Broker) -> Position:
        history = make_history(broker)
        await history.info()
        if history.epoch != epoch:
            raise OtherEpoch("The store of notifications was started anew: reload the page.")
        # What has not come yet cannot have been read.
        known = min(sequence, await history.top(topic))
        position = await make_positions(broker).move(str(user_id), READ, topic, known, epoch)
        payload = msgspec.json.encode(as_dict(position))
        await broker.store(
            read_topic_of(user_id), payload, headers=None, timeout=settings.STORE_TIMEOUT
        )
        return position

    return await link.arun(move)
