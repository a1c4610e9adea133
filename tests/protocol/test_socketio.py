"""Socket.IO: each frame as the packet it becomes, each event as the frame it becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol import client_frames, gateway_frames
from realtime.protocol.client_frames import parse_frame
from realtime.protocol.exceptions import BadFrame, CloseCode, ErrorCode
from realtime.protocol.gateway_frames import encode_frame
from realtime.protocol.socketio import (
    FRAMES,
    client_frame,
    close_packets,
    connect_frame,
    is_transport_packet,
    loads,
    packet_for,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def event(packet: str) -> Any:
    assert packet[0] == "2"
    return json.loads(packet[1:])


def test_message_is_an_event_named_after_its_topic() -> None:
    text = b'{"type":"message","topic":"room.x","seqNo":7,"data":{"id":"3"},"messageId":"m"}'
    assert event(packet_for(text)) == ["room.x", {"id": "3"}, {"seqNo": 7, "messageId": "m"}]


@pytest.mark.parametrize("number", [0, 1, 2**53])
def test_direct_reply_is_the_acknowledgement_of_its_number(number: int) -> None:
    packet = packet_for(encode_frame(gateway_frames.Pong(id=number)))
    assert packet == f'3{number}[{{"type":"pong"}}]'


def test_other_frames_are_the_event_gateway() -> None:
    error = gateway_frames.Error(code=ErrorCode.INTERNAL, message="m")
    assert event(packet_for(encode_frame(error)))[0] == "gateway"
    assert event(packet_for(encode_frame(gateway_frames.Pong())))[1] == {"type": "pong"}


@given(json_values, st.none() | st.integers(0, 2**53))
def test_event_of_a_topic_publishes_its_payload(payload: Any, ack: int | None) -> None:
    frame = parse_frame(client_frame("room.x", [payload], ack, "m1"))
    assert isinstance(frame, client_frames.Publish)
    assert (frame.id, frame.topic, frame.message_id) == (ack, "room.x", "m1")
    assert json.loads(bytes(frame.payload)) == payload


@given(st.text(), st.lists(json_values, max_size=3))
def test_no_event_becomes_a_connect_or_passes_an_id(name: str, args: list[Any]) -> None:
    try:
        frame = parse_frame(client_frame(name, args, None, "m1"))
    except BadFrame:
        return
    assert not isinstance(frame, client_frames.Connect)
    assert frame.id is None


def test_no_field_overrides_type_or_id() -> None:
    fields = {"type": "connect", "id": 9, "topic": "room.x"}
    assert parse_frame(client_frame("subscribe", [fields], 4, "")) == client_frames.Subscribe(
        id=4, topic="room.x"
    )


@pytest.mark.parametrize(
    ("name", "args", "frame"),
    [
        ("subscribe", ["room.x"], client_frames.Subscribe(topic="room.x")),
        ("subscribe", ["room.x", {"since": 5}], client_frames.Subscribe(topic="room.x", since=5)),
        ("refresh", ["secret"], client_frames.Refresh(token="secret")),
        ("ping", [], client_frames.Ping()),
        ("ack", [{"topic": "room.x", "seqNo": 1}], client_frames.Ack(topic="room.x", seq_no=1)),
    ],
)
def test_event_that_is_a_frame(
    name: str, args: list[Any], frame: client_frames.ClientFrame
) -> None:
    assert parse_frame(client_frame(name, args, None, "")) == frame


def test_payload_may_follow_the_topic() -> None:
    frame = parse_frame(client_frame("request", ["rpc.x", [1]], None, ""))
    assert isinstance(frame, client_frames.Request)
    assert bytes(frame.payload) == b"[1]"


def test_every_client_frame_but_connect_is_an_event() -> None:
    assert {"subscribe", "publish", "request", "ping"} <= FRAMES
    assert not {"connect", "setup"} & FRAMES


@pytest.mark.parametrize("auth", [None, "x", [], {}, {"type": "subscribe", "id": 3}])
def test_auth_without_a_credential_is_a_connect_without_one(auth: object) -> None:
    assert parse_frame(connect_frame(auth)) == client_frames.Connect()


def test_end_for_good_disconnects() -> None:
    told, disconnect = close_packets(CloseCode.REVOKED, "kicked")
    assert event(told) == ["gateway", {"type": "close", "code": 4502, "reason": "kicked"}]
    assert disconnect == "1"
    assert len(close_packets(CloseCode.SLOW_CONSUMER, "")) == 1


@pytest.mark.parametrize("packet", ["1", "2probe", "3", "3probe", "5", "6", "40", '42["x"]'])
def test_packet_of_the_transport_is_one(packet: str) -> None:
    assert is_transport_packet(packet)


@pytest.mark.parametrize("packet", ["", "0", "0{}", "2", "4", "47", "4{}", "55", "1 ", "3\n", "b"])
def test_other_text_is_no_packet_of_the_transport(packet: str) -> None:
    assert not is_transport_packet(packet)


@pytest.mark.parametrize("text", ["NaN", "1e999", "[" * 100_000, '"\\ud800"', "", "1 2"])
def test_what_is_no_strict_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        loads(text)
