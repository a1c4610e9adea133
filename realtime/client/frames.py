"""Frames as a client sees them: text from the gateway to values, fields to text.

Unknown types and unknown fields are ignored, as the contract asks of clients.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
FrameId = int | str | None


@dataclass(frozen=True, slots=True)
class Message:
    """An event of a topic.

    Attributes:
        data: the payload; bytes where it was not JSON.
        ts: when it was stored, Unix ms.
        seq_no: stream sequence; None on an ephemeral topic.
        prev_seq_no: the sequence before it on this topic.
        redelivered: the gateway sent it before (QoS 1).
        pattern: the subscription it came by, where that is a pattern such as `room.*`.
    """

    topic: str
    data: Any
    message_id: str
    ts: int
    seq_no: int | None = None
    prev_seq_no: int | None = None
    redelivered: bool = False
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What `ready` says. `expires_at`: Unix s, None: never; `heartbeat`: seconds."""

    session_id: str
    user_id: str
    expires_at: float | None
    heartbeat: float
    epoch: str
    subscriptions: tuple[str, ...]
    id: FrameId = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A topic is joined; `seq_no` is its top."""

    topic: str
    seq_no: int
    epoch: str
    recovered: bool
    id: FrameId = None


@dataclass(frozen=True, slots=True)
class Left:
    """The gateway left a topic for this socket: `unsubscribed`."""

    topic: str
    reason: str
    id: FrameId = None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A publish was taken: `ack`. `seq_no` is None on an ephemeral topic."""

    message_id: str
    status: str
    seq_no: int | None
    id: FrameId = None

    @property
    def duplicate(self) -> bool:
        """Say whether it had been stored before."""
        return self.status == "duplicate"


@dataclass(frozen=True, slots=True)
class Gap:
    """These sequences of a topic can no longer be had."""

    topic: str
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream was recreated: its sequences start anew."""

    topic: str
    epoch: str


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """Who came to a topic, each as `presence` returns them, and the ids of those who left it."""

    topic: str
    joined: tuple[Json, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many ephemeral events came faster than they were taken; nothing stores those.

    This is no frame: the client itself says it.
    """

    topic: str
    count: int


Notice = Gap | Reset | Dropped
"""What is told in its place between messages."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a question: `reply`, or anything that just says yes (`pong`)."""

    data: Any
    id: FrameId = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An `error` frame."""

    code: str
    message: str
    topic: str | None
    message_id: str | None
    id: FrameId = None


@dataclass(frozen=True, slots=True)
class Expiring:
    """The credential ends soon; `expires_at` in Unix s."""

    expires_at: float


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Close, and come back after `after` seconds."""

    after: float
    reason: str


Frame = (
    Message
    | Session
    | Subscribed
    | Left
    | Confirmation
    | Gap
    | Reset
    | PresenceChange
    | Reply
    | Failure
    | Expiring
    | Reconnect
)


def message_from(fields: Mapping[str, Any]) -> Message:
    """Return the message of a `message` frame, or of an event in a page of history.

    Raises:
        KeyError, TypeError, ValueError: when it is none.
    """
    data = fields["data"]
    if fields.get("encoding") == "base64":
        data = base64.b64decode(data, validate=True)
    return Message(
        topic=_text(fields["topic"]),
        data=data,
        message_id=_text(fields["messageId"]),
        ts=int(fields["ts"]),
        seq_no=_maybe_int(fields.get("seqNo")),
        prev_seq_no=_maybe_int(fields.get("prevSeqNo")),
        redelivered=fields.get("redelivered") is True,
        pattern=fields.get("pattern"),
    )


def _session(f: Json) -> Session:
    expires = f["expiresAt"]
    return Session(
        _text(f["sessionId"]),
        _text(f["userId"]),
        None if expires is None else float(expires),
        float(f["heartbeat"]),
        _text(f["epoch"]),
        tuple(_text(topic) for topic in f["subscriptions"]),
        f.get("id"),
    )


def _subscribed(f: Json) -> Subscribed:
    recovered = f["recovered"] is True
    return Subscribed(_text(f["topic"]), int(f["seqNo"]), _text(f["epoch"]), recovered, f.get("id"))


def _failure(f: Json) -> Failure:
    return Failure(
        str(f.get("code", "INTERNAL")),
        str(f.get("message", "The gateway gave no reason.")),
        f.get("topic"),
        f.get("messageId"),
        f.get("id"),
    )


_PARSERS: dict[str, Callable[[Json], Frame]] = {
    "ready": _session,
    "subscribed": _subscribed,
    "unsubscribed": lambda f: Left(_text(f["topic"]), str(f.get("reason", "")), f.get("id")),
    "message": message_from,
    "ack": lambda f: Confirmation(
        _text(f["messageId"]), _text(f["status"]), _maybe_int(f.get("seqNo")), f.get("id")
    ),
    "gap": lambda f: Gap(_text(f["topic"]), int(f["fromSeq"]), int(f["toSeq"])),
    "reset": lambda f: Reset(_text(f["topic"]), _text(f["epoch"])),
    "presence": lambda f: PresenceChange(
        _text(f["topic"]),
        tuple({"userId": _text(one["userId"]), "info": one["info"]} for one in f["joined"]),
        tuple(_text(user_id) for user_id in f["left"]),
    ),
    "reply": lambda f: Reply(f["data"], f.get("id")),
    "pong": lambda f: Reply(None, f.get("id")),
    "error": _failure,
    "expiring": lambda f: Expiring(float(f["expiresAt"])),
    "reconnect": lambda f: Reconnect(max(0.0, float(f["afterMs"]) / 1000), str(f.get("reason"))),
}


def parse_frame(text: str | bytes) -> Frame | None:
    """Return the frame in `text`; None when it is none that this client knows."""
    try:
        fields = json.loads(text)
        return _PARSERS[fields["type"]](fields)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def encode_frame(type_: str, fields: Mapping[str, Any]) -> bytes:
    """Return the JSON text of a client frame; fields that are None are left out.

    Raises:
        ValueError, TypeError: when a field holds what strict JSON cannot say.
    """
    known = {name: value for name, value in fields.items() if value is not None}
    frame = {"type": type_, **known}
    if type_ in ("publish", "request"):
        frame["payload"] = fields["payload"]  # null is a payload like any other
    return json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _maybe_int(value: Any) -> int | None:
    return None if value is None else int(value)
