"""A user's notifications for pages: the last ones and what is read, before a socket is open."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from msgspec import Struct

from . import link, notifications, publish
from .broker import Broker
from .notifications import ReadMark
from .parts import make_history
from .protocol.exceptions import Unavailable

AWAY_SECONDS = 5.0
"""How long pages are shown without asking after the stream did not answer: a bell on every page
must not make every page wait."""

_ask_again_at = 0.0


class Inbox(Struct, frozen=True):
    """The last notifications of a user, and up to where they are read.

    Attributes:
        latest: the events, and the position to subscribe from.
        read: everything up to this sequence is read.
    """

    latest: publish.Latest
    read: int

    def as_dict(self) -> dict[str, Any]:
        """Return it for `json_script`."""
        return {**self.latest.as_dict(), "read": self.read}


def inbox(user_id: int | str, limit: int = 20) -> Inbox:
    """Return what a page shows of a user's notifications.

    Raises:
        BadTopic: when the id is not one token.
        Unavailable: when the stream does not answer, or did not a moment ago.
    """
    global _ask_again_at
    topic = publish.notifications_of(user_id)
    if time.monotonic() < _ask_again_at:
        raise Unavailable("The stream did not answer a moment ago.")

    async def read(broker: Broker) -> Inbox:
        latest, mark = await asyncio.gather(
            publish.latest_with(broker, topic, limit),
            notifications.mark_of(broker, make_history(broker), str(user_id)),
        )
        return Inbox(latest, mark.sequence if mark.epoch == latest.epoch else 0)

    try:
        return link.run(read, timeout=publish.LATEST_TIMEOUT)
    except Unavailable:
        _ask_again_at = time.monotonic() + AWAY_SECONDS
        raise


async def mark_of(user_id: int | str) -> ReadMark:
    """Return what a user has read.

    Raises:
        BadTopic: when the id is not one token.
        Unavailable: when NATS does not answer.
    """
    return await link.arun(
        lambda broker: notifications.mark_of(broker, make_history(broker), str(user_id))
    )


async def mark_read(user_id: int | str, sequence: int, epoch: str) -> ReadMark:
    """Mark a user's notifications up to a sequence as read, and tell their open pages.

    Returns:
        What is read now: beyond `sequence` when another device was further.

    Raises:
        OtherEpoch: when the stream was started anew since.
        Unavailable: when NATS did not take it; try again.
    """
    return await link.arun(
        lambda broker: notifications.mark_read(broker, str(user_id), sequence, epoch=epoch)
    )
