"""The chain: sequence state of one topic. What may be delivered, dropped, held or fetched.

Every stored event names the sequence before it on its topic (JetStream's republish headers),
so a missing one shows at once. Events reach here late, twice or in any order; what leaves is
in order and once. The chain does no I/O: it says which hole to fetch and takes what was found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .messages import Event

MAX_HELD = 1024
"""Events held behind a hole; later ones are let go and fetched with the hole."""


class Hole(NamedTuple):
    """Sequences greater than `after`, up to `upto`, are missing."""

    after: int
    upto: int


class Chain:
    """The order of one topic.

    Args:
        last: the sequence that counts as delivered: the topic's top when it is joined.
    """

    __slots__ = ("_held", "last", "top")

    def __init__(self, last: int) -> None:
        self.last = last
        self.top = last
        self._held: dict[int, Event] = {}

    def receive(self, event: Event) -> list[Event]:
        """Take an event as it arrives; return what may be delivered now, in order."""
        if event.sequence <= self.last:
            return []
        self.top = max(self.top, event.sequence)
        if event.previous > self.last:
            self._hold(event)
            return []
        self.last = event.sequence
        if not self._held:
            return [event]
        return [event, *self._release()]

    def expect(self, top: int) -> None:
        """Learn that the stream holds an event with this sequence on the topic."""
        self.top = max(self.top, top)

    @property
    def hole(self) -> Hole | None:
        """What has to be fetched before anything else can be delivered."""
        if self.top <= self.last:
            return None
        if self._held:
            return Hole(self.last, self._held[min(self._held)].previous)
        return Hole(self.last, self.top)

    def fill(self, hole: Hole, events: Iterable[Event], *, complete: bool) -> list[Event | Hole]:
        """Take what the stream still holds of a hole; return what may be delivered now.

        Args:
            hole: what was asked for.
            events: those found, in order of sequence.
            complete: nothing between `hole.after` and the first of them has been discarded.

        Returns:
            Events in order, and in their place among them the holes that cannot be had.
        """
        deliverable: list[Event | Hole] = []
        for event in events:
            if event.sequence <= self.last:
                continue
            if not complete and event.sequence > self.last + 1:
                deliverable.append(Hole(self.last, event.sequence - 1))
            complete = True
            self.last = event.sequence
            deliverable.append(event)
        if hole.upto > self.last:
            # An event with that sequence was seen or announced, and it is not coming.
            deliverable.append(Hole(self.last, hole.upto))
            self.last = hole.upto
        self.top = max(self.top, self.last)
        deliverable.extend(self._release())
        return deliverable

    def _hold(self, event: Event) -> None:
        held = self._held
        held[event.sequence] = event
        if len(held) > MAX_HELD:
            # The newest goes: `top` remembers it, so the hole after the held ones is fetched.
            del held[max(held)]

    def _release(self) -> list[Event]:
        """Return the held events that follow on what was delivered, and forget repeats."""
        released: list[Event] = []
        for sequence in sorted(self._held):
            event = self._held[sequence]
            if sequence > self.last:
                if event.previous > self.last:
                    break
                self.last = sequence
                released.append(event)
            del self._held[sequence]
        return released
