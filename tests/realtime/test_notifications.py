"""Notifications and their mark, where the stream is not what it was."""

from __future__ import annotations

from typing import Any

from realtime.broker import Broker
from realtime.conf import settings
from realtime.notifications import READ, mark_read, notifications
from realtime.parts import make_history, make_positions
from realtime.publish import notifications_of

from .support import stream_api

USER = "7"
TOPIC = notifications_of(USER)


async def send(broker: Broker, count: int) -> None:
    for _ in range(count):
        await broker.store(TOPIC, b"1", headers=None, timeout=5)


async def counts(broker: Broker) -> tuple[int, int]:
    """Return how many notifications there are, and how many are unread."""
    page = await notifications(broker, USER, limit=50, before=None, unread=False)
    return len(page.events), page.mark.unread


async def recreate(broker: Broker) -> None:
    await stream_api(broker, "DELETE", settings.STREAM)
    await make_history(broker).open()


async def test_mark_of_a_stream_that_is_gone_says_nothing(broker: Broker) -> None:
    await make_history(broker).open()
    await send(broker, 3)
    assert (await mark_read(broker, USER, 3)).unread == 0
    await recreate(broker)
    await send(broker, 2)
    assert await counts(broker) == (2, 2)
    assert (await mark_read(broker, USER, 1)).unread == 1


async def test_mark_beyond_a_stream_that_went_back_says_nothing(broker: Broker) -> None:
    history = make_history(broker)
    await history.open()
    await send(broker, 2)
    # As when an older copy of the stream was restored: the same epoch, fewer events.
    await make_positions(broker).advance(USER, READ, TOPIC, 9, history.epoch)
    assert await counts(broker) == (2, 2)


async def test_mark_read_of_nothing_is_no_mark(broker: Broker) -> None:
    history = make_history(broker)
    await history.open()
    assert (await mark_read(broker, USER, 5)).sequence == 0
    assert await make_positions(broker).read(USER, READ, TOPIC) is None


async def test_unread_counts_what_is_left_of_a_topic(broker: Broker) -> None:
    await make_history(broker).open()
    await send(broker, 4)
    await mark_read(broker, USER, 2)
    purge: Any = {"filter": TOPIC, "seq": 4}
    await stream_api(broker, "PURGE", settings.STREAM, purge)
    assert await counts(broker) == (1, 1)
