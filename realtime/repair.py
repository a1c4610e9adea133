"""Repair: fetch what a topic misses from the stream, and deliver what was held behind it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from .feed import Feed
from .metrics import Metrics
from .protocol.chain import Hole
from .protocol.exceptions import GatewayError
from .protocol.gateway_frames import Gap, encode_frame
from .protocol.messages import Event

logger = logging.getLogger(__name__)

TRIES = 5
"""Reads that bring nothing before a hole is given up: a replica may lag behind what was just
stored."""


class Repair:
    """Repairs the feeds of one process, a page at a time.

    Args:
        hold: seconds to wait first, since events may just have overtaken each other.
        failed: called when the stream does not answer.
    """

    def __init__(self, metrics: Metrics, *, hold: float, failed: Callable[[], None]) -> None:
        self._metrics = metrics
        self._hold = hold
        self._failed = failed

    async def run(self, feed: Feed) -> None:
        """Close every hole of a feed; never raises."""
        try:
            if not feed.announced:
                await asyncio.sleep(self._hold)
            await self._close_holes(feed)
        except GatewayError as exc:
            self._failed()
            logger.warning("cannot repair topic=%s reason=%s", feed.topic, exc)
        except Exception:
            logger.exception("repair failed topic=%s", feed.topic)
        finally:
            feed.repair = None

    async def _close_holes(self, feed: Feed) -> None:
        tries = 0
        while (hole := feed.chain.hole) is not None:
            chain = feed.chain
            page = await feed.read(hole.after, hole.upto)
            if feed.chain is not chain:
                # The stream was recreated meanwhile: what was read is of the old one.
                continue
            reach = page.events[-1].sequence if page.events else hole.after
            if reach == hole.after and tries < TRIES:
                tries += 1
                await asyncio.sleep(self._hold * 2**tries)
                continue
            self._metrics.holes += not tries and not feed.announced
            # Without news after all tries, all of the hole counts as gone.
            found = Hole(hole.after, reach if reach > hole.after else hole.upto)
            tries = 0
            self._deliver(feed, chain.fill(found, page.events, complete=page.complete))

    def _deliver(self, feed: Feed, ready: Iterable[Event | Hole]) -> None:
        # Page by page, and past sockets that have their fill from other topics, so that long
        # holes fill no socket's buffer.
        feed.flush()
        feed.ease()
        for item in ready:
            if isinstance(item, Hole):
                self._gap(feed, item)
            else:
                feed.push(item)
        feed.flush()
        feed.ease()

    def _gap(self, feed: Feed, hole: Hole) -> None:
        self._metrics.gaps += 1
        logger.warning("gap topic=%s after=%d upto=%d", feed.topic, hole.after, hole.upto)
        gap = Gap(topic=feed.topic, from_seq=hole.after + 1, to_seq=hole.upto)
        # Those that are catching up meet the gap by themselves.
        feed.flush()
        feed.flushed = hole.upto
        feed.tell(encode_frame(gap), [item for item in feed.deliveries if feed.serves(item)])
        feed.clear()
