"""Patterns: what this process hears and reads for subscriptions such as `room.*`.

NATS says in a core subscription, over relay or ephemeral subjects, that something passed. The
event itself is read from the stream: a batched direct get (NATS ADR-31) takes a pattern, and
answers in the order of the stream, without holes. So a pattern is one line of events with one
position, whatever number of topics it has and however they come and go, and no bridge and no
channel layer has to know who holds it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from .broker import Broker
from .feed import Feed
from .history import PAGE_EVENTS, History, Page
from .nats_client import Message, Subscription
from .protocol.chain import Chain
from .protocol.exceptions import BadTopic, TooManySubscriptions
from .protocol.messages import LAST_SEQUENCE, SEQUENCE, ephemeral_event, matched
from .protocol.subjects import Subjects, covers, overlaps

logger = logging.getLogger(__name__)

MAX_KNOWN = 1024
"""Events announced and not read yet of which a process knows the one before on its topic."""
MAX_FOLLOWED = 1000
"""Patterns of one process: each reads for itself what matches it."""
MAX_CHECKED = 500
"""Patterns whose last event is asked for in one check; the others are next."""
CHECKS_AT_ONCE = 32


class PatternFeed(Feed):
    """One pattern in one process: events of many topics, in the order of the stream.

    Attributes:
        subscription: where it is announced that something passed.
    """

    __slots__ = ("_known", "_quiet", "_quiet_upto", "subscription")

    announced = True

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.subscription: Subscription | None = None
        self._known: dict[int, int] = {}
        self._quiet = 0
        self._quiet_upto = 0

    def announce(self, sequence: int, previous: int) -> None:
        """Learn that the stream stored an event; `previous`: the one before on its topic."""
        known = self._known
        known[sequence] = previous
        if len(known) > MAX_KNOWN:
            del known[next(iter(known))]
        if sequence <= self._quiet_upto:
            self._quiet_upto = 0
        self.chain.expect(sequence)

    def begin(self, top: int) -> None:
        """Go on after `top`, the last event stored, and whatever was announced meanwhile."""
        announced = self.chain.top
        self.chain = Chain(top)
        self.flushed = top
        self.chain.expect(announced)

    def quiet(self, top: int, upto: int) -> None:
        """Learn the last event, and up to which sequence of the stream no other has come."""
        self.chain.expect(top)
        if top == self.chain.last and upto > top:
            self._quiet, self._quiet_upto = top, upto

    async def read(self, after: int, upto: int, limit: int = PAGE_EVENTS) -> Page:
        """Return events after a sequence, up to another, from the stream.

        Raises:
            Unavailable: when the stream does not answer.
        """
        if self._quiet <= after < self._quiet_upto:
            # From further on, where the stream surely has not discarded anything.
            after = self._quiet_upto
        return await self.shared.history.page(
            self.topic, after, upto=upto, limit=limit, known=self._known
        )

    def clear(self) -> None:
        """Forget recent events, and what is being read."""
        super().clear()
        self._known = {}
        self._quiet = self._quiet_upto = 0


class Patterns:
    """Hears for the patterns of one process.

    Args:
        durable_topics: patterns that the stream stores.
    """

    def __init__(
        self,
        broker: Broker,
        history: History,
        subjects: Subjects,
        *,
        durable_topics: Iterable[str],
    ) -> None:
        self._broker = broker
        self._history = history
        self._subjects = subjects
        self._durable = tuple(durable_topics)
        self._followed: set[str] = set()
        self._origin = uuid.uuid4().hex[:12]
        self._heard = 0
        self._next = 0

    def durable(self, pattern: str) -> bool:
        """Say whether the stream stores what matches a pattern.

        Raises:
            BadTopic: some of it, and some not.
        """
        if any(covers(stored, pattern) for stored in self._durable):
            return True
        if any(overlaps(stored, pattern) for stored in self._durable):
            raise BadTopic(
                "This pattern matches topics that are stored and topics that are not: subscribe"
                " to each kind by a pattern of its own.",
                topic=pattern,
            )
        return False

    async def follow(self, feed: PatternFeed, announced: Callable[[], None]) -> None:
        """Hear for a pattern until `unfollow`, and find where it stands.

        Args:
            announced: called when there is something to read.

        Raises:
            TooManySubscriptions: this process hears for as many as it can.
            Unavailable: when NATS is away.
        """
        pattern = feed.topic
        if len(self._followed) >= MAX_FOLLOWED:
            raise TooManySubscriptions(
                "Too many different patterns are held here: try again later.", topic=pattern
            )
        self._followed.add(pattern)
        if feed.durable:
            subject, stored = self._subjects.relay_of(pattern), partial(_stored, feed, announced)
            feed.subscription = await self._broker.subscribe(subject, stored)
            feed.begin(await self._history.top(pattern))
        else:
            ephemeral = partial(self._ephemeral, feed)
            feed.subscription = await self._broker.subscribe(pattern, ephemeral)
            # Nothing is asked here that would tell that NATS has it.
            await self._broker.flush()

    async def unfollow(self, feed: PatternFeed) -> None:
        """Hear no more for a pattern."""
        self._followed.discard(feed.topic)
        if feed.subscription is not None:
            await self._broker.unsubscribe(feed.subscription)

    async def check(self, feeds: Sequence[PatternFeed], upto: int) -> None:
        """Ask for the last event of patterns: its announcement may have been lost.

        Args:
            upto: the stream's last sequence a few seconds ago: a replica may lag, but not that
                much.

        Raises:
            Unavailable: when the stream does not answer.
        """
        # The oldest check first, where there are more than one check takes.
        start = self._next if self._next < len(feeds) else 0
        chosen = [*feeds[start:], *feeds[:start]][:MAX_CHECKED]
        self._next = start + len(chosen)
        for first in range(0, len(chosen), CHECKS_AT_ONCE):
            some = chosen[first : first + CHECKS_AT_ONCE]
            tops = await asyncio.gather(*(self._history.top(feed.topic) for feed in some))
            for feed, top in zip(some, tops, strict=True):
                feed.quiet(top, upto)

    async def _ephemeral(self, feed: PatternFeed, message: Message) -> None:
        self._heard += 1
        event = ephemeral_event(
            message.subject,
            message.data,
            message.headers,
            message_id=f"{self._origin}-{self._heard}",
            timestamp=int(time.time() * 1000),
        )
        feed.push(matched(event, feed.topic, previous=0))


async def _stored(feed: PatternFeed, announced: Callable[[], None], message: Message) -> None:
    try:
        sequence = int(message.headers[SEQUENCE])
        feed.announce(sequence, int(message.headers[LAST_SEQUENCE]))
    except (KeyError, ValueError):
        logger.warning("not from the stream, dropped subject=%s", message.subject)
        return
    announced()
