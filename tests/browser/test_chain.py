"""chain.js: the sequence state of one topic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PRELUDE = """
    const event = (seqNo, prevSeqNo = seqNo - 1) => ({ topic: "t", seqNo, prevSeqNo, data: seqNo });
    const take = (chain, ...args) => {
        const { deliver, gap, repeat } = chain.accept(event(...args));
        return { deliver: deliver.map(({ seqNo }) => seqNo), gap, repeat };
    };
"""


@pytest.fixture
def chain(module: Callable[..., Any]) -> Callable[..., Any]:
    return lambda body, arg=None: module("chain", PRELUDE + body, arg)


def test_accept_in_order_delivers_each(chain):
    got = chain("""
        const chain = new m.Chain({ last: 4 });
        return [take(chain, 5), take(chain, 9, 5), chain.last, chain.behind];
    """)
    assert [verdict["deliver"] for verdict in got[:2]] == [[5], [9]]
    assert got[2:] == [9, False]


def test_accept_repeat_is_dropped_and_said(chain):
    got = chain("const chain = new m.Chain({ last: 5 }); return take(chain, 5);")
    assert got == {"deliver": [], "gap": None, "repeat": True}


def test_accept_ephemeral_delivers_without_moving(chain):
    got = chain("""
        const chain = new m.Chain({ last: 5 });
        const { deliver } = chain.accept({ topic: "t", seqNo: null, prevSeqNo: null, data: "x" });
        return [deliver.length, chain.last];
    """)
    assert got == [1, 5]


def test_accept_first_ever_starts_there(chain):
    got = chain("const chain = new m.Chain(); return [take(chain, 7, 3).deliver, chain.last];")
    assert got == [[7], 7]


def test_accept_behind_hole_is_held_until_filled_then_in_order(chain):
    got = chain("""
        const chain = new m.Chain({ last: 1 });
        return [take(chain, 5), take(chain, 4), chain.behind,
            take(chain, 2), take(chain, 3), chain.behind].map((v) => v.deliver ?? v);
    """)
    assert got == [[], [], True, [2], [3, 4, 5], False]


def test_accept_over_limit_is_let_go_but_remembered(chain):
    got = chain("""
        const chain = new m.Chain({ last: 1, limit: 2 });
        for (const sequence of [3, 4, 5, 6]) take(chain, sequence);
        const first = take(chain, 2).deliver;
        return [first, chain.behind, chain.top, take(chain, 5).deliver, take(chain, 6).deliver];
    """)
    assert got == [[2, 3, 4], True, 6, [5], [6]]


def test_subscribed_without_since_joins_at_the_top(chain):
    got = chain("""
        const chain = new m.Chain();
        chain.subscribed({ seqNo: 40, epoch: "e", recovered: true });
        return [chain.last, chain.epoch, chain.behind];
    """)
    assert got == [40, "e", False]


def test_subscribed_with_since_keeps_position_and_waits(chain):
    got = chain("""
        const chain = new m.Chain({ last: 38, epoch: "e" });
        chain.subscribed({ seqNo: 40, epoch: "e", recovered: true });
        return [chain.last, chain.behind, take(chain, 39).deliver, take(chain, 40).deliver,
            chain.behind];
    """)
    assert got == [38, True, [39], [40], False]


def test_subscribed_not_recovered_reports_gap_with_next_event(chain):
    got = chain("""
        const chain = new m.Chain({ last: 10, epoch: "e" });
        chain.subscribed({ seqNo: 40, epoch: "e", recovered: false });
        return take(chain, 40, 30);
    """)
    assert got == {"deliver": [40], "gap": {"fromSeq": 11, "toSeq": 30}, "repeat": False}


def test_subscribed_with_other_epoch_starts_anew(chain):
    got = chain("""
        const chain = new m.Chain({ last: 38, epoch: "old" });
        const renewed = chain.subscribed({ seqNo: 2, epoch: "new", recovered: false });
        return [renewed, chain.last, chain.epoch, take(chain, 1).deliver];
    """)
    assert got == [True, 0, "new", [1]]


def test_skip_moves_on_and_delivers_what_was_held(chain):
    got = chain("""
        const chain = new m.Chain({ last: 1 });
        take(chain, 6, 5);
        const seqs = (messages) => messages && messages.map(({ seqNo }) => seqNo);
        return [seqs(chain.skip({ fromSeq: 2, toSeq: 5 })), chain.last,
            seqs(chain.skip({ fromSeq: 2, toSeq: 5 }))];
    """)
    assert got == [[6], 6, None]


def test_give_up_names_the_hole_up_to_the_first_held(chain):
    got = chain("""
        const chain = new m.Chain({ last: 1 });
        take(chain, 6, 5); take(chain, 9, 8);
        const first = chain.giveUp(), second = chain.giveUp();
        return [first.gap, first.deliver.length, second.gap, second.deliver.length, chain.behind];
    """)
    assert got == [{"fromSeq": 2, "toSeq": 5}, 1, {"fromSeq": 7, "toSeq": 8}, 1, False]


def test_reset_forgets_the_position_once(chain):
    got = chain("""
        const chain = new m.Chain({ last: 90, epoch: "old" });
        return [chain.reset("new"), take(chain, 1).deliver, chain.reset("new"), chain.last];
    """)
    assert got == [True, [1], False, 1]


def test_rewind_delivers_again(chain):
    got = chain("""
        const chain = new m.Chain({ last: 9 });
        chain.rewind(8);
        return [chain.behind, take(chain, 10).deliver, take(chain, 8).deliver,
            take(chain, 9).deliver];
    """)
    assert got == [True, [], [8], [9, 10]]


def test_restart_forgets_held_events_only(chain):
    got = chain("""
        const chain = new m.Chain({ last: 1 });
        take(chain, 3);
        chain.restart();
        return [chain.last, chain.held.length, chain.behind];
    """)
    assert got == [1, 0, False]


def test_accept_any_order_with_repeats_delivers_each_once_in_order(chain):
    """Shuffle, repeat, limit: whatever arrives, and is asked for again, comes out whole."""
    wrong = chain("""
        let seed = 42;
        const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
        for (let round = 0; round < 400; round += 1) {
            const events = [];
            for (let sequence = 0, i = 0; i < 30; i += 1) {
                const previous = sequence;
                sequence += 1 + Math.floor(random() * 4);
                events.push(event(sequence, previous));
            }
            const chain = new m.Chain({ last: 0, limit: 1 + Math.floor(random() * 12) });
            const arriving = [...events, ...events.filter(() => random() < 0.3)]
                .map((one) => [random(), one]).sort((a, b) => a[0] - b[0]).map(([, one]) => one);
            const out = [];
            const feed = (one) => out.push(...chain.accept(one).deliver.map(({ seqNo }) => seqNo));
            arriving.forEach(feed);
            for (let i = 0; chain.behind && i < 40; i += 1)
                events.filter(({ seqNo }) => seqNo > chain.last).forEach(feed);
            if (out.join() !== events.map(({ seqNo }) => seqNo).join()) return { round, out };
        }
        return null;
    """)
    assert wrong is None
