"""The chain against a model: any loss, repeat, reordering and interleaving of fetches."""

from __future__ import annotations

from typing import NamedTuple
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from realtime.protocol import chain as chain_module
from realtime.protocol.chain import MAX_HELD, Chain, Hole
from realtime.protocol.messages import Event

from .support import chained, event

SMALL_MAX_HELD = 4


class Fetch(NamedTuple):
    """What the stream answered when it was asked for a hole."""

    hole: Hole
    events: list[Event]
    complete: bool


class ChainMachine(RuleBasedStateMachine):
    """A stream, a network that loses, repeats and reorders, and fetches answered in any order."""

    def __init__(self) -> None:
        super().__init__()
        # So that overflowing it is not out of reach of a short run.
        self.patched = mock.patch.object(chain_module, "MAX_HELD", SMALL_MAX_HELD)
        self.patched.start()
        self.begin(0)

    def teardown(self) -> None:
        self.patched.stop()

    def begin(self, top: int) -> None:
        """Start with a stream that holds nothing, joined at `top`."""
        self.chain = Chain(top)
        self.joined = top
        self.published: list[Event] = []
        self.stream: list[Event] = []
        self.wire: list[Event] = []
        self.fetches: list[Fetch] = []
        self.delivered: list[int] = []
        self.holes: list[Hole] = []

    @initialize(top=st.integers(0, 3))
    def join(self, top: int) -> None:
        self.begin(top)

    @rule(step=st.integers(1, 3))
    def publish(self, step: int) -> None:
        """Store an event; between two of a topic lie those of others."""
        previous = self.published[-1].sequence if self.published else self.joined
        made = event(previous + step, previous)
        self.published.append(made)
        self.stream.append(made)
        self.wire.append(made)

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """Hand over any event published so far: late, early, again; or never."""
        self.take(self.chain.receive(data.draw(st.sampled_from(self.wire))))

    @precondition(lambda self: self.stream)
    @rule(count=st.integers(1, 3))
    def discard(self, count: int) -> None:
        """The stream's limits discard the oldest."""
        del self.stream[:count]

    @precondition(lambda self: self.stream)
    @rule()
    def announce(self) -> None:
        """The top check tells what the stream holds."""
        self.chain.expect(self.stream[-1].sequence)

    @precondition(lambda self: self.chain.hole is not None)
    @rule()
    def ask(self) -> None:
        """Ask the stream for the hole; it answers as of now."""
        assert self.chain.hole is not None
        self.fetches.append(self.read(self.chain.hole))

    @precondition(lambda self: self.fetches)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """One of the answers arrives, perhaps long after the chain has moved on."""
        fetch = data.draw(st.sampled_from(self.fetches))
        self.fetches.remove(fetch)
        self.fill(fetch)

    @rule()
    def recreate(self) -> None:
        """The stream was deleted and made anew."""
        self.begin(0)

    @rule()
    def repair(self) -> None:
        """All is quiet: what the stream holds arrives to the last event."""
        if self.stream:
            self.chain.expect(self.stream[-1].sequence)
        for _ in range(len(self.published) + 1):
            if self.chain.hole is None:
                break
            self.fill(self.read(self.chain.hole))
        assert self.chain.hole is None
        assert not {one.sequence for one in self.stream} - set(self.delivered)

    @invariant()
    def delivered_in_order_and_once(self) -> None:
        assert self.delivered == sorted(set(self.delivered))
        assert set(self.delivered) <= {one.sequence for one in self.published}

    @invariant()
    def delivered_or_told(self) -> None:
        """Up to the chain's last, an event was delivered, or a hole was told and it is gone."""
        held = {one.sequence for one in self.stream}
        for one in self.published:
            if one.sequence > self.chain.last:
                break
            told = any(hole.after < one.sequence <= hole.upto for hole in self.holes)
            assert told is (one.sequence not in self.delivered), one
            assert not (told and one.sequence in held), one

    @invariant()
    def nothing_discarded_no_hole(self) -> None:
        assert not self.holes or len(self.stream) < len(self.published)

    def read(self, hole: Hole) -> Fetch:
        """Answer as the stream does."""
        found = [one for one in self.stream if hole.after < one.sequence <= hole.upto]
        first = found[0].sequence if found else hole.upto + 1
        held = {one.sequence for one in self.stream}
        gone = [one.sequence for one in self.published if one.sequence not in held]
        return Fetch(hole, found, not any(hole.after < one < first for one in gone))

    def fill(self, fetch: Fetch) -> None:
        self.take(self.chain.fill(fetch.hole, fetch.events, complete=fetch.complete))

    def take(self, ready: list[Event] | list[Event | Hole]) -> None:
        for one in ready:
            if isinstance(one, Hole):
                self.holes.append(one)
            else:
                self.delivered.append(one.sequence)


TestChainModel = ChainMachine.TestCase
TestChainModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def sequences(ready: list[Event] | list[Event | Hole]) -> list[int | Hole]:
    """Return the sequences of events, and holes as they are."""
    return [one if isinstance(one, Hole) else one.sequence for one in ready]


def test_receive_next_is_delivered() -> None:
    chain = Chain(4)
    assert sequences(chain.receive(event(7, 4))) == [7]
    assert chain.last == 7
    assert chain.hole is None


@pytest.mark.parametrize("sequence", [1, 4])
def test_receive_repeat_is_dropped(sequence: int) -> None:
    chain = Chain(4)
    assert chain.receive(event(sequence, 0)) == []
    assert chain.hole is None


def test_receive_early_is_held_and_follows_what_was_missing() -> None:
    one, two, three = chained([1, 5, 6])
    chain = Chain(0)
    assert chain.receive(three) == []
    assert chain.hole == Hole(0, 5)
    assert chain.receive(two) == []
    assert chain.hole == Hole(0, 1)
    assert sequences(chain.receive(one)) == [1, 5, 6]
    assert chain.hole is None


def test_receive_over_max_held_lets_the_newest_go_and_fetches_it_later() -> None:
    events = chained(range(1, MAX_HELD + 4))
    chain = Chain(0)
    for one in reversed(events[1:]):
        assert chain.receive(one) == []
    assert chain.hole == Hole(0, 1)
    kept = chain.fill(Hole(0, 1), events[:1], complete=True)
    assert sequences(kept) == list(range(1, MAX_HELD + 2))
    assert chain.hole == Hole(MAX_HELD + 1, MAX_HELD + 3)


def test_expect_lost_last_makes_a_hole() -> None:
    chain = Chain(3)
    chain.expect(9)
    assert chain.hole == Hole(3, 9)


@pytest.mark.parametrize("top", [0, 2, 3])
def test_expect_nothing_newer_makes_no_hole(top: int) -> None:
    chain = Chain(3)
    chain.expect(top)
    assert chain.hole is None
    assert chain.last == 3


def test_fill_discarded_head_tells_the_hole_before_the_rest() -> None:
    chain = Chain(2)
    chain.receive(event(9, 8))
    ready = chain.fill(Hole(2, 8), [event(6, 2), event(8, 6)], complete=False)
    assert sequences(ready) == [Hole(2, 5), 6, 8, 9]


def test_fill_nothing_held_tells_the_whole_hole_and_goes_on() -> None:
    chain = Chain(2)
    chain.receive(event(9, 8))
    assert sequences(chain.fill(Hole(2, 8), [], complete=False)) == [Hole(2, 8), 9]
    assert chain.hole is None


def test_fill_missing_tail_tells_it() -> None:
    chain = Chain(0)
    chain.expect(5)
    ready = chain.fill(Hole(0, 5), [event(1, 0), event(2, 1)], complete=True)
    assert sequences(ready) == [1, 2, Hole(2, 5)]


def test_fill_after_late_arrivals_delivers_nothing_twice() -> None:
    one, two, three = chained([1, 2, 3])
    chain = Chain(0)
    chain.receive(three)
    hole = chain.hole
    assert hole is not None
    chain.receive(one)
    chain.receive(two)
    assert chain.fill(hole, [one, two], complete=True) == []
    assert chain.last == 3
