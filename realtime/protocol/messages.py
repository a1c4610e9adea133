"""Messages between the gateway and a backend over NATS, and the event they become."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct

from .exceptions import AuthUnavailable, BadTopic
from .rules import Rule, RuleSet, parse_rules
from .subjects import is_token

PROTOCOL_VERSION = 1

MSG_ID = "Nats-Msg-Id"
"""JetStream's deduplication key."""
MESSAGE_ID = "Gateway-Message-Id"
"""The `messageId` a client published with."""
USER = "Gateway-User"
"""The user id of the client that published."""
SEQUENCE = "Nats-Sequence"
LAST_SEQUENCE = "Nats-Last-Sequence"
TIME_STAMP = "Nats-Time-Stamp"

_RELAYED = re.compile(
    rb"NATS/1\.0\r\nNats-Stream: [^\r]*\r\nNats-Subject: [^\r]*\r\nNats-Sequence: (\d+)\r\n"
    rb"Nats-Time-Stamp: ([^\r]*)\r\nNats-Last-Sequence: (\d+)\r\n\r\n"
).fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode


class AuthRequest(Struct, frozen=True, rename="camel"):
    """What the gateway asks the backend about a socket."""

    token: str | None
    session_key: str | None
    origin: str | None
    ip: str
    user_agent: str | None
    protocol: int = PROTOCOL_VERSION


class AuthReply(Struct, frozen=True):
    """What the backend answers; `{"success": true, "user_id": 7}` is enough."""

    success: bool
    user_id: str | int | None = None
    expires_at: float | None = None
    rules: list[Rule] | None = None
    subscriptions: list[str] | None = None
    info: dict[str, Any] | None = None
    error: str | None = None


class Identity(Struct, frozen=True):
    """Who a session is: a checked AuthReply. `expires_at` in Unix seconds."""

    user_id: str
    rules: RuleSet
    expires_at: float | None
    subscriptions: tuple[str, ...]
    info: dict[str, Any] | None


class ControlUser(Struct, frozen=True):
    """A command about one user's sessions."""

    action: Literal["disconnect", "unsubscribe", "reauthorize"]
    topic: str | None = None
    reason: str | None = None


class ControlAcl(Struct, frozen=True):
    """Whose rules changed; None: everyone's."""

    users: list[str | int] | None = None
    groups: list[str | int] | None = None


class ProcessStats(Struct, frozen=True, rename="camel"):
    """What one gateway process holds, as it tells the others.

    Attributes:
        name: host and process id.
        sessions: authenticated sockets.
        subscriptions: topics held, counted for each socket.
        topics: the busiest ones, with how many sockets hold each.
    """

    name: str
    sessions: int
    users: int
    subscriptions: int
    topics: dict[str, int]


class Member(Struct, frozen=True, rename="camel"):
    """A user on a topic: how many sockets hold it, and what the backend wants shown."""

    user_id: str
    connections: int
    info: dict[str, Any] | None = None


class Roster(Struct, frozen=True, omit_defaults=True):
    """What one gateway process tells the others of a topic.

    Attributes:
        watched: its sockets asked for joins and leaves.
        members: who is on it there.
    """

    watched: bool = False
    members: list[Member] = []


class Event(Struct, frozen=True, array_like=True, gc=False):
    """One event on its way to the sockets, encoded once.

    Attributes:
        sequence: stream sequence; 0 on an ephemeral topic.
        previous: the sequence before it on the same topic (or pattern, see `matched`).
        timestamp: when the stream stored it, Unix ms.
        text: the whole `message` frame as JSON.
        trace: W3C's `traceparent` of whoever published it, where tracing is on.
    """

    topic: str
    sequence: int
    previous: int
    message_id: str
    timestamp: int
    text: bytes
    trace: str = ""


_decode_auth_reply = msgspec.json.Decoder(AuthReply).decode
_decode_auth_request = msgspec.json.Decoder(AuthRequest).decode


def encode_message(message: Struct) -> bytes:
    """Return the JSON of a message to NATS."""
    return _encode(message)


def parse_auth_request(data: bytes) -> AuthRequest:
    """Return the AuthRequest in `data`.

    Raises:
        msgspec.DecodeError, UnicodeError, RecursionError: when it is not one.
    """
    return _decode_auth_request(data)


def parse_auth_reply(data: bytes, granted: Iterable[Rule] = ()) -> Identity | str:
    """Return who the session is, or the backend's word why it was denied.

    Args:
        granted: what every session may do besides.

    Raises:
        AuthUnavailable: when the reply is not one of the contract: never a pass.
    """
    try:
        reply = _decode_auth_reply(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise AuthUnavailable(f"The backend's auth reply does not parse: {exc}.") from exc
    if not reply.success:
        return reply.error or "The backend denied the credential."
    user_id = "" if reply.user_id is None else str(reply.user_id)
    if not is_token(user_id):
        # It is put into patterns and into NATS headers: '*' or 'a.b' there would widen them.
        raise AuthUnavailable(
            "The backend's auth reply names no usable user_id: letters, digits, '-' and '_' only."
        )
    try:
        rules = parse_rules(reply.rules, user_id, granted)
    except BadTopic as exc:
        raise AuthUnavailable(f"A rule in the backend's auth reply is wrong: {exc}") from exc
    # Each once, in the order in which they came: `ready` names what a `subscribed` follows for.
    subscriptions = tuple(dict.fromkeys(reply.subscriptions or ()))
    return Identity(user_id, rules, reply.expires_at, subscriptions, reply.info)


def unix_ms(timestamp: str) -> int:
    """Return RFC 3339 `timestamp` (NATS: UTC, up to nanoseconds) in Unix ms."""
    # In whole numbers: a float loses a millisecond now and then.
    return (datetime.fromisoformat(timestamp) - _EPOCH) // _MILLISECOND


def event_from(
    topic: str,
    payload: bytes,
    headers: Mapping[str, str],
    *,
    previous: int | None = None,
) -> Event:
    """Return the event that a stored or republished message becomes.

    Args:
        topic: the topic it was published on.
        payload: as published.
        headers: those that JetStream added, and the publisher's own.
        previous: the sequence before it on this topic where the headers do not tell (a
            batched direct get counts within the batch).
    """
    sequence = int(headers[SEQUENCE])
    if previous is None:
        previous = int(headers[LAST_SEQUENCE])
    message_id = headers.get(MESSAGE_ID) or headers.get(MSG_ID) or str(sequence)
    return _stored_event(
        topic, payload, sequence, previous, message_id=message_id, stored=headers[TIME_STAMP]
    )


def relayed_event(topic: str, payload: bytes, head: bytes) -> Event | None:
    """Return the event of a republished message that was published without headers.

    Their block is read at one go, where a dictionary of them would take four times as long.

    Args:
        head: the header block, as it came.

    Returns:
        None where there are other headers than JetStream's: see `event_from`.
    """
    found = _RELAYED(head)
    if found is None:
        return None
    sequence, timestamp, previous = found.groups()
    return _stored_event(
        topic,
        payload,
        int(sequence),
        int(previous),
        message_id=sequence.decode(),
        stored=timestamp.decode(),
    )


def ephemeral_event(
    topic: str, payload: bytes, headers: Mapping[str, str], *, message_id: str, timestamp: int
) -> Event:
    """Return the event of a message on a topic that no stream stores.

    Args:
        message_id: used when the publisher gave none.
        timestamp: when it was received, Unix ms.
    """
    message_id = headers.get(MESSAGE_ID) or headers.get(MSG_ID) or message_id
    text = b'{"type":"message","topic":%b,"messageId":%b,%b}' % (
        _encode(topic),
        _encode(message_id),
        _data(payload, timestamp),
    )
    return Event(topic, 0, 0, message_id, timestamp, text)


def matched(event: Event, pattern: str, *, previous: int) -> Event:
    """Return `event` as it goes to those who hold `pattern`; its frame says so.

    Args:
        previous: the sequence of the event before it that matches the pattern.
    """
    text = b'%b,"pattern":"%b"}' % (event.text[:-1], pattern.encode())
    return Event(event.topic, event.sequence, previous, event.message_id, event.timestamp, text)


def redelivered(event: Event) -> bytes:
    """Return the frame text of `event` marked as a repeat."""
    return event.text[:-1] + b',"redelivered":true}'


def parse_payload(payload: bytes) -> bool:
    """Say whether `payload` is strict JSON that may ride in a frame as it is."""
    try:
        _decode_any(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def payload_data(payload: bytes) -> Any:
    """Return a payload as it rides in a reply: JSON as it is, other bytes as base64."""
    if parse_payload(payload):
        return msgspec.Raw(payload)
    return {"encoding": "base64", "data": base64.b64encode(payload).decode()}


def _stored_event(
    topic: str, payload: bytes, sequence: int, previous: int, *, message_id: str, stored: str
) -> Event:
    timestamp = unix_ms(stored)
    text = b'{"type":"message","topic":%b,"seqNo":%d,"prevSeqNo":%d,"messageId":%b,%b}' % (
        _encode(topic),
        sequence,
        previous,
        _encode(message_id),
        _data(payload, timestamp),
    )
    return Event(topic, sequence, previous, message_id, timestamp, text)


def _data(payload: bytes, timestamp: int) -> bytes:
    if parse_payload(payload):
        return b'"ts":%d,"data":%b' % (timestamp, payload)
    return b'"ts":%d,"encoding":"base64","data":"%b"' % (timestamp, base64.b64encode(payload))
