"""The fan-out: whatever layer, bridges and stream do, a topic arrives whole and in order."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from channels.exceptions import ChannelFull

from realtime import delivery as delivery_module
from realtime.bridge import Bridge
from realtime.broker import Broker, connected
from realtime.delivery import AckPolicy
from realtime.embedded import NatsServer
from realtime.fanout import Fanout
from realtime.feed import JOIN_BYTES, JOIN_TURNS
from realtime.history import PAGE_EVENTS, History
from realtime.layers import InProcessChannelLayer
from realtime.protocol.exceptions import CloseCode, Unavailable
from realtime.protocol.messages import Event
from realtime.protocol.subjects import Subjects, group_for
from realtime.protocol.websocket import frame_text
from tests.support.waiting import DEADLINE, until

from .support import (
    DURABLE,
    OPEN,
    TOPIC,
    FakeSocket,
    MemoryHistory,
    QueueingLayer,
    World,
    chained,
    deliver,
    event,
    fanout_over,
    settled,
    store,
    stream_api,
    turns,
)


def in_order(socket: FakeSocket) -> bool:
    """Say whether each message names the one before it as its predecessor."""
    messages = socket.of("message")
    return all(
        one["seqNo"] == two["prevSeqNo"] < two["seqNo"] for one, two in itertools.pairwise(messages)
    )


# Live.


async def test_event_reaches_every_socket_of_its_topic_framed_once(world: World) -> None:
    sockets = [FakeSocket() for _ in range(3)]
    for socket in sockets:
        await world.join(socket)
    (one,) = await world.publish()
    await until(lambda: all(socket.frames for socket in sockets))
    for socket in sockets:
        assert socket.wire == frame_text(one.text)
        assert socket.sequences == [1]


async def test_events_of_one_turn_are_one_write(world: World) -> None:
    socket = FakeSocket()
    await world.join(socket)
    await world.publish(50)
    await until(lambda: len(socket.frames) == 50)
    assert socket.writes < 10
    assert socket.sequences == list(range(1, 51))


async def test_events_of_turns_that_follow_each_other_are_one_write(world: World) -> None:
    socket = FakeSocket()
    feed = (await world.join(socket)).feed
    for number in range(1, JOIN_TURNS + 1):
        feed.push(event(number, number - 1))
        await asyncio.sleep(0)
    assert socket.writes == 0
    await turns()
    assert (socket.writes, socket.sequences) == (1, list(range(1, JOIN_TURNS + 1)))


async def test_events_that_never_pause_are_written_all_the_same(world: World) -> None:
    socket = FakeSocket()
    feed = (await world.join(socket)).feed
    for number in range(1, 100):
        feed.push(event(number, number - 1))
        await asyncio.sleep(0)
        assert number - len(socket.sequences) <= JOIN_TURNS + 1
    await turns()
    assert socket.sequences == list(range(1, 100))


async def test_much_text_waits_for_no_more(world: World) -> None:
    socket = FakeSocket()
    feed = (await world.join(socket)).feed
    feed.push(msgspec.structs.replace(event(1, 0), text=b"x" * JOIN_BYTES))
    await asyncio.sleep(0)
    assert socket.writes == 1


async def test_event_of_another_topic_is_not_delivered(world: World) -> None:
    socket = FakeSocket()
    await world.join(socket)
    await world.fanout.join("room.other")
    await world.publish(topic="room.other")
    await world.publish()
    await until(lambda: socket.frames)
    assert socket.sequences == [2]


async def test_event_stamped_ahead_of_this_clock_counts_as_delivered_at_once(world: World) -> None:
    socket = FakeSocket()
    await world.join(socket)
    ahead = int(time.time() * 1000) + 3_600_000
    await world.relay(msgspec.structs.replace(event(1, 0), timestamp=ahead))
    await until(lambda: socket.frames)
    latency = world.fanout.metrics.latency
    assert (latency.count, latency.total) == (1, 0.0)


async def test_ephemeral_event_is_delivered_and_asks_no_stream(world: World) -> None:
    socket = FakeSocket()
    feed = await world.fanout.join("live.score")
    deliver(feed, socket)
    for _ in range(3):
        await world.relay(event(0, 0, "live.score"))
    await until(lambda: len(socket.frames) == 3)
    assert world.history.asked == []


async def test_join_starts_at_the_top(world: World) -> None:
    world.history.store(count=5)
    socket = FakeSocket()
    delivery = await world.join(socket)
    assert delivery.position == 5
    await world.publish()
    await until(lambda: socket.frames)
    assert socket.sequences == [6]


async def test_join_stream_away_is_unavailable_and_works_later(world: World) -> None:
    world.history.failing.add("top")
    with pytest.raises(Unavailable) as caught:
        await world.fanout.join(TOPIC)
    assert caught.value.topic == TOPIC
    world.history.failing.clear()
    socket = FakeSocket()
    await world.join(socket)
    await world.publish()
    await until(lambda: socket.frames)


@pytest.mark.parametrize("error", [ChannelFull("full"), OSError("gone"), RuntimeError("odd")])
async def test_join_layer_that_fails_is_unavailable(world: World, error: Exception) -> None:
    async def broken(group: str, channel: str) -> None:
        raise error

    world.layer.group_add = broken  # type: ignore[method-assign]
    results = await asyncio.gather(
        *(world.fanout.join(TOPIC) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(one, Unavailable) for one in results)
    assert not world.fanout.feeds


async def test_event_while_joining_is_kept(world: World) -> None:
    """It comes between the group being joined and the top being known."""
    gate = world.history.gates["top"] = asyncio.Event()
    socket = FakeSocket()
    joining = asyncio.create_task(world.join(socket, 0))
    await until(lambda: "top" in world.history.asked)
    await world.publish(3)
    await turns()
    gate.set()
    await joining
    await world.publish()
    await until(lambda: socket.sequences == [1, 2, 3, 4])
    assert "page" not in world.history.asked


async def test_receive_layer_that_fails_is_tried_again_and_checked() -> None:
    world = World(QueueingLayer)
    await world.fanout.start()
    socket = FakeSocket()
    await world.join(socket)
    await world.layer.group_send(group_for(TOPIC), {"type": "gateway.event", "event": b"garbage"})
    world.history.store()
    await until(lambda: socket.sequences == [1])
    await world.publish()
    await until(lambda: socket.sequences == [1, 2])
    await world.fanout.stop()


async def test_stranger_in_the_group_neither_fails_nor_stops_what_follows(world: World) -> None:
    """Groups have plain names, so another consumer of the project may send to one."""
    socket = FakeSocket()
    await world.join(socket)
    await world.layer.group_send(group_for(TOPIC), {"type": "somebody.elses", "event": b"other"})
    await world.publish()
    await until(lambda: socket.sequences == [1])


# Order and repair.


@pytest.mark.parametrize("seed", range(5))
async def test_two_bridges_reordering_and_repeating_are_put_right(world: World, seed: int) -> None:
    """Each bridge keeps its order; between them anything goes, and some come by both."""
    shuffle = random.Random(seed)
    socket = FakeSocket()
    await world.join(socket)
    events = world.history.store(count=200)
    queues: list[list[Event]] = [[], []]
    for one in events:
        for queue in shuffle.choice([queues[:1], queues[1:], queues]):
            queue.append(one)
    while any(queues):
        queue = shuffle.choice([one for one in queues if one])
        await world.relay(queue.pop(0))
        if shuffle.random() < 0.2:
            await turns(3)
    await until(lambda: len(socket.sequences) == 200)
    assert socket.sequences == list(range(1, 201))
    assert in_order(socket)
    assert not socket.of("gap")


async def test_late_event_within_the_hold_needs_no_stream() -> None:
    world = World(hold=5.0)
    await world.fanout.start()
    socket = FakeSocket()
    await world.join(socket)
    one, two = world.history.store(count=2)
    await world.relay(two)
    await turns()
    assert socket.frames == []
    await world.relay(one)
    await until(lambda: len(socket.frames) == 2)
    assert socket.sequences == [1, 2]
    assert "page" not in world.history.asked
    await world.fanout.stop()


@pytest.mark.parametrize("every", [2, 3, 10])
async def test_layer_that_drops_is_repaired_from_the_stream(every: int) -> None:
    world = World(check_interval=0.05)
    await world.fanout.start()
    world.layer.loses = lambda event: event.sequence % every == 0
    socket = FakeSocket()
    await world.join(socket)
    for _ in range(20):
        await world.publish(10)
        await turns(2)
    await until(lambda: len(socket.sequences) == 200)
    assert socket.sequences == list(range(1, 201))
    assert world.layer.lost
    assert not socket.of("gap")
    await world.fanout.stop()


async def test_lost_last_event_is_found_by_the_top_check() -> None:
    world = World(check_interval=0.05)
    await world.fanout.start()
    socket = FakeSocket()
    await world.join(socket)
    world.history.store()
    await until(lambda: socket.sequences == [1])
    await world.fanout.stop()


async def test_check_soon_finds_what_was_lost_at_once(world: World) -> None:
    """What is called when the layer or NATS was away; the usual check is an hour off here."""
    socket = FakeSocket()
    await world.join(socket)
    world.history.store(count=3)
    world.fanout.check_soon()
    await until(lambda: socket.sequences == [1, 2, 3])


async def test_check_nothing_new_asks_for_no_tops() -> None:
    world = World(check_interval=0.01)
    await world.fanout.start()
    await world.join(FakeSocket())
    await until(lambda: world.history.asked.count("info") > 10)
    assert world.history.asked.count("tops") <= 2
    await world.fanout.stop()


@pytest.mark.parametrize("failing", ["info", "tops", "page"])
async def test_check_that_fails_is_made_again(failing: str) -> None:
    """Nothing else may be published before: the next event must not be what reveals the loss."""
    world = World(check_interval=0.02)
    await world.fanout.start()
    socket = FakeSocket()
    await world.join(socket)
    world.history.failing.add(failing)
    world.history.store()
    await until(lambda: failing in world.history.failed)
    world.history.failing.clear()
    await until(lambda: socket.sequences == [1], what="the lost event")
    await world.fanout.stop()


async def test_hole_that_cannot_be_had_is_told_as_a_gap(world: World) -> None:
    socket = FakeSocket()
    await world.join(socket)
    await world.publish(2)
    world.history.store(count=3)
    world.history.discard(4)
    await world.publish()
    await until(lambda: socket.sequences[-1:] == [6])
    (gap,) = socket.of("gap")
    assert (gap["topic"], gap["fromSeq"], gap["toSeq"]) == (TOPIC, 3, 4)
    assert [frame.get("seqNo", "gap") for frame in socket.frames] == [1, 2, "gap", 5, 6]


async def test_hole_of_a_lagging_replica_is_read_again(world: World) -> None:
    """Direct get may be behind what was just stored: that is no gap."""
    socket = FakeSocket()
    await world.join(socket)
    one, two, three = world.history.store(count=3)
    held = world.history.topics[TOPIC]
    held.remove(one)
    await world.relay(two, three)
    await until(lambda: world.history.asked.count("page") >= 2)
    held.insert(0, one)
    await until(lambda: socket.sequences == [1, 2, 3])
    assert not socket.of("gap")


async def test_burst_over_the_layers_capacity_is_repaired() -> None:
    world = World(QueueingLayer, check_interval=0.05)
    world.layer.capacity = 100
    await world.fanout.start()
    socket = FakeSocket()
    await world.join(socket)
    await world.publish(1_000)
    await until(lambda: len(socket.sequences) == 1_000)
    assert world.layer.dropped == 900
    assert socket.sequences == list(range(1, 1_001))
    await world.fanout.stop()


async def test_long_hole_is_delivered_page_by_page() -> None:
    """Memory holds a page of it, not all; whoever keeps up is served as it is read."""
    world = World(ring_events=1)
    await world.fanout.start()
    socket = FakeSocket()
    await world.join(socket)
    world.history.store(count=1_000)
    gate = world.history.gates["page"] = asyncio.Event()
    world.fanout.check_soon()
    await until(lambda: "page" in world.history.asked)
    # The first page may go; the second one waits.
    gate.set()
    world.history.gates["page"] = asyncio.Event()
    await until(lambda: socket.sequences)
    assert socket.sequences == list(range(1, PAGE_EVENTS + 1))
    world.history.gates["page"].set()
    await until(lambda: len(socket.sequences) == 1_000)
    assert socket.sequences == list(range(1, 1_001))
    await world.fanout.stop()


async def test_long_hole_fills_no_buffer_of_a_socket_that_is_slower() -> None:
    world = World(ring_events=1)
    await world.fanout.start()
    slow, quick = FakeSocket(), FakeSocket()
    await world.join(slow)
    await world.join(quick)
    slow.writable.clear()
    world.history.store(count=1_000)
    world.fanout.check_soon()
    await until(lambda: len(quick.sequences) == 1_000)
    assert len(slow.sequences) <= PAGE_EVENTS
    slow.writable.set()
    await until(lambda: len(slow.sequences) == 1_000)
    assert slow.sequences == quick.sequences == list(range(1, 1_001))
    await world.fanout.stop()


# A new stream.


async def test_stream_recreated_is_told_and_starts_anew() -> None:
    world = World(check_interval=0.02)
    await world.fanout.start()
    sockets = [FakeSocket(), FakeSocket()]
    await world.join(sockets[0])
    await world.join(sockets[1], ack=AckPolicy(60, 5, 100))
    await world.publish(5)
    await until(lambda: all(len(socket.sequences) == 5 for socket in sockets))
    # The first check learns the epoch.
    await until(lambda: world.history.asked.count("tops") >= 1)
    world.history.recreate("2026-06-01T00:00:00Z")
    await world.publish(2)
    for socket in sockets:
        await until(lambda socket=socket: len(socket.sequences) == 7)
        assert [frame.get("seqNo", frame["type"]) for frame in socket.frames] == [
            *range(1, 6),
            "reset",
            1,
            2,
        ]
        (reset,) = socket.of("reset")
        assert (reset["topic"], reset["epoch"]) == (TOPIC, world.history.epoch)
    await world.fanout.stop()


async def test_stream_recreated_while_the_window_is_full_starts_anew() -> None:
    """What waited for an acknowledgement is of the old stream: nothing will free the window."""
    world = World(check_interval=0.02)
    await world.fanout.start()
    socket = FakeSocket()
    await world.join(socket, ack=AckPolicy(60, 5, 2))
    await world.publish(2)
    await until(lambda: len(socket.sequences) == 2)
    await until(lambda: world.history.asked.count("tops") >= 1)
    world.history.recreate("2026-06-01T00:00:00Z")
    await until(lambda: socket.of("reset"))
    await world.publish(2)
    await until(lambda: socket.sequences == [1, 2, 1, 2])
    await world.fanout.stop()


async def test_stream_recreated_while_a_page_is_read_delivers_nothing_of_the_old_one() -> None:
    """An old page must not move the cursor: it would hide as many events of the new stream."""
    world = World(check_interval=0.02, ring_events=1)
    await world.fanout.start()
    world.history.store(count=20)
    socket = FakeSocket()
    gate = world.history.gates["page"] = asyncio.Event()
    delivery = await world.join(socket, 0)
    await until(lambda: "page" in world.history.asked)
    await until(lambda: world.history.asked.count("tops") >= 1)
    world.history.recreate("2026-06-01T00:00:00Z")
    await until(lambda: socket.of("reset"))
    gate.set()
    await turns()
    await world.publish(3)
    await until(lambda: socket.sequences[-1:] == [3])
    assert [frame.get("seqNo", frame["type"]) for frame in socket.frames] == ["reset", 1, 2, 3]
    assert delivery.position <= 3
    await world.fanout.stop()


async def test_stream_recreated_while_a_hole_is_read_delivers_nothing_of_the_old_one() -> None:
    world = World(check_interval=0.02)
    await world.fanout.start()
    socket = FakeSocket()
    await world.join(socket)
    await until(lambda: world.history.asked.count("tops") >= 1)
    world.history.store(count=20)
    gate = world.history.gates["page"] = asyncio.Event()
    await until(lambda: "page" in world.history.asked)
    world.history.recreate("2026-06-01T00:00:00Z")
    await until(lambda: socket.of("reset"))
    # The first of the new stream is lost on its way, so that there is a hole again.
    _, two = world.history.store(count=2)
    await world.relay(two)
    await turns()
    gate.set()
    await until(lambda: socket.sequences[-1:] == [2])
    await world.publish()
    await until(lambda: socket.sequences[-1:] == [3])
    assert [frame.get("seqNo", frame["type"]) for frame in socket.frames] == ["reset", 1, 2, 3]
    await world.fanout.stop()


# Catching up.


async def test_since_a_position_is_caught_up_and_goes_live(world: World) -> None:
    world.history.store(count=600)
    socket = FakeSocket()
    await world.join(socket, 100)
    await until(lambda: len(socket.sequences) == 500)
    await world.publish()
    await until(lambda: len(socket.sequences) == 501)
    assert socket.sequences == list(range(101, 602))


@pytest.mark.parametrize("seed", range(5))
async def test_since_while_published_has_no_seam(seed: int) -> None:
    """A page ends where live begins, at any timing of the two."""
    chance = random.Random(seed)
    world = World(ring_events=chance.choice([1, 16, 128]))
    await world.fanout.start()
    await world.join(FakeSocket())
    sockets: list[FakeSocket] = []
    for _ in range(100):
        await world.publish(chance.randint(1, 5))
        await turns(chance.randint(0, 4))
        if chance.random() < 0.2:
            sockets.append(FakeSocket())
            await world.join(sockets[-1], 0)
    top = world.history.last
    for socket in sockets:
        await until(lambda socket=socket: len(socket.sequences) >= top)
        assert socket.sequences == list(range(1, top + 1))
        assert in_order(socket)
    await world.fanout.stop()


async def test_since_history_that_fails_is_told_once_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "MAX_WAIT", 0.01)
    world.history.store(count=3)
    world.history.failing.add("page")
    socket = FakeSocket()
    await world.join(socket, 0)
    await until(lambda: world.history.asked.count("page") >= 3)
    world.history.failing.clear()
    await until(lambda: socket.sequences == [1, 2, 3])
    assert [(one["code"], one["topic"]) for one in socket.of("error")] == [("UNAVAILABLE", TOPIC)]


async def test_since_discarded_is_told_as_a_gap(world: World) -> None:
    world.history.store(count=10)
    world.history.discard(6)
    socket = FakeSocket()
    await world.join(socket, 2)
    await until(lambda: socket.sequences == [7, 8, 9, 10])
    (gap,) = socket.of("gap")
    assert (gap["fromSeq"], gap["toSeq"]) == (3, 6)
    assert socket.frames[0] == gap


async def test_since_event_that_vanished_is_told_as_a_gap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator deleted just that one: the stream does not say so by its first."""
    monkeypatch.setattr(delivery_module, "MAX_WAIT", 0.01)
    world.history.store(count=3)
    socket = FakeSocket()
    feed = await world.fanout.join(TOPIC)
    del world.history.topics[TOPIC][2]
    deliver(feed, socket, 0)
    await until(lambda: socket.of("gap"))
    assert socket.sequences == [1, 2]
    (gap,) = socket.of("gap")
    assert (gap["fromSeq"], gap["toSeq"]) == (3, 3)


async def test_slow_socket_reads_history_at_its_own_pace(world: World) -> None:
    world.history.store(count=1_000)
    slow, quick = FakeSocket(), FakeSocket()
    slow.writable.clear()
    await world.join(slow, 0)
    await world.join(quick, 0)
    await until(lambda: len(quick.sequences) == 1_000)
    assert len(slow.sequences) == 0
    slow.writable.set()
    await until(lambda: len(slow.sequences) == 1_000)


async def test_same_page_for_many_is_read_once(world: World) -> None:
    """A storm of sockets that come back with the same position is one request to the stream."""
    world.history.store(count=PAGE_EVENTS)
    feed = await world.fanout.join(TOPIC)
    world.history.gates["page"] = asyncio.Event()
    sockets = [FakeSocket() for _ in range(50)]
    for socket in sockets:
        deliver(feed, socket, 0)
    await turns()
    world.history.gates["page"].set()
    await until(lambda: all(len(socket.sequences) == PAGE_EVENTS for socket in sockets))
    assert world.history.asked.count("page") == 1


async def test_same_page_that_fails_is_told_to_each(world: World) -> None:
    world.history.store(count=3)
    feed = await world.fanout.join(TOPIC)
    world.history.failing.add("page")
    sockets = [FakeSocket() for _ in range(3)]
    for socket in sockets:
        deliver(feed, socket, 0)
    await until(lambda: all(socket.of("error") for socket in sockets))
    world.history.failing.clear()
    await until(lambda: all(socket.sequences == [1, 2, 3] for socket in sockets))


async def test_ahead_of_the_topic_waits_for_what_follows(world: World) -> None:
    """The client has been served by another process that is further on."""
    world.history.store(count=2)
    socket = FakeSocket()
    await world.join(socket, 4)
    await world.publish(4)
    await until(lambda: socket.sequences == [5, 6])


async def test_stop_while_catching_up_writes_nothing_more(world: World) -> None:
    world.history.store(count=10)
    gate = world.history.gates["page"] = asyncio.Event()
    socket = FakeSocket()
    delivery = await world.join(socket, 0)
    await until(lambda: "page" in world.history.asked)
    world.leave(delivery)
    gate.set()
    await turns()
    await world.publish()
    await turns()
    assert socket.frames == []


async def test_stop_live_gets_what_came_before_and_nothing_after(world: World) -> None:
    socket, other = FakeSocket(), FakeSocket()
    delivery = await world.join(socket)
    await world.join(other)
    await world.publish()
    await until(lambda: other.frames)
    world.leave(delivery)
    await world.publish()
    await until(lambda: len(other.frames) == 2)
    assert socket.sequences == [1]


# Replay.


async def test_rewind_sends_again_and_goes_on(world: World) -> None:
    socket = FakeSocket()
    delivery = await world.join(socket)
    await world.publish(5)
    await until(lambda: len(socket.sequences) == 5)
    delivery.rewind(2)
    await until(lambda: len(socket.sequences) == 8)
    await world.publish()
    await until(lambda: len(socket.sequences) == 9)
    assert socket.sequences == [1, 2, 3, 4, 5, 3, 4, 5, 6]


async def test_rewind_beyond_the_end_hides_nothing_that_follows(world: World) -> None:
    """There is nothing to send again; what comes next has to come all the same."""
    socket = FakeSocket()
    delivery = await world.join(socket)
    await world.publish(2)
    await until(lambda: len(socket.sequences) == 2)
    delivery.rewind(10)
    await turns()
    await world.publish(2)
    await until(lambda: socket.sequences == [1, 2, 3, 4])


async def test_rewind_twice_at_once_sends_each_event_once_more(world: World) -> None:
    socket = FakeSocket()
    delivery = await world.join(socket)
    await world.publish(3)
    await until(lambda: len(socket.sequences) == 3)
    delivery.rewind(1)
    delivery.rewind(1)
    await world.publish()
    await until(lambda: socket.sequences[-1:] == [4])
    assert socket.sequences == [1, 2, 3, 2, 3, 4]


# The ring, lingering, leaving.


async def test_ring_serves_a_short_absence_without_the_stream(world: World) -> None:
    socket = FakeSocket()
    delivery = await world.join(socket)
    await world.publish(3)
    await until(lambda: len(socket.sequences) == 3)
    world.leave(delivery)
    await world.publish(4)
    await turns()
    world.history.asked.clear()
    await world.join(socket, 3)
    await until(lambda: socket.sequences == list(range(1, 8)))
    assert world.history.asked == []


async def test_ring_too_short_asks_the_stream() -> None:
    world = World(ring_events=3)
    await world.fanout.start()
    await world.join(FakeSocket())
    await world.publish(10)
    await turns()
    socket = FakeSocket()
    await world.join(socket, 2)
    await until(lambda: len(socket.sequences) == 8)
    assert socket.sequences == list(range(3, 11))
    assert "page" in world.history.asked
    await world.fanout.stop()


async def test_linger_rejoin_joins_no_group_again(world: World) -> None:
    first = await world.join(FakeSocket())
    world.leave(first)
    world.fanout.check_soon()
    await until(lambda: "info" in world.history.asked)
    await world.join(FakeSocket())
    assert world.layer.added == [group_for(TOPIC)]
    assert world.layer.discarded == []


async def test_linger_over_leaves_the_group_and_forgets_the_topic() -> None:
    world = World(linger=0.0, check_interval=0.01)
    await world.fanout.start()
    delivery = await world.join(FakeSocket())
    world.leave(delivery)
    await until(lambda: world.layer.discarded == [group_for(TOPIC)])
    assert not world.fanout.feeds
    assert world.fanout.ring_bytes == 0
    await world.fanout.stop()


async def test_linger_over_but_one_socket_left_stays() -> None:
    world = World(linger=0.0, check_interval=0.01)
    await world.fanout.start()
    first, socket = await world.join(FakeSocket()), FakeSocket()
    await world.join(socket)
    world.leave(first)
    await until(lambda: world.history.asked.count("info") > 5)
    await world.publish()
    await until(lambda: socket.frames)
    assert world.layer.discarded == []
    await world.fanout.stop()


async def test_rejoin_while_leaving_waits_and_misses_nothing() -> None:
    """A late group_discard must not undo the new group_add."""
    world = World(linger=0.0, check_interval=0.01)
    world.layer.discarding = asyncio.Event()
    await world.fanout.start()
    world.leave(await world.join(FakeSocket()))
    await until(lambda: world.layer.discarded)
    socket = FakeSocket()
    joining = asyncio.create_task(world.join(socket))
    await turns()
    assert not joining.done()
    world.layer.discarding.set()
    await joining
    await world.publish(3)
    await until(lambda: socket.sequences == [1, 2, 3])
    await world.fanout.stop()


@pytest.mark.parametrize("seed", range(3))
async def test_joining_and_leaving_at_random_loses_nothing(seed: int) -> None:
    chance = random.Random(seed)
    world = World(linger=0.0, check_interval=0.005)
    await world.fanout.start()
    done = asyncio.Event()

    async def visit() -> None:
        joined = world.history.last
        socket = FakeSocket()
        delivery = await world.join(socket, joined)
        upto = joined + chance.randint(1, 5)
        await until(lambda: socket.sequences[-1:] >= [upto] or done.is_set())
        assert socket.sequences == list(range(joined + 1, joined + 1 + len(socket.sequences)))
        world.leave(delivery)

    async def come_and_go() -> None:
        while not done.is_set():
            await visit()
            await asyncio.sleep(chance.random() * 0.01)

    tasks = [asyncio.create_task(come_and_go()) for _ in range(4)]
    for _ in range(200):
        await world.publish()
        await asyncio.sleep(chance.random() * 0.004)
    done.set()
    await asyncio.gather(*tasks)
    await until(lambda: world.layer.discarded)
    await world.fanout.stop()


async def test_join_given_up_meanwhile_leaves_the_others_joined(world: World) -> None:
    gate = world.history.gates["top"] = asyncio.Event()
    socket = FakeSocket()
    gone = asyncio.create_task(world.join(FakeSocket()))
    stays = asyncio.create_task(world.join(socket))
    await until(lambda: "top" in world.history.asked)
    gone.cancel()
    gate.set()
    await stays
    await world.publish()
    await until(lambda: socket.frames)
    assert world.fanout.feeds[TOPIC].holders == 1


# QoS 1.


async def test_qos1_window_holds_back_until_acknowledged(world: World) -> None:
    socket = FakeSocket()
    delivery = await world.join(socket, ack=AckPolicy(60, 5, 4))
    for _ in range(10):
        await world.publish()
        await turns(3)
    await until(lambda: len(socket.sequences) >= 4)
    await turns()
    assert socket.sequences == [1, 2, 3, 4]
    assert delivery.acknowledge(2, upto=True)
    await until(lambda: len(socket.sequences) >= 6)
    await turns()
    assert socket.sequences == [1, 2, 3, 4, 5, 6]
    delivery.acknowledge(4, upto=False)
    await until(lambda: socket.sequences[-1] == 7)
    delivery.acknowledge(10, upto=True)
    await until(lambda: socket.sequences[-1] == 10)
    assert socket.sequences == list(range(1, 11))
    assert socket.repeats == []


async def test_qos1_burst_of_one_turn_stays_within_the_window(world: World) -> None:
    socket = FakeSocket()
    delivery = await world.join(socket, ack=AckPolicy(60, 5, 4))
    await world.publish(10)
    await until(lambda: socket.sequences)
    await turns()
    assert socket.sequences == [1, 2, 3, 4]
    delivery.acknowledge(4, upto=True)
    await until(lambda: len(socket.sequences) == 8)
    assert socket.sequences == list(range(1, 9))


@pytest.mark.parametrize("ring_events", [1, 128])
async def test_qos1_history_stays_within_the_window(ring_events: int) -> None:
    world = World(ring_events=ring_events)
    await world.fanout.start()
    await world.join(FakeSocket())
    await world.publish(10)
    await turns()
    socket = FakeSocket()
    delivery = await world.join(socket, 0, ack=AckPolicy(60, 5, 4))
    await until(lambda: len(socket.sequences) >= 4)
    await turns()
    assert socket.sequences == [1, 2, 3, 4]
    for upto in (4, 8):
        delivery.acknowledge(upto, upto=True)
        await until(lambda upto=upto: len(socket.sequences) == min(upto + 4, 10))
    assert socket.sequences == list(range(1, 11))
    await world.fanout.stop()


async def test_qos1_first_page_stays_within_the_window(world: World) -> None:
    """What `subscribe` has read already is handed to `start`, however much it is."""
    from realtime.delivery import Delivery

    events = world.history.store(count=10)
    socket = FakeSocket()
    feed = await world.fanout.join(TOPIC)
    delivery = Delivery(feed, socket, 0, ack=AckPolicy(60, 5, 4))
    delivery.start(events)
    await turns()
    assert socket.sequences == [1, 2, 3, 4]
    delivery.acknowledge(4, upto=True)
    await until(lambda: socket.sequences == list(range(1, 9)))


async def test_qos1_unacknowledged_is_redelivered_and_marked(world: World) -> None:
    socket = FakeSocket()
    delivery = await world.join(socket, ack=AckPolicy(0.03, 100, 10))
    await world.publish(2)
    await until(lambda: socket.repeats.count(1) >= 2 and socket.repeats.count(2) >= 2)
    assert socket.sequences == [1, 2]
    first = socket.of("message")[0]
    again = next(one for one in socket.of("message") if one.get("redelivered"))
    assert again == {**first, "redelivered": True}
    delivery.acknowledge(1, upto=False)
    seen = socket.repeats.count(1)
    await until(lambda: socket.repeats.count(2) >= 5)
    assert socket.repeats.count(1) == seen
    assert socket.closed is None


async def test_qos1_acknowledged_is_not_redelivered(world: World) -> None:
    class Acknowledging(FakeSocket):
        """Acknowledges in the next turn of the loop, which no timer that is set now is ahead of."""

        def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
            super().write(frames, texts)
            acknowledge = partial(delivery.acknowledge, 3, upto=True)
            asyncio.get_running_loop().call_soon(acknowledge)

    acknowledged, fence = Acknowledging(), FakeSocket()
    delivery = await world.join(acknowledged, ack=AckPolicy(0.02, 100, 10))
    await world.join(fence, ack=AckPolicy(0.02, 100, 10))
    await world.publish(3)
    await until(lambda: len(acknowledged.sequences) == 3)
    await until(lambda: len(fence.repeats) >= 9)
    assert acknowledged.repeats == []


async def test_qos1_never_acknowledged_is_closed_after_its_tries(world: World) -> None:
    socket = FakeSocket()
    await world.join(socket, ack=AckPolicy(0.01, 3, 10))
    await world.publish()
    await until(lambda: socket.closed is not None)
    assert socket.closed is not None
    assert socket.closed[0] == CloseCode.ACK_LOST
    assert socket.sequences == [1]
    assert socket.repeats == [1, 1]


async def test_qos1_acknowledge_unknown_says_so(world: World) -> None:
    socket = FakeSocket()
    delivery = await world.join(socket, ack=AckPolicy(60, 5, 10))
    await world.publish(2)
    await until(lambda: len(socket.sequences) == 2)
    assert not delivery.acknowledge(7, upto=False)
    assert delivery.acknowledge(1, upto=False)
    assert not delivery.acknowledge(1, upto=False)
    assert not delivery.acknowledge(1, upto=True)


async def test_qos1_on_ack_tells_up_to_where_all_is_acknowledged(world: World) -> None:
    told: list[int] = []
    socket = FakeSocket()
    delivery = await world.join(socket, ack=AckPolicy(60, 5, 10))
    delivery.on_ack = told.append
    await world.publish(4)
    await until(lambda: len(socket.sequences) == 4)
    delivery.acknowledge(2, upto=False)
    delivery.acknowledge(1, upto=False)
    delivery.acknowledge(4, upto=False)
    delivery.acknowledge(3, upto=True)
    assert told == [0, 2, 2, 4]


async def test_qos1_stop_redelivers_nothing_more(world: World) -> None:
    stopped, fence = FakeSocket(), FakeSocket()
    delivery = await world.join(stopped, ack=AckPolicy(0.02, 100, 10))
    await world.join(fence, ack=AckPolicy(0.02, 100, 10))
    await world.publish()
    await until(lambda: stopped.sequences == [1])
    world.leave(delivery)
    seen = len(stopped.frames)
    await until(lambda: len(fence.repeats) >= 3)
    assert len(stopped.frames) == seen


async def test_qos1_message_id_finds_the_unacknowledged(world: World) -> None:
    socket = FakeSocket()
    delivery = await world.join(socket, ack=AckPolicy(60, 5, 10))
    await world.relay(event(1, 0, message_id="a"), event(2, 1, message_id="b"))
    await until(lambda: len(socket.sequences) == 2)
    assert delivery.sequence_of("b") == 2
    assert delivery.sequence_of("c") is None
    delivery.acknowledge(2, upto=False)
    assert delivery.sequence_of("b") is None


# On a real stream.


class Real:
    """A fan-out as a web process has it: in-process bridge and layer, a real stream."""

    def __init__(self, broker: Broker, history: History, **options: Any) -> None:
        self.layer = InProcessChannelLayer()
        bridge = Bridge(
            broker,
            self.layer,
            Subjects("gateway"),
            durable_topics=DURABLE,
            open_topics=OPEN,
        )
        self.fanout: Fanout = fanout_over(self.layer, history, bridge, **options)
        broker.on_reconnect.append(self.fanout.check_soon)


async def test_real_seam_between_history_and_live_loses_and_repeats_nothing(
    broker: Broker, history: History, nats_server: NatsServer
) -> None:
    real = Real(broker, history, ring_events=8, linger=0.0, check_interval=0.05)
    await real.fanout.start()
    sockets: list[FakeSocket] = []
    async with connected(nats_server.url, name="backend") as backend:

        async def publish() -> None:
            for number in range(600):
                await backend.store(TOPIC, str(number).encode(), headers=None, timeout=DEADLINE)

        publishing = asyncio.create_task(publish())
        while not publishing.done():
            socket = FakeSocket()
            deliver(await real.fanout.join(TOPIC), socket, 0)
            sockets.append(socket)
            await asyncio.sleep(0.02)
        await publishing
    assert len(sockets) > 3
    for socket in sockets:
        await until(lambda socket=socket: len(socket.sequences) >= 600)
        assert socket.sequences == list(range(1, 601))
        assert in_order(socket)
        assert not socket.of("gap")
    await real.fanout.stop()


async def test_real_server_killed_and_restarted_while_publishing_loses_nothing(
    broker: Broker, history: History, nats_server: NatsServer
) -> None:
    real = Real(broker, history, check_interval=0.2)
    await real.fanout.start()
    socket = FakeSocket()
    deliver(await real.fanout.join(TOPIC), socket)
    stored = 0
    async with connected(nats_server.url, name="backend") as backend:

        async def publish(count: int) -> int:
            sequence = 0
            for number in range(count):
                headers = {"Nats-Msg-Id": f"{stored}-{number}"}
                async with asyncio.timeout(DEADLINE):
                    while True:
                        try:
                            confirmed = await backend.store(
                                TOPIC, b"1", headers=headers, timeout=0.5
                            )
                        except Unavailable:
                            await asyncio.sleep(0.02)
                        else:
                            sequence = confirmed.sequence
                            break
            return sequence

        stored = await publish(100)
        publishing = asyncio.create_task(publish(200))
        await until(lambda: len(socket.sequences) > 110)
        nats_server.kill()
        nats_server.start()
        stored = await publishing
    await until(lambda: socket.sequences[-1] == stored)
    assert stored == 300
    assert socket.sequences == list(range(1, 301))
    assert not socket.of("gap")
    await real.fanout.stop()


async def test_real_stream_recreated_is_told_and_starts_anew(
    broker: Broker, history: History
) -> None:
    real = Real(broker, history, check_interval=0.05)
    await real.fanout.start()
    socket = FakeSocket()
    deliver(await real.fanout.join(TOPIC), socket)
    await store(broker, TOPIC, 3)
    await until(lambda: len(socket.sequences) == 3)
    epoch = history.epoch
    await stream_api(broker, "DELETE", "TEST")
    await until(lambda: socket.of("reset"))
    assert socket.of("reset")[0]["epoch"] == history.epoch != epoch
    await store(broker, TOPIC, 2)
    await until(lambda: socket.sequences == [1, 2, 3, 1, 2])
    await real.fanout.stop()


async def test_real_topic_left_is_no_longer_subscribed(
    broker: Broker, history: History, nats_server: NatsServer
) -> None:
    real = Real(broker, history, linger=0.0, check_interval=0.01)
    await real.fanout.start()
    feed = await real.fanout.join(TOPIC)
    before = len(broker._subscriptions)
    real.fanout.leave(feed)
    await until(lambda: len(broker._subscriptions) == before - 1)
    await settled(broker)
    await real.fanout.stop()


def test_memory_history_agrees_with_the_contract_of_pages() -> None:
    """The stand-in must say `complete` and `more` as the stream's history does."""

    async def pages() -> list[tuple[list[int], bool, bool]]:
        history = MemoryHistory()
        history.store(count=10)
        history.discard(4)
        asked = [(0, 256), (3, 256), (4, 256), (4, 2), (8, 2), (10, 5)]
        found = [await history.page(TOPIC, after, limit=limit) for after, limit in asked]
        return [([one.sequence for one in page.events], page.complete, page.more) for page in found]

    assert asyncio.run(pages()) == [
        ([5, 6, 7, 8, 9, 10], False, False),
        ([5, 6, 7, 8, 9, 10], False, False),
        ([5, 6, 7, 8, 9, 10], True, False),
        ([5, 6], True, True),
        ([9, 10], True, False),
        ([], True, False),
    ]
    assert [one.previous for one in chained([3, 5])] == [0, 3]
