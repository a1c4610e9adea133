"""Questions of the client: publish, request, history, refresh; deadlines and refusals."""

from __future__ import annotations

import asyncio

import pytest

from realtime.client import Disconnected, NoAnswer, QueueFull, Refused
from realtime.client.options import Timing
from realtime.client.outbox import MOST_LETTERS, WINDOW

TOPIC = "room.a"


async def test_publish_returns_the_confirmation(scripted):
    one = scripted()
    peer = await one.open()
    publishing = asyncio.create_task(one.client.publish(TOPIC, {"a": 1}, message_id="m"))
    frame = await one.expect(peer, "publish")
    assert (frame["topic"], frame["messageId"], frame["payload"]) == (TOPIC, "m", {"a": 1})
    peer.send("ack", id=frame["id"], messageId="m", status="duplicate", seqNo=4)
    done = await publishing
    assert (done.seq_no, done.duplicate) == (4, True)


async def test_publish_lost_on_the_way_is_sent_again_with_the_same_id(scripted):
    one = scripted()
    peer = await one.open()
    publishing = asyncio.create_task(one.client.publish(TOPIC, 1))
    first = await one.expect(peer, "publish")
    peer.drop()
    peer = await one.ready()
    again = await one.expect(peer, "publish")
    assert again == first
    peer.send("ack", id=again["id"], messageId=again["messageId"], status="ok", seqNo=1)
    assert (await publishing).seq_no == 1


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RATE_LIMITED"])
async def test_publish_refused_for_now_is_sent_again(scripted, code):
    one = scripted()
    peer = await one.open()
    publishing = asyncio.create_task(one.client.publish(TOPIC, 1))
    frame = await one.expect(peer, "publish")
    # RATE_LIMITED comes without a messageId: the frame was not looked at.
    peer.send("error", id=frame["id"], code=code, message="Later.")
    again = await one.expect(peer, "publish")
    peer.send("ack", id=again["id"], messageId=again["messageId"], status="ok")
    assert (await publishing).seq_no is None


async def test_publish_refused_for_good_raises(scripted):
    one = scripted()
    peer = await one.open()
    publishing = asyncio.create_task(one.client.publish(TOPIC, 1))
    frame = await one.expect(peer, "publish")
    fields = {"messageId": frame["messageId"], "topic": TOPIC}
    peer.send("error", id=frame["id"], code="ACL_DENIED", message="No rule.", **fields)
    with pytest.raises(Refused, match=r"No rule\."):
        await publishing


async def test_publish_not_confirmed_in_time_raises(scripted):
    one = scripted()
    await one.open()
    with pytest.raises(NoAnswer, match=r"not confirmed within 0\.05 s"):
        await one.client.publish(TOPIC, 1, timeout=0.05)


async def test_publish_the_window_holds_the_rest_back(scripted):
    one = scripted()
    peer = await one.open()
    tasks = [asyncio.create_task(one.client.publish(TOPIC, n)) for n in range(WINDOW + 3)]
    frames = [await one.expect(peer, "publish") for _ in range(WINDOW)]
    assert peer._frames.empty()
    for frame in frames:
        peer.send("ack", id=frame["id"], messageId=frame["messageId"], status="ok")
    for _ in range(3):
        frame = await one.expect(peer, "publish")
        peer.send("ack", id=frame["id"], messageId=frame["messageId"], status="ok")
    assert len(await asyncio.gather(*tasks)) == WINDOW + 3


async def test_publish_beyond_the_bound_is_not_taken(scripted):
    one = scripted()
    await one.open()
    tasks = [asyncio.create_task(one.client.publish(TOPIC, n)) for n in range(MOST_LETTERS)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match="try again later"):
        await one.client.publish(TOPIC, 1)
    await one.client.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_publish_that_closed_the_socket_as_too_big_is_refused(scripted):
    one = scripted()
    peer = await one.open()
    small = asyncio.create_task(one.client.publish(TOPIC, 1))
    big = asyncio.create_task(one.client.publish(TOPIC, "x" * 5000))
    await one.expect(peer, "publish")
    await one.expect(peer, "publish")
    await asyncio.to_thread(peer.close, 1009)
    with pytest.raises(Refused) as refused:
        await big
    assert refused.value.code == "TOO_LARGE"
    peer = await one.ready()
    frame = await one.expect(peer, "publish")
    assert frame["payload"] == 1
    peer.send("ack", id=frame["id"], messageId=frame["messageId"], status="ok")
    await small


async def test_request_says_which_way_it_failed(scripted):
    one = scripted()
    peer = await one.open()
    for code in ("NO_RESPONDER", "TIMEOUT"):
        asking = asyncio.create_task(one.client.request("rpc.x", {"a": 1}, timeout=30))
        frame = await one.expect(peer, "request")
        assert (frame["payload"], frame["timeout"]) == ({"a": 1}, 30)
        peer.send("error", id=frame["id"], code=code, message="…", topic="rpc.x")
        with pytest.raises(Refused) as refused:
            await asking
        assert (refused.value.code, refused.value.topic) == (code, "rpc.x")


async def test_request_over_a_lost_connection_says_so(scripted):
    one = scripted()
    peer = await one.open()
    asking = asyncio.create_task(one.client.request("rpc.x"))
    await one.expect(peer, "request")
    peer.drop()
    with pytest.raises(Disconnected):
        await asking


async def test_question_without_answer_passes_its_deadline(scripted):
    one = scripted(timing=Timing(reply=0.05))
    await one.open()
    with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
        await one.client.history(TOPIC)


async def test_question_while_away_is_asked_when_connected(scripted):
    one = scripted()
    one.client.start()
    asking = asyncio.create_task(one.client.history(TOPIC, limit=2, before=9))
    peer = await one.ready()
    frame = await one.expect(peer, "history")
    assert (frame["limit"], frame["before"]) == (2, 9)
    event = {"type": "message", "topic": TOPIC, "seqNo": 8, "prevSeqNo": 7, "messageId": "8"}
    peer.send("reply", id=frame["id"], data=[{**event, "data": "x", "ts": 5}])
    assert [(one.seq_no, one.data) for one in await asking] == [(8, "x")]


async def test_refresh_returns_the_new_session_and_keeps_the_topics(scripted):
    one = scripted()
    peer = await one.open()
    await one.subscribe(peer, TOPIC)
    refreshing = asyncio.create_task(one.client.refresh("new"))
    frame = await one.expect(peer, "refresh")
    peer.ready(id=frame["id"], expiresAt=99.0)
    assert (await refreshing).expires_at == 99.0
    assert peer._frames.empty()  # nothing was subscribed to anew
