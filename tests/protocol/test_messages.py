"""Messages: the backend's word about a socket, and stored messages that become events."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realtime.protocol.exceptions import AuthUnavailable
from realtime.protocol.messages import (
    AuthRequest,
    Event,
    Identity,
    encode_message,
    ephemeral_event,
    event_from,
    parse_auth_reply,
    parse_auth_request,
    parse_payload,
    payload_data,
    redelivered,
    relayed_event,
    unix_ms,
)
from tests.support.strict import strict_json

from .strategies import json_values, texts, topics

TIME = "2026-11-21T09:08:32.123456789Z"
TIME_MS = 1_795_252_112_123


def identity(reply: dict[str, Any]) -> Identity:
    """Return the identity that a reply gives."""
    parsed = parse_auth_reply(json.dumps(reply).encode())
    assert isinstance(parsed, Identity)
    return parsed


def unavailable(data: bytes) -> AuthUnavailable:
    """Return the AuthUnavailable that a reply raises."""
    with pytest.raises(AuthUnavailable) as caught:
        parse_auth_reply(data)
    return caught.value


# AuthRequest.


def test_auth_request_full_has_the_contracts_names() -> None:
    request = AuthRequest("t", "k", "https://a", "127.0.0.1", "agent")
    assert json.loads(encode_message(request)) == {
        "token": "t",
        "sessionKey": "k",
        "origin": "https://a",
        "ip": "127.0.0.1",
        "userAgent": "agent",
        "protocol": 1,
    }


def test_auth_request_empty_says_null() -> None:
    wire = json.loads(encode_message(AuthRequest(None, None, None, "::1", None)))
    assert wire["token"] is wire["sessionKey"] is wire["origin"] is wire["userAgent"] is None


@given(st.builds(AuthRequest, st.none() | texts, st.none() | texts, st.none() | texts, texts))
def test_auth_request_any_round_trips(request: AuthRequest) -> None:
    assert parse_auth_request(encode_message(request)) == request


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"token":7,"sessionKey":null,"origin":null,"ip":"::1","userAgent":null}',
        b'{"token":"\xff","sessionKey":null,"origin":null,"ip":"::1","userAgent":null}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_parse_auth_request_garbage_raises(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeError, RecursionError)):
        parse_auth_request(data)


# AuthReply.


@pytest.mark.parametrize("user_id", ["7", 7])
def test_parse_auth_reply_least_is_enough(user_id: str | int) -> None:
    who = identity({"success": True, "user_id": user_id})
    assert who.user_id == "7"
    assert who.expires_at is None
    assert who.subscriptions == ()
    assert who.info is None


def test_parse_auth_reply_without_rules_allows_only_the_own_topics() -> None:
    rules = identity({"success": True, "user_id": 7}).rules
    assert rules.decide("subscribe", "user.7.notifications").allowed
    assert not rules.decide("subscribe", "user.8.notifications").allowed
    assert not rules.decide("subscribe", "user.7").allowed
    assert not rules.decide("publish", "user.7.notifications").allowed


def test_parse_auth_reply_no_rules_at_all_allows_nothing() -> None:
    rules = identity({"success": True, "user_id": 7, "rules": []}).rules
    assert not rules.decide("subscribe", "user.7.notifications").allowed


def test_parse_auth_reply_optional_null_is_absent() -> None:
    """Go writes an empty slice as null."""
    least = {"success": True, "user_id": "7"}
    names = ("expires_at", "rules", "subscriptions", "info", "error")
    nulls = identity({**least, **dict.fromkeys(names)})
    assert nulls.subscriptions == ()
    assert (nulls.user_id, nulls.expires_at, nulls.info) == ("7", None, None)
    assert nulls.rules.decide("subscribe", "user.7.x").allowed


def test_parse_auth_reply_subscription_named_twice_is_one() -> None:
    reply = {"success": True, "user_id": "7", "subscriptions": ["user.7.b", "user.7.a", "user.7.b"]}
    assert identity(reply).subscriptions == ("user.7.b", "user.7.a")


def test_parse_auth_reply_full_is_kept() -> None:
    who = identity(
        {
            "success": True,
            "user_id": "u-1",
            "expires_at": 1_800_000_000,
            "rules": [{"effect": "allow", "action": "publish", "topic": "room.{user_id}.*"}],
            "subscriptions": ["user.u-1.n"],
            "info": {"name": "Ünï", "deep": [1]},
            "colour": "ignored",
        }
    )
    assert who.expires_at == 1_800_000_000.0
    assert who.rules.decide("publish", "room.u-1.x").allowed
    assert who.subscriptions == ("user.u-1.n",)
    assert who.info == {"name": "Ünï", "deep": [1]}


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ({"success": False, "error": "expired"}, "expired"),
        ({"success": False}, "The backend denied the credential."),
        ({"success": False, "error": None}, "The backend denied the credential."),
        ({"success": False, "user_id": 7, "error": "no"}, "no"),
        # A denial needs no usable rest.
        ({"success": False, "user_id": "*"}, "The backend denied the credential."),
    ],
)
def test_parse_auth_reply_denial_returns_the_word(reply: dict[str, Any], word: str) -> None:
    assert parse_auth_reply(json.dumps(reply).encode()) == word


@pytest.mark.parametrize(
    "user_id",
    [
        "*",
        ">",
        "7.8",
        "",
        " ",
        "7 ",
        "7\n",
        "7\r\nGateway-User: 1",
        "\x00",
        "é",
        "\u0667",
        "{user_id}",
        "$SYS",
        "x" * 201,
        None,
        True,
        7.0,
        [7],
        {"id": 7},
    ],
    ids=repr,
)
def test_parse_auth_reply_unfit_user_id_is_unavailable(user_id: object) -> None:
    """A wildcard or a dot in it would widen every pattern that it is put into."""
    unavailable(json.dumps({"success": True, "user_id": user_id}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"true",
        b"7",
        b'"ok"',
        b"[]",
        b"[true,7]",
        b"{}",
        b"OK",
        b"\xff\xfe\x00",
        b'{"user_id":7}',
        b'{"success":1,"user_id":7}',
        b'{"success":"true","user_id":7}',
        b'{"success":null,"user_id":7}',
        b'{"success":[],"user_id":7}',
        b'{"Success":true,"user_id":7}',
        b'{"success":true}',
        b'{"success":true,"userId":7}',
        b'{"success":true,"user_id":7',
        b'{"success":true,"user_id":7}{"success":true,"user_id":8}',
        b'{"success":true,"user_id":7,"expires_at":"soon"}',
        b'{"success":true,"user_id":7,"expires_at":1e999}',
        b'{"success":true,"user_id":7,"expires_at":NaN}',
        b'{"success":true,"user_id":7,"rules":{}}',
        b'{"success":true,"user_id":7,"rules":["user.>"]}',
        b'{"success":true,"user_id":7,"rules":[{"effect":"allow","action":"subscribe"}]}',
        b'{"success":true,"user_id":7,"rules":'
        b'[{"effect":"ALLOW","action":"subscribe","topic":"a"}]}',
        b'{"success":true,"user_id":7,"rules":[{"effect":"allow","action":"*","topic":"a"}]}',
        b'{"success":true,"user_id":7,"subscriptions":"user.7.n"}',
        b'{"success":true,"user_id":7,"subscriptions":[7]}',
        b'{"success":true,"user_id":7,"info":"x"}',
        b'{"success":true,"user_id":7,"info":{"a":"\\ud800"}}',
        b'{"success":true,"user_id":7,"info":{"a":"\xff"}}',
        b'{"success":true,"user_id":' + b"9" * 5000 + b"}",
        b'{"success":true,"user_id":7,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
        b'{"success":true,"user_id":7,"x":"' + b"y" * 1024**2,
    ],
    ids=lambda data: repr(data[:70]),
)
def test_parse_auth_reply_garbage_is_unavailable(data: bytes) -> None:
    unavailable(data)


@pytest.mark.parametrize("pattern", ["", ".", "a..b", "user.>.x", "a b", "$SYS.>", "user.**", "é"])
@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_parse_auth_reply_malformed_rule_is_unavailable(pattern: str, effect: str) -> None:
    """Least of all a deny may be dropped because it was mistyped."""
    rule = {"effect": effect, "action": "subscribe", "topic": pattern}
    unavailable(json.dumps({"success": True, "user_id": 7, "rules": [rule]}).encode())


@given(st.binary(max_size=100))
def test_parse_auth_reply_any_bytes_are_never_a_pass(data: bytes) -> None:
    try:
        reply = parse_auth_reply(data)
    except AuthUnavailable:
        return
    assert isinstance(reply, str), "random bytes do not spell a success"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "success": st.booleans() | json_values,
            "user_id": st.integers() | texts | json_values,
            "expires_at": json_values,
            "rules": json_values,
            "subscriptions": json_values,
            "info": json_values,
            "error": json_values,
        },
    )
)
def test_parse_auth_reply_any_object_passes_only_with_success_and_a_token(
    reply: dict[str, Any],
) -> None:
    try:
        parsed = parse_auth_reply(json.dumps(reply).encode())
    except AuthUnavailable:
        return
    if isinstance(parsed, Identity):
        assert reply["success"] is True
        assert parsed.user_id == str(reply["user_id"])
        assert not set(parsed.user_id) & set(".*>{}$ \r\n\x00")


# Events.


def headers(**extra: str) -> dict[str, str]:
    """Return the headers of a republished message."""
    base = {"Nats-Sequence": "42", "Nats-Last-Sequence": "40", "Nats-Time-Stamp": TIME}
    return base | {name.replace("_", "-"): value for name, value in extra.items()}


def test_event_from_republished_json_is_the_contracts_message() -> None:
    event = event_from("user.7.n", b'{"text": "hi"}', headers(Gateway_Message_Id="m"))
    assert (event.topic, event.sequence, event.previous) == ("user.7.n", 42, 40)
    assert (event.message_id, event.timestamp) == ("m", TIME_MS)
    assert strict_json(event.text.decode()) == {
        "type": "message",
        "topic": "user.7.n",
        "seqNo": 42,
        "prevSeqNo": 40,
        "messageId": "m",
        "ts": TIME_MS,
        "data": {"text": "hi"},
    }


@pytest.mark.parametrize(
    ("names", "message_id"),
    [
        ({"Gateway_Message_Id": "m", "Nats_Msg_Id": "7:m"}, "m"),
        ({"Nats_Msg_Id": "order-5"}, "order-5"),
        ({}, "42"),
    ],
)
def test_event_from_message_id_comes_from_the_nearest_header(
    names: dict[str, str], message_id: str
) -> None:
    event = event_from("user.7.n", b"1", headers(**names))
    assert event.message_id == message_id
    assert strict_json(event.text.decode())["messageId"] == message_id


def republished(*own: bytes, sequence: bytes = b"42") -> bytes:
    """Return the header block of a republished message; `own` are the publisher's headers."""
    added = [
        b"Nats-Stream: GATEWAY",
        b"Nats-Subject: user.7.n",
        b"Nats-Sequence: " + sequence,
        b"Nats-Time-Stamp: 2026-11-21T12:18:09.123456789Z",
        b"Nats-Last-Sequence: 40",
    ]
    return b"\r\n".join([b"NATS/1.0", *own, *added, b"", b""])


def test_relayed_event_is_what_event_from_makes_of_the_headers() -> None:
    head = republished()
    event = relayed_event("user.7.n", b'{"a": 1}', head)
    lines = [line.split(": ", 1) for line in head.decode().splitlines()[1:-1]]
    assert event == event_from("user.7.n", b'{"a": 1}', dict(lines))
    assert event is not None
    assert (event.sequence, event.previous, event.message_id) == (42, 40, "42")


@pytest.mark.parametrize(
    "head",
    [
        republished(b"Gateway-Message-Id: m"),
        # A publisher's own, before the stream's: only the last one counts.
        republished(b"Nats-Sequence: 1"),
        republished(b"Nats-Stream: GATEWAY"),
        republished(sequence=b"4x"),
        b"NATS/1.0\r\n\r\n",
        b"",
    ],
)
def test_relayed_event_other_headers_are_left_to_event_from(head: bytes) -> None:
    assert relayed_event("user.7.n", b"1", head) is None


def test_event_from_previous_given_overrides_the_header() -> None:
    event = event_from("user.7.n", b"1", headers(), previous=7)
    assert event.previous == 7
    assert strict_json(event.text.decode())["prevSeqNo"] == 7


def test_event_from_direct_get_needs_no_last_sequence() -> None:
    stored = {"Nats-Sequence": "42", "Nats-Time-Stamp": TIME}
    assert event_from("user.7.n", b"1", stored, previous=0).previous == 0


@pytest.mark.parametrize(
    "payload", [b"", b"plain", b"\x00\xff", b"NaN", b"{'a':1}", b'"\\ud800"', b"[" * 100_000]
)
def test_event_from_payload_not_json_travels_as_base64(payload: bytes) -> None:
    frame = strict_json(event_from("user.7.n", payload, headers()).text.decode())
    assert frame["encoding"] == "base64"
    assert base64.b64decode(frame["data"], validate=True) == payload


@given(topics, st.binary(max_size=80), texts, st.integers(1, 2**53), st.integers(0, 2**53))
def test_event_from_any_payload_is_strict_json_and_comes_back(
    topic: str, payload: bytes, message_id: str, sequence: int, previous: int
) -> None:
    names = {
        "Nats-Sequence": str(sequence),
        "Nats-Last-Sequence": str(previous),
        "Nats-Time-Stamp": TIME,
        "Nats-Msg-Id": message_id,
    }
    frame = strict_json(event_from(topic, payload, names).text.decode())
    assert frame["topic"] == topic
    assert (frame["seqNo"], frame["prevSeqNo"]) == (sequence, previous)
    assert frame["messageId"] == (message_id or str(sequence))
    if "encoding" in frame:
        assert base64.b64decode(frame["data"], validate=True) == payload
    else:
        assert frame["data"] == json.loads(payload)


@given(json_values)
def test_event_from_json_value_rides_as_it_is(value: Any) -> None:
    frame = strict_json(event_from("a", json.dumps(value).encode(), headers()).text.decode())
    assert frame["data"] == value
    assert "encoding" not in frame


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"websocket.receive"}',
        b'{"type":"error","seqNo":1}',
        b'1,"seqNo":999',
        b'1},{"type":"ready"',
        b'1}\n{"type":"ready"}',
    ],
    ids=repr,
)
def test_event_from_payload_cannot_break_out_of_data(payload: bytes) -> None:
    """What comes from NATS never chooses a handler or a field."""
    frame = strict_json(event_from("user.7.n", payload, headers()).text.decode())
    assert frame["type"] == "message"
    assert frame["seqNo"] == 42


@pytest.mark.parametrize("message_id", ['"', "\\", '","seqNo":1,"x":"', "\u2028", "ü", "a\tb"])
def test_event_from_message_id_is_escaped(message_id: str) -> None:
    event = event_from("user.7.n", b"1", headers(Nats_Msg_Id=message_id))
    frame = strict_json(event.text.decode())
    assert (frame["messageId"], frame["seqNo"]) == (message_id, 42)


def test_event_any_round_trips_through_the_layer_encoding() -> None:
    event = event_from("user.7.n", b'{"a":1}', headers())
    packed = msgspec.msgpack.encode(event)
    assert msgspec.msgpack.decode(packed, type=Event) == event


def test_redelivered_event_is_marked_and_else_the_same() -> None:
    event = event_from("user.7.n", b'{"a":1}', headers())
    frame = strict_json(event.text.decode())
    assert strict_json(redelivered(event).decode()) == frame | {"redelivered": True}


def test_ephemeral_event_has_no_sequences() -> None:
    event = ephemeral_event("live.x", b"1", {}, message_id="m", timestamp=5)
    assert (event.sequence, event.previous) == (0, 0)
    assert strict_json(event.text.decode()) == {
        "type": "message",
        "topic": "live.x",
        "messageId": "m",
        "ts": 5,
        "data": 1,
    }


def test_ephemeral_event_publishers_message_id_wins() -> None:
    named = {"Nats-Msg-Id": "own"}
    event = ephemeral_event("live.x", b"\xff", named, message_id="m", timestamp=5)
    frame = strict_json(event.text.decode())
    assert (frame["messageId"], frame["encoding"], frame["data"]) == ("own", "base64", "/w==")


@given(st.binary(max_size=60))
def test_payload_data_any_payload_encodes_and_comes_back(payload: bytes) -> None:
    value = strict_json(msgspec.json.encode(payload_data(payload)).decode())
    if parse_payload(payload):
        assert value == json.loads(payload)
    else:
        assert value["encoding"] == "base64"
        assert base64.b64decode(value["data"], validate=True) == payload


# Time.


@pytest.mark.parametrize(
    ("timestamp", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-21T09:08:32Z", 1_795_252_112_000),
        ("2026-11-21T09:08:32.5Z", 1_795_252_112_500),
        (TIME, TIME_MS),
        ("2026-11-21T09:08:32.1239999Z", TIME_MS),
        ("2026-11-21T11:08:32.123456789+02:00", TIME_MS),
    ],
)
def test_unix_ms_rfc3339_is_floored_to_the_millisecond(timestamp: str, milliseconds: int) -> None:
    assert unix_ms(timestamp) == milliseconds


@given(st.integers(0, 4_000_000_000_000), st.integers(0, 999_999))
@example(2_183_440_077_917, 1)  # through a float: 916
def test_unix_ms_any_instant_is_exact(milliseconds: int, nanoseconds: int) -> None:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    fraction = milliseconds % 1000 * 1_000_000 + nanoseconds
    text = f"{instant:%Y-%m-%dT%H:%M:%S}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"
    assert unix_ms(text) == milliseconds
