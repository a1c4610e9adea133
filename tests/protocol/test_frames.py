"""Frames: what is accepted, what is refused, and that only strict JSON leaves."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol import client_frames, gateway_frames
from realtime.protocol.client_frames import parse_frame
from realtime.protocol.exceptions import AclDenied, BadFrame, BadTopic, ErrorCode
from realtime.protocol.gateway_frames import encode_frame, error_for
from realtime.protocol.messages import parse_payload
from tests.support.strict import strict_json

from .strategies import json_values

# Every client frame: the least of it, all of it, and the value that all of it becomes.
ACCEPTED: list[tuple[dict[str, Any], dict[str, Any], client_frames.AnyClientFrame]] = [
    (
        {"type": "connect"},
        {"token": "t", "sessionId": "s", "lastSeqPerTopic": {"user.7.n": 3}},
        client_frames.Connect(token="t", session_id="s", last_seq_per_topic={"user.7.n": 3}),
    ),
    (
        {"type": "setup"},
        {"token": "t", "sessionId": "s", "lastSeqPerTopic": {}},
        client_frames.Setup(token="t", session_id="s", last_seq_per_topic={}),
    ),
    (
        {"type": "subscribe", "topic": "user.7.n"},
        {"since": 0, "epoch": "e", "qos": 1, "durable": "phone-1", "presence": True},
        client_frames.Subscribe(
            topic="user.7.n", since=0, epoch="e", qos=1, durable="phone-1", presence=True
        ),
    ),
    (
        {"type": "unsubscribe", "topic": "user.7.n"},
        {},
        client_frames.Unsubscribe(topic="user.7.n"),
    ),
    (
        {"type": "ack", "messageId": "m"},
        {"topic": "user.7.n", "seqNo": 9},
        client_frames.Ack(message_id="m", topic="user.7.n", seq_no=9),
    ),
    (
        {"type": "resume", "sessionId": "s", "lastSeqPerTopic": {"a": 0}},
        {"lastSeqPerTopic": {"a": 1, "b": 2**53}},
        client_frames.Resume(session_id="s", last_seq_per_topic={"a": 1, "b": 2**53}),
    ),
    (
        {"type": "replay", "topic": "user.7.n", "fromSeq": 4},
        {},
        client_frames.Replay(topic="user.7.n", from_seq=4),
    ),
    (
        {"type": "history", "topic": "user.7.n"},
        {"limit": 1000, "before": 77},
        client_frames.History(topic="user.7.n", limit=1000, before=77),
    ),
    (
        {"type": "presence", "topic": "room.1"},
        {},
        client_frames.Presence(topic="room.1"),
    ),
    ({"type": "refresh", "token": "t"}, {}, client_frames.Refresh(token="t")),
    ({"type": "ping"}, {}, client_frames.Ping()),
]

# Frames that carry a payload: Raw compares by identity, so they stand apart.
WITH_PAYLOAD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "publish", "topic": "room.1", "messageId": "m", "payload": {"a": [1, None]}}, {}),
    ({"type": "request", "topic": "rpc.x", "payload": None}, {"timeout": 60}),
]

MINIMAL = [least for least, _, _ in ACCEPTED] + [least for least, _ in WITH_PAYLOAD]


def by_type(case: Any) -> str:
    """Name a parametrized case by its frame type."""
    return str(case["type"]) if isinstance(case, dict) and "type" in case else ""


def refused(text: str | bytes) -> BadFrame:
    """Return the BadFrame that `text` raises."""
    with pytest.raises(BadFrame) as caught:
        parse_frame(text)
    return caught.value


# Client frames.


def test_parse_frame_cases_cover_every_client_frame() -> None:
    tags = {member.__struct_config__.tag for member in client_frames.AnyClientFrame.__args__}
    assert {frame["type"] for frame in MINIMAL} == tags


@pytest.mark.parametrize(("least", "more", "value"), ACCEPTED, ids=by_type)
def test_parse_frame_all_fields_round_trips(
    least: dict[str, Any], more: dict[str, Any], value: client_frames.AnyClientFrame
) -> None:
    parsed = parse_frame(json.dumps(least | more | {"id": "q1"}))
    assert parsed == msgspec.structs.replace(value, id="q1")
    assert parse_frame(msgspec.json.encode(parsed)) == parsed


@pytest.mark.parametrize(("least", "more"), WITH_PAYLOAD, ids=by_type)
def test_parse_frame_payload_round_trips(least: dict[str, Any], more: dict[str, Any]) -> None:
    parsed = parse_frame(json.dumps(least | more | {"id": 5}))
    assert isinstance(parsed, client_frames.Publish | client_frames.Request)
    assert parsed.id == 5
    assert json.loads(bytes(parsed.payload)) == least["payload"]
    assert json.loads(msgspec.json.encode(parsed))["topic"] == least["topic"]
    if isinstance(parsed, client_frames.Request):
        assert parsed.timeout == more["timeout"]
    else:
        assert parsed.message_id == least["messageId"]


@pytest.mark.parametrize("least", MINIMAL, ids=by_type)
def test_parse_frame_least_fields_is_accepted(least: dict[str, Any]) -> None:
    parsed = parse_frame(json.dumps(least))
    assert parsed.__struct_config__.tag == least["type"]
    assert parsed.id is None
    assert parse_frame(json.dumps(least).encode()).__struct_config__.tag == least["type"]


@pytest.mark.parametrize(
    ("least", "field"),
    [
        (least, field)
        for least in MINIMAL
        for field in least
        # An ack takes one of two; which is missing, the session says.
        if field != "type" and least["type"] != "ack"
    ],
    ids=str,
)
def test_parse_frame_missing_field_is_bad(least: dict[str, Any], field: str) -> None:
    short = {name: value for name, value in least.items() if name != field} | {"id": 8}
    assert refused(json.dumps(short)).frame_id == 8


@pytest.mark.parametrize(
    ("least", "field"),
    [
        (least | more, field)
        for least, more in [case[:2] for case in ACCEPTED] + WITH_PAYLOAD
        for field in least | more
        if field not in ("type", "payload")
    ],
    ids=str,
)
def test_parse_frame_mistyped_field_is_bad(least: dict[str, Any], field: str) -> None:
    for wrong in (["x"], 1 if field == "presence" else True, {"x": "y"}):
        assert refused(json.dumps(least | {field: wrong, "id": "q"})).frame_id == "q"


@pytest.mark.parametrize("least", MINIMAL, ids=by_type)
def test_parse_frame_unknown_field_is_ignored(least: dict[str, Any]) -> None:
    extra = least | {"colour": {"deep": [1]}, "message_id": 5, "user": "root"}
    assert parse_frame(json.dumps(extra)).__struct_config__.tag == least["type"]


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"nope","id":3}',
        '{"type":"PING","id":3}',
        '{"type":"websocket.receive","id":3}',
        '{"type":null,"id":3}',
        '{"type":["ping"],"id":3}',
        '{"id":3}',
        # A gateway frame's type is no client frame's.
        '{"type":"ready","id":3}',
        '{"type":"message","id":3}',
    ],
)
def test_parse_frame_unknown_type_is_bad_and_keeps_the_id(text: str) -> None:
    assert refused(text).frame_id == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("qos", 2),
        ("qos", -1),
        ("since", -1),
        ("since", 2**53 + 1),
        ("since", 1.5),
        ("since", "1"),
        ("durable", ""),
        ("durable", "a b"),
        ("durable", "a.b"),
        ("durable", "a" * 65),
        ("durable", "é"),
        ("durable", "a\n"),
        ("durable", "a\x00"),
    ],
)
def test_parse_frame_subscribe_out_of_range_is_bad(field: str, value: object) -> None:
    refused(json.dumps({"type": "subscribe", "topic": "room.1", field: value}))


@pytest.mark.parametrize(("field", "value"), [("limit", 0), ("limit", 1001), ("before", -1)])
def test_parse_frame_history_out_of_range_is_bad(field: str, value: object) -> None:
    refused(json.dumps({"type": "history", "topic": "room.1", field: value}))


@pytest.mark.parametrize("timeout", ["0", "-1", "60.1", "1e999", '"1"', "NaN"])
def test_parse_frame_request_timeout_out_of_range_is_bad(timeout: str) -> None:
    refused(f'{{"type":"request","topic":"rpc.x","payload":1,"timeout":{timeout}}}')


@pytest.mark.parametrize(
    "message_id",
    [
        "",
        "x" * 129,
        # It becomes part of a NATS header, which a line end would end, and nats-py strips
        # white space: then the same id would come back as another one.
        "m\r\nGateway-User: 1",
        "m\n",
        "m\r",
        " m",
        "m ",
        "m\x00",
        "m\x7f",
    ],
    ids=repr,
)
def test_parse_frame_publish_message_id_unfit_for_a_header_is_bad(message_id: str) -> None:
    frame = {"type": "publish", "topic": "room.1", "messageId": message_id, "payload": 1}
    refused(json.dumps(frame))


# The id.


@pytest.mark.parametrize("frame_id", [0, -1, 2**53, -(2**53), "", "q", "é", "x" * 128])
def test_parse_frame_id_string_or_integer_is_kept(frame_id: str | int) -> None:
    assert parse_frame(json.dumps({"type": "ping", "id": frame_id})).id == frame_id


@pytest.mark.parametrize(
    "frame_id",
    ["1.0", "1e2", "true", "[1]", "{}", "9007199254740993", "9" * 5000, f'"{"x" * 129}"', "NaN"],
    ids=lambda text: text[:20],
)
def test_parse_frame_id_of_another_kind_is_bad(frame_id: str) -> None:
    assert refused(f'{{"type":"ping","id":{frame_id}}}').frame_id is None


def test_parse_frame_ack_takes_any_message_id_of_a_backend() -> None:
    """Its events have ids that no client may choose, and want to be acknowledged all the same."""
    message_id = " orders/" + "4" * 500 + "\n"
    frame = parse_frame(json.dumps({"type": "ack", "messageId": message_id}))
    assert frame == client_frames.Ack(message_id=message_id)


@pytest.mark.parametrize(("least", "more"), [(least, more) for least, more, _ in ACCEPTED if more])
def test_parse_frame_optional_field_null_is_absent(
    least: dict[str, Any], more: dict[str, Any]
) -> None:
    nulls = {name: None for name in more if name not in least}
    assert parse_frame(json.dumps({**nulls, **least})) == parse_frame(json.dumps(least))


def test_parse_frame_id_null_is_none() -> None:
    assert parse_frame('{"type":"ping","id":null}').id is None


# JSON abuse.

DEEP = 100_000
HEAD = '{"type":"publish","topic":"room.1","messageId":"m","payload":'

ABUSE = {
    "empty": "",
    "space": " ",
    "open arrays": "[" * DEEP,
    "deep unknown field": '{"type":"ping","x":' + "[" * DEEP + "]" * DEEP + "}",
    "deep payload": HEAD + "[" * DEEP + "]" * DEEP + "}",
    "deep objects": HEAD + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
    "deep topic": '{"type":"presence","topic":' + "[" * DEEP + "]" * DEEP + "}",
    "huge integer": HEAD + "9" * 5000 + "}",
    "NaN": HEAD + "NaN}",
    "Infinity": HEAD + "Infinity}",
    "-Infinity": HEAD + "[-Infinity]}",
    "NaN in an unknown field": '{"type":"ping","x":NaN}',
    "1e999": HEAD + "1e999}",
    "nested 1e999": HEAD + '{"a":[-1e999]}}',
    "lone surrogate": HEAD + '"\\ud800"}',
    "lone low surrogate": HEAD + '["\\udc00"]}',
    "lone surrogate in a key": HEAD + '{"\\ud800":1}}',
    "lone surrogate in a topic": '{"type":"presence","topic":"\\ud800"}',
    "lone surrogate in a token": '{"type":"connect","token":"\\udfff"}',
    "lone surrogate in the text": '{"type":"connect","token":"\ud800"}',
    "null byte": "\x00",
    "null byte in a string": HEAD + '"a\x00b"}',
    "null byte after": '{"type":"ping"}\x00',
    "control character": HEAD + '"a\x1fb"}',
    "trailing text": '{"type":"ping"} {"type":"ping"}',
    "trailing comma": '{"type":"ping",}',
    "single quotes": "{'type':'ping'}",
    "comment": '{"type":"ping"/**/}',
    "byte order mark": '\ufeff{"type":"ping"}',
    "null": "null",
    "true": "true",
    "number": "1",
    "string": '"ping"',
    "array": '["ping"]',
    "array of a frame": '[{"type":"ping"}]',
    "empty object": "{}",
    "two types": '{"type":"ping","type":"subscribe"}',
    "unfinished": '{"type":"ping"',
    "bad escape": '{"type":"connect","token":"\\x"}',
    "leading zero": '{"type":"ping","id":01}',
}


@pytest.mark.parametrize("text", ABUSE.values(), ids=ABUSE)
def test_parse_frame_json_abuse_is_bad_frame(text: str) -> None:
    error = refused(text)
    assert error.code is ErrorCode.BAD_FRAME
    strict_json(encode_frame(error_for(error, error.frame_id)).decode())


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b'{"type":"connect","token":"\xff"}',
        b'{"type":"connect","token":"\xed\xa0\x80"}',
        b'{"type":"connect","token":"\xc0\x80"}',
        HEAD.encode() + b'"\xff"}',
        HEAD.encode() + b'{"\xff":1}}',
        b'{"type":"ping"}'.decode().encode("utf-16"),
    ],
    ids=repr,
)
def test_parse_frame_bad_utf8_is_bad_frame(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"presence","topic":"room.1","topic":"room.2"}',
        '{"type":"presence","topic":"room.1","topic":"room.1"}',
        '{"type":"ping","id":1,"id":2}',
        '{"type":"ping","type":"ping"}',
        '{"type":"ping", "t\\u0079pe" : "ping"}',
        HEAD + '{"a":1},"payload":2}',
        HEAD + '{"topic":1},"topic":"room.2"}',
    ],
)
def test_parse_frame_field_that_comes_twice_is_bad(text: str) -> None:
    assert "comes twice" in refused(text).message
    assert "comes twice" in refused(text.encode()).message


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ping","x":1,"x":2}',
        '{"type":"ping","x":{"type":1,"type":"id"},"y":"\\"id\\""}',
        '{"type":"ping","x":"\\u0041","y":' + "9" * 5000 + "}",
        ' { "type" : "ping" , "x" : [ "\\u0022type\\"" ] } ',
    ],
)
def test_parse_frame_names_repeated_elsewhere_are_nothing_to_it(text: str) -> None:
    assert parse_frame(text) == client_frames.Ping()


def test_parse_frame_duplicate_keys_in_payload_pass_through() -> None:
    frame = parse_frame(HEAD + '{"a":1,"a":2}}')
    assert isinstance(frame, client_frames.Publish)
    assert bytes(frame.payload) == b'{"a":1,"a":2}'


@given(st.text())
def test_parse_frame_any_text_is_a_frame_or_bad_frame(text: str) -> None:
    try:
        parse_frame(text)
    except BadFrame as exc:
        strict_json(encode_frame(error_for(exc, exc.frame_id)).decode())


@given(st.binary())
def test_parse_frame_any_bytes_are_a_frame_or_bad_frame(data: bytes) -> None:
    try:
        parse_frame(data)
    except BadFrame as exc:
        strict_json(encode_frame(error_for(exc, exc.frame_id)).decode())


@given(
    st.dictionaries(
        st.sampled_from(
            ["type", "id", "topic", "token", "payload", "messageId", "since", "qos", "seqNo"]
        )
        | st.text(max_size=3),
        json_values | st.sampled_from([frame["type"] for frame in MINIMAL]),
    )
)
def test_parse_frame_any_object_is_a_frame_or_bad_frame(value: dict[str, Any]) -> None:
    try:
        frame = parse_frame(json.dumps(value))
    except BadFrame:
        return
    assert frame.__struct_config__.tag == value["type"]


@given(json_values)
def test_parse_frame_any_payload_arrives_as_it_was(payload: Any) -> None:
    frame = parse_frame(HEAD + json.dumps(payload) + "}")
    assert isinstance(frame, client_frames.Publish)
    assert json.loads(bytes(frame.payload)) == payload


# Payloads.


@given(json_values)
def test_parse_payload_json_passes(value: Any) -> None:
    assert parse_payload(json.dumps(value).encode())
    assert parse_payload(json.dumps(value, ensure_ascii=False, indent=1).encode())


@given(st.binary(max_size=60))
def test_parse_payload_what_passes_is_strict_json(payload: bytes) -> None:
    if parse_payload(payload):
        strict_json(payload.decode())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"plain text",
        b"\xff\xfe",
        b"NaN",
        b"1e999",
        b"9" * 5000,
        b'"\\ud800"',
        b'{"a":1',
        b"[" * DEEP + b"]" * DEEP,
        b"1\x00",
        b"\xef\xbb\xbf1",
    ],
    ids=lambda payload: repr(payload[:12]),
)
def test_parse_payload_not_strict_json_is_refused(payload: bytes) -> None:
    assert not parse_payload(payload)


# Gateway frames.

ENCODED: list[tuple[gateway_frames.GatewayFrame, dict[str, Any]]] = [
    (
        gateway_frames.Ready(
            session_id="s",
            user_id="7",
            expires_at=None,
            heartbeat=25.0,
            epoch="e",
            subscriptions=["user.7.n"],
        ),
        {
            "type": "ready",
            "sessionId": "s",
            "userId": "7",
            "expiresAt": None,
            "heartbeat": 25.0,
            "epoch": "e",
            "subscriptions": ["user.7.n"],
        },
    ),
    (
        gateway_frames.Subscribed(topic="a", seq_no=0, epoch="e", recovered=True),
        {"type": "subscribed", "topic": "a", "seqNo": 0, "epoch": "e", "recovered": True},
    ),
    (
        gateway_frames.Unsubscribed(topic="a", reason="acl"),
        {"type": "unsubscribed", "topic": "a", "reason": "acl"},
    ),
    (
        gateway_frames.Unsubscribed(topic="a", reason="client"),
        {"type": "unsubscribed", "topic": "a", "reason": "client"},
    ),
    (
        gateway_frames.PublishAck(message_id="m", status="duplicate", seq_no=4),
        {"type": "ack", "messageId": "m", "status": "duplicate", "seqNo": 4},
    ),
    (
        gateway_frames.PublishAck(message_id="m", status="ok"),
        {"type": "ack", "messageId": "m", "status": "ok"},
    ),
    (
        gateway_frames.Resumed(
            session_id="s", topics={"a": gateway_frames.Recovery(recovered=False, first=3, last=9)}
        ),
        {
            "type": "resumed",
            "sessionId": "s",
            "topics": {"a": {"recovered": False, "from": 3, "to": 9}},
        },
    ),
    (
        gateway_frames.Gap(topic="a", from_seq=1, to_seq=2),
        {"type": "gap", "topic": "a", "fromSeq": 1, "toSeq": 2},
    ),
    (gateway_frames.Reset(topic="a", epoch="e"), {"type": "reset", "topic": "a", "epoch": "e"}),
    (
        gateway_frames.Reply(data={"deep": [1, None]}),
        {"type": "reply", "data": {"deep": [1, None]}},
    ),
    (gateway_frames.Reply(data=msgspec.Raw(b'{"a":1}')), {"type": "reply", "data": {"a": 1}}),
    (gateway_frames.Reply(data=None), {"type": "reply", "data": None}),
    (
        gateway_frames.PresenceChange(
            topic="a", joined=[gateway_frames.Present("2", None)], left=["3"]
        ),
        {
            "type": "presence",
            "topic": "a",
            "joined": [{"userId": "2", "info": None}],
            "left": ["3"],
        },
    ),
    (gateway_frames.Expiring(expires_at=1.5), {"type": "expiring", "expiresAt": 1.5}),
    (
        gateway_frames.Reconnect(after_ms=500, reason="drain"),
        {"type": "reconnect", "afterMs": 500, "reason": "drain"},
    ),
    (
        gateway_frames.Error(code=ErrorCode.INTERNAL, message="Sorry."),
        {"type": "error", "code": "INTERNAL", "message": "Sorry."},
    ),
    (
        gateway_frames.Error(code=ErrorCode.ACL_DENIED, message="No.", topic="a", message_id="m"),
        {
            "type": "error",
            "code": "ACL_DENIED",
            "message": "No.",
            "topic": "a",
            "messageId": "m",
        },
    ),
    (gateway_frames.Pong(), {"type": "pong"}),
]


def test_encode_frame_cases_cover_every_gateway_frame() -> None:
    assert {type(frame) for frame, _ in ENCODED} == set(
        gateway_frames.GatewayFrame.__subclasses__()
    )


@pytest.mark.parametrize(("frame", "wire"), ENCODED, ids=lambda case: by_type(case))
def test_encode_frame_every_frame_has_its_names_on_the_wire(
    frame: gateway_frames.GatewayFrame, wire: dict[str, Any]
) -> None:
    assert strict_json(encode_frame(frame).decode()) == wire


@pytest.mark.parametrize(("frame", "wire"), ENCODED, ids=lambda case: by_type(case))
@pytest.mark.parametrize("frame_id", [0, 7, "", "q"])
def test_encode_frame_answer_echoes_the_id(
    frame: gateway_frames.GatewayFrame, wire: dict[str, Any], frame_id: str | int
) -> None:
    answer = msgspec.structs.replace(frame, id=frame_id)
    assert strict_json(encode_frame(answer).decode()) == wire | {"id": frame_id}


def test_encode_frame_nan_in_data_stays_strict_json() -> None:
    frame = gateway_frames.Reply(data=[float("nan"), float("inf")])
    assert strict_json(encode_frame(frame).decode())["data"] == [None, None]


@pytest.mark.parametrize(
    ("number", "text"), [(25.0, "25"), (25, "25"), (0.5, "0.5"), (-1.0, "-1"), (1e300, "1e300")]
)
def test_whole_number_without_a_fraction_has_none_on_the_wire(number: float, text: str) -> None:
    assert msgspec.json.encode(gateway_frames.whole(number)) == text.encode()


def test_error_for_exception_carries_code_topic_and_message_id() -> None:
    exc = AclDenied("No rule allows it.", topic="room.1", message_id="m")
    assert error_for(exc, 3) == gateway_frames.Error(
        id=3,
        code=ErrorCode.ACL_DENIED,
        message="No rule allows it.",
        topic="room.1",
        message_id="m",
    )


def test_error_for_without_id_leaves_out_what_does_not_apply() -> None:
    wire = strict_json(encode_frame(error_for(BadTopic("No."), None)).decode())
    assert wire == {"type": "error", "code": "BAD_TOPIC", "message": "No."}
