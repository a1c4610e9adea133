"""Patterns: events of many topics in the order of the stream, whole, with one position."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from realtime import patterns
from realtime.broker import Broker
from realtime.fanout import Fanout
from realtime.history import History
from realtime.patterns import PatternFeed
from realtime.protocol.exceptions import BadTopic, TooManySubscriptions
from tests.support.waiting import until

from .support import CountingLayer, FakeSocket, deliver, fanout_over, store, stream_api


@pytest.fixture
def layer() -> CountingLayer:
    return CountingLayer()


@pytest.fixture
async def fanout(broker: Broker, history: History, layer: CountingLayer) -> AsyncIterator[Fanout]:
    fanout = fanout_over(layer, history, broker=broker)
    await fanout.start()
    yield fanout
    await fanout.stop()


async def watch(fanout: Fanout, pattern: str, position: int | None = None) -> FakeSocket:
    """Subscribe a socket to a pattern: from its top, or after a position."""
    socket = FakeSocket()
    deliver(await fanout.join(pattern), socket, position)
    return socket


def deaf(feed: Any, hears: Any = lambda: False) -> None:
    """Lose announcements of what the stream stored, unless `hears` says otherwise."""
    handler = feed.subscription.handler

    async def lossy(message: Any) -> None:
        if hears():
            await handler(message)

    feed.subscription.handler = lossy


async def test_events_of_many_topics_come_with_theirs_in_stream_order(
    fanout: Fanout, broker: Broker
) -> None:
    socket = await watch(fanout, "room.*")
    for topic in ("room.a", "room.b", "user.1.x", "room.a", "room.c", "room.a.deep"):
        await store(broker, topic)
    await until(lambda: len(socket.frames) == 4)
    assert [(one["topic"], one["seqNo"]) for one in socket.frames] == [
        ("room.a", 1),
        ("room.b", 2),
        ("room.a", 4),
        ("room.c", 5),
    ]
    assert {one["pattern"] for one in socket.frames} == {"room.*"}


async def test_previous_sequence_is_that_of_the_topic(fanout: Fanout, broker: Broker) -> None:
    await store(broker, "room.a")
    socket = await watch(fanout, "room.>")
    for topic in ("room.b", "room.a", "room.b", "room.a"):
        await store(broker, topic)
    await until(lambda: len(socket.frames) == 4)
    assert [(one["seqNo"], one["prevSeqNo"]) for one in socket.frames] == [
        (2, 0),
        (3, 1),
        (4, 2),
        (5, 3),
    ]


async def test_since_brings_everything_after_it_also_of_topics_that_are_new(
    fanout: Fanout, broker: Broker
) -> None:
    await store(broker, "room.a", 2)
    await store(broker, "room.b.c", 400)
    await store(broker, "room.a", 1)
    socket = await watch(fanout, "room.>", 1)
    await until(lambda: len(socket.frames) == 402)
    await store(broker, "room.d")
    await until(lambda: len(socket.frames) == 403)
    assert socket.sequences == list(range(2, 405))
    assert not socket.of("gap")
    # Each names one before it that the client had: none is a hole to whoever checks.
    seen: dict[str, int] = {}
    for one in socket.frames:
        assert one["prevSeqNo"] <= max(seen.get(one["topic"], 0), 1)
        seen[one["topic"]] = one["seqNo"]


async def test_pattern_joins_no_group(fanout: Fanout, broker: Broker, layer: CountingLayer) -> None:
    """So what bridges send to the layer does not depend on patterns."""
    socket = await watch(fanout, "room.>")
    await store(broker, "room.a")
    await until(lambda: socket.frames)
    assert layer.added == []


async def test_topic_and_pattern_on_one_socket_are_two_subscriptions(
    fanout: Fanout, broker: Broker
) -> None:
    socket = await watch(fanout, "room.*")
    feed = await fanout.join("room.a")
    deliver(feed, socket)
    (stored,) = await store(broker, "room.a")
    fanout.check_soon()  # No bridge relays here: the topic has it from the top check.
    await until(lambda: len(socket.frames) == 2)
    assert {one.get("pattern") for one in socket.frames} == {"room.*", None}
    assert {one["seqNo"] for one in socket.frames} == {stored.sequence}


async def test_lost_announcement_of_the_last_event_is_found_by_the_top_check(
    fanout: Fanout, broker: Broker
) -> None:
    socket = await watch(fanout, "room.*")
    deaf(fanout.feeds["room.*"])
    await store(broker, "room.new")
    fanout.check_soon()
    await until(lambda: socket.frames)
    assert [(one["topic"], one["seqNo"]) for one in socket.frames] == [("room.new", 1)]


async def test_lost_announcement_is_made_up_for_by_the_next_one(
    fanout: Fanout, broker: Broker
) -> None:
    socket = await watch(fanout, "room.*")
    hears = iter([False, False, True])
    deaf(fanout.feeds["room.*"], lambda: next(hears))
    for topic in ("room.a", "room.b", "room.c"):
        await store(broker, topic)
    await until(lambda: len(socket.frames) == 3)
    assert socket.sequences == [1, 2, 3]


@pytest.mark.parametrize("seed", range(4))
async def test_any_loss_of_announcements_leaves_order_and_nothing_out(
    fanout: Fanout, broker: Broker, seed: int
) -> None:
    chance = random.Random(seed)
    sockets = [await watch(fanout, pattern) for pattern in ("room.*", "room.a.>", "room.>")]
    for pattern in ("room.*", "room.a.>", "room.>"):
        deaf(fanout.feeds[pattern], lambda: chance.random() < 0.6)
    expected: list[list[int]] = [[], [], []]
    for _ in range(150):
        topic = chance.choice(["room.a", "room.b", "room.a.x", "room.a.x.y", "user.1.x"])
        (stored,) = await store(broker, topic)
        wanted = (
            topic in {"room.a", "room.b"},
            topic.startswith("room.a."),
            topic.startswith("room."),
        )
        for place, wants in zip(expected, wanted, strict=True):
            place += [stored.sequence] * wants
    fanout.check_soon()
    await until(lambda: [one.sequences for one in sockets] == expected)
    assert not any(socket.of("gap") for socket in sockets)


async def test_ephemeral_pattern_brings_what_passes(fanout: Fanout, broker: Broker) -> None:
    socket = await watch(fanout, "live.*")
    await broker.publish("live.score", b"1")
    await broker.publish("live.score.deep", b"2")
    await broker.publish("live.chat", b"3")
    await until(lambda: len(socket.frames) == 2)
    assert [(one["topic"], one["data"], one["pattern"]) for one in socket.frames] == [
        ("live.score", 1, "live.*"),
        ("live.chat", 3, "live.*"),
    ]


async def test_pattern_stored_in_part_is_bad(broker: Broker, history: History) -> None:
    fanout = fanout_over(CountingLayer(), history, broker=broker, durable_topics=("room.stored.>",))
    assert fanout.durable("room.stored.*")
    assert not fanout.durable("room.other.>")
    with pytest.raises(BadTopic, match="stored and topics that are not"):
        await fanout.join("room.>")
    assert not fanout.feeds


async def test_subject_that_is_no_topic_is_delivered_as_json(
    fanout: Fanout, broker: Broker
) -> None:
    socket = await watch(fanout, "room.>")
    await store(broker, 'room."},{')
    await until(lambda: socket.frames)
    assert socket.frames[0]["topic"] == 'room."},{'


async def test_left_pattern_is_heard_no_more(broker: Broker, history: History) -> None:
    """At once: a pattern that lingers would go on reading for nobody."""
    fanout = fanout_over(CountingLayer(), history, broker=broker)
    await fanout.start()
    before = len(broker._subscriptions)
    feed = await fanout.join("room.*")
    again = await fanout.join("room.*")
    assert len(broker._subscriptions) == before + 1
    fanout.leave(feed)
    assert "room.*" in fanout.feeds
    fanout.leave(again)
    await until(lambda: len(broker._subscriptions) == before)
    assert not fanout.feeds
    await fanout.stop()


async def test_left_pattern_can_be_joined_again_at_once(fanout: Fanout, broker: Broker) -> None:
    for _ in range(3):
        feed = await fanout.join("room.*")
        fanout.leave(feed)
    socket = await watch(fanout, "room.*")
    await store(broker, "room.a")
    await until(lambda: socket.frames)
    assert socket.sequences == [1]


async def test_process_hears_for_so_many_patterns_and_no_more(
    fanout: Fanout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "MAX_FOLLOWED", 2)
    held = [await fanout.join(pattern) for pattern in ("room.*", "room.>", "room.*")]
    with pytest.raises(TooManySubscriptions):
        await fanout.join("room.a.*")
    assert "room.a.*" not in fanout.feeds
    fanout.leave(held[1])
    assert await fanout.join("room.a.*")


async def test_forged_announcement_is_ignored(
    fanout: Fanout, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the stream may publish there; whoever does it all the same breaks nothing."""
    socket = await watch(fanout, "room.*")
    await broker.publish("gateway.relay.room.a", b"forged")
    await store(broker, "room.a")
    await until(lambda: socket.frames)
    assert socket.sequences == [1]
    assert "not from the stream" in caplog.text


# What is gone.


async def test_position_before_what_the_stream_holds_is_a_gap(
    fanout: Fanout, broker: Broker
) -> None:
    await store(broker, "room.a", 5)
    await stream_api(broker, "PURGE", "TEST", {"seq": 4})
    socket = await watch(fanout, "room.*", 1)
    await until(lambda: len(socket.frames) == 3)
    assert socket.of("gap") == [{"type": "gap", "topic": "room.*", "fromSeq": 2, "toSeq": 3}]
    assert socket.sequences == [4, 5]


async def test_pattern_without_events_on_an_old_stream_has_no_gap(
    fanout: Fanout, broker: Broker, history: History
) -> None:
    """Though the stream has long discarded what came before: nothing of it was the pattern's."""
    await store(broker, "user.1.x", 10)
    await stream_api(broker, "PURGE", "TEST", {"seq": 10})
    socket = await watch(fanout, "room.*")
    feed = fanout.feeds["room.*"]
    assert isinstance(feed, PatternFeed)
    feed.quiet(0, 10)  # As the top check finds.
    await store(broker, "room.a")
    await until(lambda: socket.frames)
    assert [one["type"] for one in socket.frames] == ["message"]


async def test_top_check_finds_until_where_a_pattern_is_quiet(
    fanout: Fanout, broker: Broker
) -> None:
    socket = await watch(fanout, "room.*")
    await store(broker, "user.1.x", 10)
    feed = fanout.feeds["room.*"]
    assert isinstance(feed, PatternFeed)

    async def quiet() -> bool:
        fanout.check_soon()
        return feed._quiet_upto == 10

    await until(quiet)
    await stream_api(broker, "PURGE", "TEST", {"seq": 10})
    await store(broker, "room.a")
    await until(lambda: socket.frames)
    assert [one["type"] for one in socket.frames] == ["message"]


async def test_quiet_stretch_ends_with_an_announcement_from_within(
    fanout: Fanout, broker: Broker
) -> None:
    """A replica may lag behind: what the check did not see is read all the same."""
    socket = await watch(fanout, "room.*")
    feed = fanout.feeds["room.*"]
    assert isinstance(feed, PatternFeed)
    feed.quiet(0, 5)
    await store(broker, "room.a", 2)
    await until(lambda: len(socket.frames) == 2)
    assert socket.sequences == [1, 2]


async def test_stream_recreated_is_a_reset_and_goes_on(
    fanout: Fanout, broker: Broker, history: History
) -> None:
    await store(broker, "room.a", 3)
    socket = await watch(fanout, "room.*")
    await stream_api(broker, "DELETE", "TEST")
    fanout.check_soon()
    await until(lambda: socket.of("reset"))
    assert socket.of("reset")[0]["topic"] == "room.*"
    await store(broker, "room.b")
    await until(lambda: socket.of("message"))
    assert socket.sequences == [1]
