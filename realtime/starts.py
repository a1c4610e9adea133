"""Where a subscription begins: what the client has, and what the stream still holds of the rest."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from .fanout import Fanout
from .feed import Feed
from .positions import Positions
from .protocol.client_frames import Subscribe
from .protocol.messages import Event


class Start(Struct, frozen=True):
    """Where a subscription begins.

    Attributes:
        position: the last sequence that counts as had.
        reset: the stream was recreated since the client last looked.
        since: what the client said it has; `gap`: up to where that cannot be had, 0: no gap.
        events: the first of what was missed.
    """

    position: int
    recovered: bool = True
    reset: bool = False
    since: int = 0
    gap: int = 0
    events: Sequence[Event] = ()


async def find_start(
    fanout: Fanout, positions: Positions, feed: Feed, frame: Subscribe, user_id: str
) -> Start:
    """Find where a `subscribe` begins: after the client's sequence, else at the durable position.

    Raises:
        Unavailable: when the stream does not answer.
    """
    since, epoch = await _position(fanout, positions, feed, frame, user_id)
    return await locate(fanout, feed, since, epoch)


async def locate(
    fanout: Fanout, feed: Feed, since: int | None, epoch: str | None, limit: int = 0
) -> Start:
    """Find where a client that has everything up to `since` goes on.

    Raises:
        Unavailable: when the stream does not answer.
    """
    if not feed.durable or since is None:
        return Start(feed.chain.last, recovered=not since)
    reset = epoch is not None and epoch != fanout.epoch
    if not reset and since > feed.chain.last:
        # Such a sequence never was: it is of another stream, or of one that was restored.
        reset = since > (await fanout.history.info()).state.last
    if reset:
        since = 0
    if since == feed.chain.last:
        return Start(since, recovered=not reset, reset=reset)
    page = await feed.page(since, limit)
    recovered = page.complete and not reset
    if feed.announced and fanout.history.may_have_overflowed(page.behind):
        # One of its topics may have lost events in between; none that can be named.
        recovered = False
    gap = 0
    if not page.complete and not reset:
        gap = page.events[0].sequence - 1 if page.events else feed.chain.last
    return Start(max(since, gap), recovered, reset, since, gap, page.events)


async def _position(
    fanout: Fanout, positions: Positions, feed: Feed, frame: Subscribe, user_id: str
) -> tuple[int | None, str | None]:
    """Return sequence and epoch from which to go on."""
    if frame.durable is None or not feed.durable:
        return frame.since, frame.epoch
    position = await positions.read(user_id, frame.durable, feed.topic)
    if position is None:
        # From now on everything counts as missed until it is acknowledged.
        first = feed.chain.last if frame.since is None else frame.since
        await positions.begin(user_id, frame.durable, feed.topic, first, fanout.epoch)
        return first, frame.epoch
    if frame.since is not None:
        return frame.since, frame.epoch
    return position.sequence, position.epoch
