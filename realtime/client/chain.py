"""The sequence state of one topic: what to deliver, what to hold, what to drop.

Pure: no clock, no timers, no socket. Every event names its own sequence and that of the event
before it on its topic, so a hole shows at once. The gateway keeps this chain whole by itself;
this is the second lock, the counterpart of `chain.js`.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from .frames import Gap, Message

HELD = 1000
"""Most events held behind a hole; further ones are let go, and asked for again."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an event: a gap to tell first, events to deliver, or a repeat."""

    deliver: tuple[Message, ...] = ()
    gap: Gap | None = None
    repeat: bool = False


class Chain:
    """The order of one topic, as far as this client has it.

    Args:
        last: last sequence already seen; None: join at the top.
        epoch: of the stream that `last` belongs to.
    """

    def __init__(
        self,
        topic: str,
        *,
        last: int | None = None,
        epoch: str | None = None,
        limit: int = HELD,
    ) -> None:
        self.topic = topic
        self.last = last
        self.epoch = epoch
        self.top = last or 0  # highest sequence that the topic is known to have
        self.held: list[Message] = []  # ascending
        self._limit = limit
        # The gateway said that not everything after `last` can be had.
        self._lossy = False

    @property
    def behind(self) -> bool:
        """Say whether events are known to exist that were not delivered yet."""
        return self.last is not None and self.top > self.last

    def accept(self, message: Message) -> Verdict:
        """Take in an event."""
        sequence = message.seq_no
        if sequence is None:
            return Verdict((message,))
        previous = message.prev_seq_no or 0
        if self.last is None:
            self.last = previous
        self.top = max(self.top, sequence)
        if sequence <= self.last:
            return Verdict(repeat=True)
        gap = None
        if previous > self.last:
            if not self._lossy:
                self._hold(message)
                return Verdict()
            gap = Gap(self.topic, self.last + 1, previous)
        self._lossy = False
        self.last = sequence
        return Verdict((message, *self._drain()), gap)

    def subscribed(self, top: int, epoch: str, *, recovered: bool, durable: bool = False) -> bool:
        """Take in the answer to a subscription; say whether the stream is another one.

        Where `since` was sent, the missed events follow, so the position stays: `top` only says
        how far there is to go.

        Args:
            durable: without `since` the gateway goes on from a position that it does not name,
                so the first event has to say where that is.
        """
        renewed = self.epoch is not None and self.last is not None and self.reset(epoch)
        self.epoch = epoch
        self._lossy = self.last is not None and not recovered
        if self.last is None and not durable:
            self.last = top
        self.top = max(self.top, top)
        return renewed

    def skip(self, to_seq: int) -> tuple[Message, ...] | None:
        """Move on over sequences that can no longer be had.

        Returns:
            What to deliver after them; None when that was known already.
        """
        self._lossy = False
        if self.last is not None and to_seq <= self.last:
            return None
        covered = [message for message in self.held if (message.seq_no or 0) <= to_seq]
        del self.held[: len(covered)]
        self.last = to_seq
        self.top = max(self.top, to_seq)
        return (*covered, *self._drain())

    def give_up(self) -> Verdict:
        """Stop waiting for a hole to be filled."""
        if self.last is None or not self.behind:
            return Verdict()
        to_seq = (self.held[0].prev_seq_no or 0) if self.held else self.top
        gap = Gap(self.topic, self.last + 1, to_seq)
        self.last = to_seq
        return Verdict(self._drain(), gap)

    def reset(self, epoch: str) -> bool:
        """Forget the position, unless it is of that stream already; say whether it was not."""
        if epoch == self.epoch:
            return False
        self.epoch = epoch
        self.last = self.top = 0
        self.held.clear()
        self._lossy = False
        return True

    def restart(self) -> None:
        """Forget what is held: after a reconnect it is all sent again from `last` on."""
        self.held.clear()
        self.top = self.last or 0
        self._lossy = False

    def _hold(self, message: Message) -> None:
        sequence = message.seq_no or 0
        index = bisect.bisect_left(self.held, sequence, key=lambda one: one.seq_no or 0)
        if index < len(self.held) and self.held[index].seq_no == sequence:
            return
        if len(self.held) < self._limit:
            self.held.insert(index, message)

    def _drain(self) -> tuple[Message, ...]:
        """Return the held events that are in order now."""
        ready = []
        while self.held and (self.held[0].prev_seq_no or 0) <= (self.last or 0):
            message = self.held.pop(0)
            if (message.seq_no or 0) > (self.last or 0):
                self.last = message.seq_no
                ready.append(message)
        return tuple(ready)
