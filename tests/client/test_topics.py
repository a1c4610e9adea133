"""Topics of the client: in order, once, over reconnects, with bounded queues."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from realtime.client import (
    Dropped,
    Gap,
    NoAnswer,
    PresenceChange,
    Refused,
    Reset,
    Unsubscribed,
)
from realtime.client.options import Timing

from ..support.waiting import DEADLINE, until
from .conftest import TIMING

TOPIC = "room.a"


async def take(messages, count: int) -> list[int]:
    return [(await messages.get(DEADLINE)).data for _ in range(count)]


async def test_messages_come_in_order_and_once(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC)
    for seq, prev in ((1, 0), (3, 2), (2, 1), (3, 2), (4, 3), (1, 0)):
        peer.message(TOPIC, seq, prev)
    assert await take(messages, 4) == [1, 2, 3, 4]
    assert (messages.position, messages.epoch) == (4, "e1")


async def test_pattern_brings_the_messages_of_its_topics(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, "room.*", top=3)
    peer.message(TOPIC, 5, 2, pattern="room.*")
    peer.message("room.b", 6, 0, pattern="room.*")
    peer.message(TOPIC, 7, 5)  # by a subscription that is not held
    peer.message(TOPIC, 8, 5, pattern="room.*")
    got = [await messages.get(DEADLINE) for _ in range(3)]
    assert [(each.topic, each.seq_no) for each in got] == [(TOPIC, 5), ("room.b", 6), (TOPIC, 8)]
    assert {each.pattern for each in got} == {"room.*"}
    assert messages.position == 8


async def test_hole_is_asked_for_and_filled(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, top=3)
    peer.message(TOPIC, 6)
    frame = await one.expect(peer, "replay")
    assert frame["fromSeq"] == 4
    for seq in (4, 5, 6):
        peer.message(TOPIC, seq)
    assert await take(messages, 3) == [4, 5, 6]
    assert one.notices == []


async def test_hole_that_stays_becomes_a_gap(scripted):
    one = scripted(timing=replace(TIMING, replay=0.1))
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, top=3)
    peer.message(TOPIC, 6)
    for _ in range(2):
        await one.expect(peer, "replay")
    assert await take(messages, 1) == [6]
    assert one.notices == [Gap(TOPIC, 4, 5)]


async def test_gap_and_reset_are_told_in_their_place(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC)
    peer.message(TOPIC, 1)
    peer.send("gap", topic=TOPIC, fromSeq=2, toSeq=4)
    peer.message(TOPIC, 5)
    peer.send("reset", topic=TOPIC, epoch="e2")
    peer.message(TOPIC, 1)
    assert await take(messages, 1) == [1]
    assert one.notices == []
    assert await take(messages, 1) == [5]
    assert one.notices == [Gap(TOPIC, 2, 4)]
    assert await take(messages, 1) == [1]
    assert one.notices[1:] == [Reset(TOPIC, "e2")]
    assert (messages.position, messages.epoch) == (1, "e2")


async def test_reconnect_resumes_from_where_it_was_left(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, top=3)
    peer.message(TOPIC, 4)
    assert await take(messages, 1) == [4]
    peer.drop()
    peer = await one.ready()
    frame = await asyncio.to_thread(peer.subscribed, 6)
    assert (frame["since"], frame["epoch"]) == (4, "e1")
    for seq in (4, 5, 6):
        peer.message(TOPIC, seq)
    assert await take(messages, 2) == [5, 6]
    assert one.notices == []


async def test_subscribe_while_away_joins_when_connected(scripted):
    one = scripted()
    one.client.start()
    joining = asyncio.create_task(one.client.subscribe(TOPIC, since=7, epoch="e1"))
    peer = await one.ready()
    frame = await asyncio.to_thread(peer.subscribed, 7)
    assert (frame["topic"], frame["since"]) == (TOPIC, 7)
    assert (await joining).joined


async def test_subscribe_refused_raises_and_is_not_held(scripted):
    one = scripted()
    peer = await one.open()
    joining = asyncio.create_task(one.client.subscribe(TOPIC))
    frame = await one.expect(peer, "subscribe")
    peer.send("error", id=frame["id"], code="ACL_DENIED", message="No rule.", topic=TOPIC)
    with pytest.raises(Refused, match=r"No rule\.") as refused:
        await joining
    assert refused.value.code == "ACL_DENIED"
    assert one.client.topics == ()


async def test_subscribe_unavailable_is_asked_again(scripted):
    one = scripted()
    peer = await one.open()
    joining = asyncio.create_task(one.client.subscribe(TOPIC))
    frame = await one.expect(peer, "subscribe")
    peer.send("error", id=frame["id"], code="UNAVAILABLE", message="Later.", topic=TOPIC)
    await asyncio.to_thread(peer.subscribed, 0)
    assert (await joining).joined


async def test_subscribe_unanswered_passes_its_deadline(scripted):
    one = scripted(timing=Timing(reply=0.1))
    await one.open()
    with pytest.raises(NoAnswer, match=r"within 0\.1 s"):
        await one.client.subscribe(TOPIC)
    assert one.client.topics == ()


async def test_subscribe_twice_is_a_mistake(scripted):
    one = scripted()
    peer = await one.open()
    await one.subscribe(peer, TOPIC)
    with pytest.raises(ValueError, match="already"):
        await one.client.subscribe(TOPIC)


@pytest.mark.parametrize("options", [{"qos": 2}, {"ack": "never"}, {"queue": 0}])
async def test_subscribe_wrong_option_is_a_mistake(scripted, options):
    one = scripted()
    await one.open()
    with pytest.raises(ValueError, match="qos is 0 or 1"):
        await one.client.subscribe(TOPIC, **options)


@pytest.mark.parametrize("reason", ["acl", "server"])
async def test_unsubscribed_by_the_gateway_ends_after_what_was_received(scripted, reason):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC)
    peer.message(TOPIC, 1)
    peer.send("unsubscribed", topic=TOPIC, reason=reason)
    await until(lambda: one.client.topics == ())
    assert await take(messages, 1) == [1]
    with pytest.raises(Unsubscribed) as ended:
        await messages.get(DEADLINE)
    assert ended.value.reason == reason


async def test_rejoin_refused_after_a_reconnect_ends_the_iteration(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC)
    peer.drop()
    peer = await one.ready()
    frame = await one.expect(peer, "subscribe")
    peer.send("error", id=frame["id"], code="ACL_DENIED", message="No rule.", topic=TOPIC)
    with pytest.raises(Unsubscribed) as ended:
        await messages.get(DEADLINE)
    assert ended.value.reason == "ACL_DENIED"


async def test_unsubscribe_ends_the_iteration_quietly(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC)
    leaving = asyncio.create_task(one.client.unsubscribe(TOPIC))
    frame = await one.expect(peer, "unsubscribe")
    peer.send("unsubscribed", id=frame["id"], topic=TOPIC, reason="client")
    await leaving
    assert [one async for one in messages] == []
    await one.client.unsubscribe(TOPIC)  # nothing happens


async def test_full_queue_leaves_the_topic_and_comes_back_without_loss(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, queue=4)
    for seq in range(1, 11):
        peer.message(TOPIC, seq)
    await one.expect(peer, "unsubscribe")
    assert len(messages._queue) == 4
    assert await take(messages, 2) == [1, 2]
    frame = await asyncio.to_thread(peer.subscribed, 10)
    assert frame["since"] == 4
    for seq in range(5, 8):
        peer.message(TOPIC, seq)
    assert await take(messages, 5) == [3, 4, 5, 6, 7]
    assert one.notices == []


async def test_full_queue_of_an_ephemeral_topic_drops_and_says_so(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, "live.a", queue=2)
    fields = {"topic": "live.a", "messageId": "m", "ts": 0}
    for number in range(5):
        peer.send("message", **fields, data=number)
    peer.send("pong")
    await until(lambda: messages._dropped == 3)
    assert await take(messages, 2) == [0, 1]
    peer.send("message", **fields, data=9)
    assert await take(messages, 1) == [9]
    assert one.notices == [Dropped("live.a", 3)]


async def test_granted_topic_that_nobody_asked_for_is_left_alone(scripted):
    one = scripted()
    peer = await one.open(subscriptions=[TOPIC])
    peer.send("subscribed", topic=TOPIC, seqNo=5, epoch="e1", recovered=True)
    peer.message(TOPIC, 6)
    messages = await one.subscribe(peer, TOPIC, top=6)
    peer.message(TOPIC, 7)
    assert await take(messages, 1) == [7]


# QoS 1


async def test_qos_1_auto_confirms_when_the_next_is_asked_for(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, qos=1)
    peer.message(TOPIC, 1)
    peer.message(TOPIC, 2)
    await take(messages, 2)
    assert await one.expect(peer, "ack") == {"type": "ack", "topic": TOPIC, "seqNo": 1}


async def test_qos_1_manual_confirms_when_told(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, qos=1, ack="manual")
    for seq in (1, 2, 3):
        peer.message(TOPIC, seq)
    got = [await messages.get(DEADLINE) for _ in range(3)]
    one.client.ack(got[1])
    assert (await one.expect(peer, "ack"))["seqNo"] == 2


async def test_qos_1_reconnect_comes_back_from_what_was_confirmed(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, qos=1, ack="manual")
    for seq in (1, 2, 3):
        peer.message(TOPIC, seq)
    got = [await messages.get(DEADLINE) for _ in range(3)]
    messages.ack(got[0])
    await one.expect(peer, "ack")
    peer.drop()
    peer = await one.ready()
    frame = await asyncio.to_thread(peer.subscribed, 3)
    assert frame["since"] == 1
    for seq in (2, 3, 4):
        peer.message(TOPIC, seq)
    assert await take(messages, 1) == [4]  # 2 and 3 were taken before


async def test_qos_1_repeat_of_what_was_confirmed_is_confirmed_again(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, qos=1, ack="manual")
    peer.message(TOPIC, 1)
    messages.ack(await messages.get(DEADLINE))
    await one.expect(peer, "ack")
    peer.message(TOPIC, 1, redelivered=True)
    assert (await one.expect(peer, "ack"))["seqNo"] == 1


async def test_qos_1_event_of_a_stream_that_is_gone_is_not_confirmed(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, TOPIC, qos=1, top=9)
    peer.message(TOPIC, 10)
    peer.send("reset", topic=TOPIC, epoch="e2")
    for seq in (1, 2):
        peer.message(TOPIC, seq)
    await until(lambda: len(messages._queue) == 4)
    assert await take(messages, 3) == [10, 1, 2]
    assert (await one.expect(peer, "ack"))["seqNo"] == 1


async def test_durable_without_since_takes_what_the_gateway_goes_on_with(scripted):
    one = scripted()
    peer = await one.open()
    joining = asyncio.create_task(one.client.subscribe(TOPIC, durable="phone"))
    frame = await asyncio.to_thread(peer.subscribed, 5)
    assert frame["durable"] == "phone"
    messages = await joining
    for seq in (4, 5, 6):  # 4 and 5 were missed
        peer.message(TOPIC, seq)
    assert await take(messages, 3) == [4, 5, 6]


async def test_joins_and_leaves_are_told_and_asked_for_again_after_a_reconnect(scripted):
    one = scripted()
    peer = await one.open()
    changes = []
    task = asyncio.create_task(one.client.subscribe(TOPIC, on_presence=changes.append))
    frame = await asyncio.to_thread(peer.subscribed, 0)
    assert frame["presence"] is True
    await task
    joined = {"userId": "2", "info": {"name": "bob"}}
    peer.send("presence", topic=TOPIC, joined=[joined], left=["5"])
    await until(lambda: changes)
    assert changes == [PresenceChange(TOPIC, (joined,), ("5",))]
    peer.drop()
    again = await one.ready()
    assert (await asyncio.to_thread(again.subscribed, 0))["presence"] is True


async def test_topic_without_on_presence_does_not_ask_for_it(scripted):
    one = scripted()
    peer = await one.open()
    task = asyncio.create_task(one.client.subscribe(TOPIC))
    assert "presence" not in await asyncio.to_thread(peer.subscribed, 0)
    await task


async def test_on_presence_that_fails_is_logged_and_messages_come(scripted, caplog):
    one = scripted()
    peer = await one.open()
    task = asyncio.create_task(one.client.subscribe(TOPIC, on_presence=lambda change: 1 / 0))
    await asyncio.to_thread(peer.subscribed, 0)
    messages = await task
    peer.send("presence", topic=TOPIC, joined=[], left=["5"])
    peer.message(TOPIC, 1, 0)
    assert await take(messages, 1) == [1]
    assert "on_presence failed topic=room.a" in caplog.text
