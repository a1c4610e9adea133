"""The test client and its recorder: against a gateway of a few lines."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from .support.client import TestClient
from .support.recorder import Recorder, Run
from .support.strict import strict_json
from .support.waiting import DEADLINE


async def handle(socket: ServerConnection) -> None:
    """Answer as a gateway would, or as the topic says."""
    async for text in socket:
        if isinstance(text, bytes):
            await socket.close(4503)
            return
        frame = json.loads(text)
        answer: dict[str, Any] = {"id": frame["id"]} if "id" in frame else {}
        topic = frame.get("topic")
        match frame["type"], topic:
            case "connect", _:
                if frame.get("token") == "wrong":
                    await socket.send('{"type":"error","code":"AUTH_FAILED","message":"No."}')
                    await socket.close(4500)
                    return
                answer |= {"type": "ready", "sessionId": "s", "got": sorted(frame)}
            case "subscribe", "room.denied":
                answer |= {"type": "error", "code": "ACL_DENIED", "message": "No.", "topic": topic}
            case "subscribe", "room.nan":
                await socket.send('{"type":"message","topic":"room.nan","data":NaN}')
                continue
            case "subscribe", "room.binary":
                await socket.send(b"{}")
                continue
            case "subscribe", _:
                answer |= {"type": "subscribed", "topic": topic, "since": frame.get("since")}
            case "publish", _:
                event = {"topic": topic, "messageId": frame["messageId"], "seqNo": 1}
                await socket.send(json.dumps({"type": "message", "prevSeqNo": 0, **event}))
                answer |= {"type": "ack", "status": "ok", **event}
            case "ping", _:
                answer |= {"type": "pong"}
        await socket.send(json.dumps(answer))


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Run the gateway and return its address."""
    async with serve(handle, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws/"


async def test_client_token_waits_for_ready(url: str) -> None:
    async with TestClient(url, token="t", connect_fields={"sessionId": "s"}) as client:
        assert client.ready["got"] == ["sessionId", "token", "type"]
        assert (await client.subscribe("room.1", since=4))["since"] == 4
    assert client.close_code == 1000


async def test_client_refused_tells_error_and_code(url: str) -> None:
    with pytest.raises(AssertionError, match=r"(?s)closed with 4500 .*AUTH_FAILED"):
        async with TestClient(url, token="wrong"):
            pass


async def test_client_without_connect_sends_nothing_by_itself(url: str) -> None:
    async with TestClient(url, connect=False) as client:
        await client.send("connect", token="wrong")
        assert (await client.expect("error"))["code"] == "AUTH_FAILED"
        await client.expect_close(4500)
        with pytest.raises(AssertionError, match="closed with 4500, not 4501"):
            await client.expect_close(4501)


async def test_ask_error_instead_fails_with_it(url: str) -> None:
    async with TestClient(url) as client:
        with pytest.raises(AssertionError, match=r"instead of subscribed .*ACL_DENIED"):
            await client.subscribe("room.denied")
        error = await client.error("subscribe", topic="room.denied")
        assert error["code"] == "ACL_DENIED"


async def test_expect_other_frames_stay_for_later(url: str) -> None:
    async with TestClient(url) as client:
        await client.publish("room.1", {"a": 1}, message_id="m1")
        await client.publish("room.2", {"a": 2}, message_id="m2")
        assert (await client.expect("message", topic="room.2"))["messageId"] == "m2"
        assert (await client.expect("message"))["messageId"] == "m1"
        with pytest.raises(AssertionError, match=r"no message \{\} within 0\.05 s"):
            await client.expect("message", timeout=0.05)
        assert client.recorder.ids("room.1") == ["m1"]


async def test_expect_nothing_finds_what_came_before_the_pong(url: str) -> None:
    async with TestClient(url) as client:
        await client.expect_nothing("message")
        await client.publish("room.1", 1)
        with pytest.raises(AssertionError, match="came unexpectedly"):
            await client.expect_nothing("message", topic="room.1")


@pytest.mark.parametrize("topic", ["room.nan", "room.binary"])
async def test_expect_what_is_no_strict_json_fails(url: str, topic: str) -> None:
    async with TestClient(url) as client:
        with pytest.raises(AssertionError) as caught:
            await client.subscribe(topic)
        assert isinstance(caught.value.__cause__, ValueError)


async def test_client_raw_access_sends_and_reads_anything(url: str) -> None:
    async with TestClient(url, connect=False, read=False) as client:
        await client.send_text('{"type":"ping","id":"x"}')
        assert json.loads(await client.recv()) == {"type": "pong", "id": "x"}
        await client.send_binary(b"\x00")
        assert await client.closed() == 4503


async def test_client_send_raw_goes_past_the_protocol(url: str) -> None:
    async with TestClient(url) as client:
        client.send_raw(b"\xff\xff\xff")
        assert await client.closed() == 1002


async def test_client_abort_leaves_without_a_close_frame(url: str) -> None:
    async with TestClient(url) as client:
        client.abort()
        assert await client.closed() == 1006


async def test_client_stop_reading_lets_the_server_wait() -> None:
    blocked = asyncio.Event()

    async def flood(socket: ServerConnection) -> None:
        while True:
            try:
                async with asyncio.timeout(0.3):
                    await socket.send("x" * 60_000)
            except TimeoutError:
                blocked.set()
                return

    async with serve(flood, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        address = f"ws://127.0.0.1:{port}/"
        client = TestClient(address, connect=False, read=False, receive_buffer=4096)
        async with client:
            await client.stop_reading()
            await asyncio.wait_for(blocked.wait(), DEADLINE)
            client.abort()


# The recorder.


def arrived(recorder: Recorder, topic: str, *entries: tuple[str, int, int], **more: Any) -> None:
    """Record messages given as (messageId, seqNo, prevSeqNo)."""
    for message_id, sequence, previous in entries:
        recorder.record(
            {
                "type": "message",
                "topic": topic,
                "messageId": message_id,
                "seqNo": sequence,
                "prevSeqNo": previous,
                **more,
            }
        )


def test_report_all_in_order_is_clean() -> None:
    recorder = Recorder()
    arrived(recorder, "a", ("m1", 1, 0), ("m2", 5, 1))
    report = recorder.report({"a": ["m1", "m2"]})
    assert report.clean
    assert report.received == 2
    assert recorder.has_all({"a": ["m1", "m2"]})
    assert recorder.last("a") == 5


def test_report_each_fault_is_told_apart() -> None:
    recorder = Recorder()
    arrived(recorder, "a", ("m1", 1, 0), ("m3", 3, 2), ("m2", 2, 1), ("m3", 3, 2), ("x", 9, 3))
    arrived(recorder, "secret", ("s1", 7, 0))
    report = recorder.report({"a": ["m1", "m2", "m3", "m4"]})
    assert report.lost == [("a", "m4")]
    assert report.duplicated == [("a", "m3")]
    assert report.misordered == [("a", "m2")]
    assert report.holes == [("a", "m3")]
    assert report.leaked == [("a", "x"), ("secret", "s1")]
    assert not report.clean
    assert str(report).endswith("lost=1 duplicated=1 misordered=1 holes=1 leaked=2")


def test_report_redelivered_is_no_duplicate() -> None:
    recorder = Recorder()
    arrived(recorder, "a", ("m1", 1, 0))
    arrived(recorder, "a", ("m1", 1, 0), redelivered=True)
    assert recorder.report({"a": ["m1"]}).clean


def test_report_ephemeral_topic_orders_by_publishing() -> None:
    recorder = Recorder()
    for message_id in ("m2", "m1"):
        recorder.record({"type": "message", "topic": "live.x", "messageId": message_id})
    assert recorder.report({"live.x": ["m1", "m2"]}).misordered == [("live.x", "m1")]


def test_last_gap_and_reset_move_it() -> None:
    recorder = Recorder()
    arrived(recorder, "a", ("m1", 4, 0))
    recorder.record({"type": "gap", "topic": "a", "fromSeq": 5, "toSeq": 8})
    assert recorder.last("a") == 8
    recorder.record({"type": "reset", "topic": "a", "epoch": "e"})
    assert recorder.last("a") == 0


def test_report_first_after_a_gap_told_is_no_hole() -> None:
    recorder = Recorder()
    arrived(recorder, "a", ("m1", 1, 0))
    recorder.record({"type": "gap", "topic": "a", "fromSeq": 2, "toSeq": 8})
    arrived(recorder, "a", ("m9", 9, 8))
    assert recorder.report({"a": ["m1", "m9"]}).holes == []


def test_first_after_and_silence_are_seconds() -> None:
    recorder = Recorder()
    before = time.monotonic()
    arrived(recorder, "a", ("m1", 1, 0), ("m2", 2, 1))
    first = recorder.first_after(before)
    assert first is not None
    assert 0 <= recorder.longest_silence() <= time.monotonic() - before
    assert recorder.first_after(time.monotonic() + 1) is None


def test_run_messages_carry_run_topic_number_and_id() -> None:
    run = Run()
    first, _ = run.message("a")
    second, payload = run.message("a")
    assert run.published == {"a": [first, second]}
    assert payload == {"run": run.id, "topic": "a", "sequence": 2, "messageId": second}


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", "1e999", '"\\ud800"', b"{}", "", "1 2"])
def test_strict_json_anything_else_raises(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        strict_json(text)
