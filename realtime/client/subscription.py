"""One topic that a client wants: its chain, its bounded queue, its timer."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Protocol, Self

from .chain import Chain, Verdict
from .errors import Closed, NoAnswer
from .frames import Dropped, Gap, Message, Notice, PresenceChange, Reset, Subscribed
from .options import SubscribeOptions
from .receipts import Receipts
from .watch import Watch

logger = logging.getLogger(__name__)


class Hooks(Protocol):
    """What a subscription needs of its client."""

    def send(self, type_: str, **fields: Any) -> bool:
        """Send a frame; say whether there was a connection to send it over."""

    def join(self, subscription: Subscription) -> None:
        """Send `subscribe`, unless there is no connection."""

    def replay(self, subscription: Subscription, from_seq: int) -> None:
        """Ask for what the stream holds from a sequence on."""

    def notify(self, notice: Notice) -> None:
        """Tell the application."""


class Subscription:
    """The messages of a topic, in order and once, over reconnects: an async iterator.

    When its queue is full, a stored topic is left until half of the queue has been taken, and
    then joined again from where it was left: memory is bounded and nothing is lost. On an
    ephemeral topic the newest are dropped, and a `Dropped` notice says how many.
    """

    def __init__(self, topic: str, options: SubscribeOptions, hooks: Hooks, patience: float):
        self.topic = topic
        self.options = options
        self.chain = Chain(topic, last=options.since, epoch=options.epoch)
        self.joined = False  # the gateway has confirmed it on the present connection
        self.paused = False  # left until there is room again
        self.position = options.since
        self.settled = asyncio.Event()  # the gateway's first word came, or none will
        self._hooks = hooks
        self._queue: deque[Message | Notice] = deque()
        self._news = asyncio.Event()
        self._error: Exception | None = None
        # None: QoS 0. A durable position cannot move without confirmations.
        self._receipts: Receipts | None = None
        if options.qos == 1 or options.durable is not None:
            self._receipts = Receipts(options.since, self._confirm)
        self._taken: Message | None = None  # confirmed when the next one is asked for
        self._began = options.since
        self._dropped = 0
        self._watch = Watch(
            patience,
            replay=lambda: hooks.replay(self, (self.chain.last or 0) + 1),
            give_up=self._give_up,
            # With QoS 1 the gateway sends no more until some of what it sent is confirmed.
            excused=lambda: self._receipts is not None and bool(self._queue),
        )

    # For the application.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self._next()
        except Closed:
            raise StopAsyncIteration from None

    async def get(self, timeout: float) -> Message:
        """Return the next message.

        Raises:
            NoAnswer: none came within `timeout` seconds.
            Unsubscribed: the gateway ended the subscription.
            Denied, Closed: the client has ended.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._next()
        except TimeoutError as exc:
            raise NoAnswer(f"Nothing came within {timeout:g} s.", topic=self.topic) from exc

    @property
    def epoch(self) -> str | None:
        """The stream that `position` belongs to; `position` is the last sequence taken."""
        return self.chain.epoch

    def ack(self, message: Message) -> None:
        """Confirm an event, and all before it on its topic (QoS 1)."""
        if self._receipts is not None and message.seq_no is not None:
            self._receipts.confirm(message.seq_no)

    # For the client.

    def fields(self) -> dict[str, Any]:
        """Return the fields of the frame that asks for this subscription."""
        since = self._since()
        return {
            "topic": self.topic,
            "since": since,
            "epoch": self.chain.epoch if since is not None else None,
            "qos": self.options.qos or None,
            "durable": self.options.durable,
            "presence": True if self.options.on_presence is not None else None,
        }

    def restart(self) -> None:
        """Note that the connection is gone, or the topic left."""
        self.joined = False
        self._watch.stop()
        self.chain.restart()

    def end(self, error: Exception) -> None:
        """Raise this once what was received is taken."""
        self.restart()
        if self._receipts is not None:
            self._receipts.stop()
        self._error = self._error or error
        self._news.set()
        self.settled.set()

    def require_held(self) -> None:
        """Return when it has not ended.

        Raises:
            ClientError: what ended it.
        """
        if self._error is not None:
            raise self._error

    def subscribed(self, frame: Subscribed) -> None:
        """Take in the gateway's confirmation."""
        self.joined = True
        self.settled.set()
        durable = self.options.durable is not None and self._since() is None
        if self.chain.subscribed(
            frame.seq_no, frame.epoch, recovered=frame.recovered, durable=durable
        ):
            self._renewed(frame.epoch)
        if self._began is None:
            self._began = self.chain.last
        self._look()

    def receive(self, message: Message) -> None:
        """Take in an event."""
        if not self.joined:
            return  # of a subscription that was left, or before `subscribed` says where it stands
        if message.seq_no is None:
            self._ephemeral(message)
            return
        verdict = self.chain.accept(message)
        if verdict.repeat and self._receipts is not None:
            self._receipts.repeated(message.seq_no)
        self._deliver(verdict)
        if self.chain.held:
            self._watch.hole()
        self._look()

    def skip(self, gap: Gap) -> None:
        """Take in a `gap`."""
        if self.joined and (deliver := self.chain.skip(gap.to_seq)) is not None:
            self._deliver(Verdict(deliver, gap))
            self._look()

    def reset(self, epoch: str) -> None:
        """Take in a `reset`."""
        if self.chain.reset(epoch):
            self._renewed(epoch)
            self._look()

    def present(self, change: PresenceChange) -> None:
        """Take in who came and who left."""
        if self.options.on_presence is None:
            return
        try:
            self.options.on_presence(change)
        except Exception:
            logger.exception("on_presence failed topic=%s", self.topic)  # the application's own

    def excuse(self) -> None:
        """Note that the gateway cannot look for what is missing now: no reason to give up."""
        self._watch.excuse()

    # The queue.

    async def _next(self) -> Message:
        if self._taken is not None and self.options.ack == "auto":
            self.ack(self._taken)
        self._taken = None
        while True:
            while self._queue:
                item = self._queue.popleft()
                self._make_room()
                if isinstance(item, Message):
                    if item.seq_no is not None:
                        self.position = item.seq_no
                    self._taken = item
                    return item
                self._take_notice(item)
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()

    def _take_notice(self, notice: Notice) -> None:
        if isinstance(notice, Gap):
            self.position = notice.to_seq
        elif isinstance(notice, Reset):
            self.position = 0
            if self._receipts is not None:
                self._receipts.reset_taken()
        self._hooks.notify(notice)

    def _make_room(self) -> None:
        if self.paused and len(self._queue) <= self.options.queue // 2 and self._error is None:
            self.paused = False
            self._hooks.join(self)

    def _deliver(self, verdict: Verdict) -> None:
        if verdict.gap is not None:
            self._put(verdict.gap)
        for message in verdict.deliver:
            self._put(message)
        if verdict.deliver:
            self._watch.progressed()
        if len(self._queue) >= self.options.queue and not self.paused:
            self.paused = True
            self.restart()
            self._hooks.send("unsubscribe", topic=self.topic)

    def _ephemeral(self, message: Message) -> None:
        if len(self._queue) >= self.options.queue:
            self._dropped += 1
            return
        if self._dropped:
            self._put(Dropped(self.topic, self._dropped))
            self._dropped = 0
        self._put(message)

    def _renewed(self, epoch: str) -> None:
        self._began = 0
        if self._receipts is not None:
            self._receipts.reset_queued()
        self._put(Reset(self.topic, epoch))

    def _confirm(self, position: int) -> None:
        self._hooks.send("ack", topic=self.topic, seqNo=position)

    def _put(self, item: Message | Notice) -> None:
        self._queue.append(item)
        self._news.set()

    # What is missing.

    def _since(self) -> int | None:
        """Return the sequence after which to go on.

        With QoS 1 that is what was confirmed; the rest is sent again, and dropped as a repeat
        where it waits in the queue. Before the first confirmation a durable position is the
        gateway's to know, and otherwise it is where this subscription began.
        """
        if self._receipts is None:
            return self.chain.last
        if self._receipts.position is not None or self.options.durable is not None:
            return self._receipts.position
        return self._began

    def _look(self) -> None:
        self._watch.missing(self.joined and self.chain.behind)

    def _give_up(self) -> None:
        self._deliver(self.chain.give_up())
        self._look()
