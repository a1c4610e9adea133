"""The chain of the client, against a model of what a gateway may send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtime.client.chain import Chain
from realtime.client.frames import Gap, Message


def event(sequence: int, previous: int) -> Message:
    return Message("t", sequence, str(sequence), 0, sequence, previous)


def chain_of(sequences: list[int]) -> list[Message]:
    return [event(*pair) for pair in zip(sequences, [0, *sequences], strict=False)]


@given(
    sequences=st.sets(st.integers(1, 60), min_size=1).map(sorted),
    order=st.randoms(use_true_random=False),
    repeats=st.integers(0, 3),
)
def test_chain_any_order_and_repeats_delivers_each_once_in_order(sequences, order, repeats):
    sent = chain_of(sequences) * (repeats + 1)
    order.shuffle(sent)
    chain = Chain("t", last=0)
    got = [message.seq_no for one in sent for message in chain.accept(one).deliver]
    assert got == sequences
    assert not chain.behind


@given(
    sequences=st.sets(st.integers(1, 60), min_size=2).map(sorted),
    lost=st.data(),
)
def test_chain_lost_events_are_told_as_gaps_and_nothing_else_is_missing(sequences, lost):
    gone = lost.draw(st.sets(st.sampled_from(sequences)))
    chain = Chain("t", last=0)
    got, gaps = [], []

    def take(verdict):
        got.extend(message.seq_no for message in verdict.deliver)
        if verdict.gap is not None:
            gaps.append(verdict.gap)

    for one in chain_of(sequences):
        if one.seq_no not in gone:
            take(chain.accept(one))
    while chain.behind:
        take(chain.give_up())
    told = {seq for gap in gaps for seq in range(gap.from_seq, gap.to_seq + 1)}
    assert got == [seq for seq in sequences if seq not in gone]
    # What was lost behind the last one that came cannot show in a chain.
    assert {seq for seq in gone if got and seq < got[-1]} <= told
    assert not told & set(got)


def test_chain_beyond_the_limit_lets_go_but_stays_behind():
    chain = Chain("t", last=0, limit=2)
    for one in chain_of([1, 2, 3, 4, 5])[1:]:
        assert chain.accept(one).deliver == ()
    assert [one.seq_no for one in chain.held] == [2, 3]
    assert [one.seq_no for one in chain.accept(event(1, 0)).deliver] == [1, 2, 3]
    assert chain.behind


def test_chain_subscribed_without_since_begins_at_the_top():
    chain = Chain("t")
    chain.subscribed(7, "e", recovered=True)
    assert chain.accept(event(7, 5)).repeat
    assert chain.accept(event(9, 7)).deliver


def test_chain_durable_without_since_begins_where_the_first_event_says():
    chain = Chain("t")
    chain.subscribed(7, "e", recovered=True, durable=True)
    assert [one.seq_no for one in chain.accept(event(5, 3)).deliver] == [5]
    assert [one.seq_no for one in chain.accept(event(7, 5)).deliver] == [7]


def test_chain_another_epoch_forgets_the_position():
    chain = Chain("t", last=9, epoch="old")
    assert chain.subscribed(2, "new", recovered=False)
    assert [one.seq_no for one in chain.accept(event(1, 0)).deliver] == [1]


def test_chain_not_recovered_tells_the_gap_instead_of_holding():
    chain = Chain("t", last=3, epoch="e")
    chain.subscribed(9, "e", recovered=False)
    verdict = chain.accept(event(8, 6))
    assert verdict.gap == Gap("t", 4, 6)
    assert [one.seq_no for one in verdict.deliver] == [8]


def test_chain_skip_delivers_what_was_held_behind_the_gap():
    chain = Chain("t", last=1)
    chain.accept(event(5, 4))
    assert [one.seq_no for one in chain.skip(4) or ()] == [5]
    assert chain.skip(3) is None
