"""Frames between a browser and the gateway: values, parsed and encoded strictly.

Client frames are decoded and validated in one pass by msgspec; unknown fields are ignored, a
wrong or missing one is `BadFrame`. Gateway frames leave as strict JSON.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Annotated, Any, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import fields

from .exceptions import BadFrame, ErrorCode, GatewayError
from .names import repeated_name

# A JSON number beyond 2^53 is not the same number in JavaScript.
Sequence = Annotated[int, Meta(ge=0, le=2**53)]
FrameId = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(max_length=128)]
# It travels in a NATS header, which has no place for control characters or outer spaces.
MessageId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"\A[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?\Z",
    ),
]
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class ClientFrame(Struct, frozen=True, rename="camel", tag_field="type", kw_only=True):
    """What every client frame may carry: an `id` that the direct reply echoes."""

    id: FrameId | None = None


class Connect(ClientFrame, frozen=True, tag="connect"):
    """First frame: the credential; with the last two fields it also resumes."""

    token: str | None = None
    session_id: str | None = None
    last_seq_per_topic: dict[str, Sequence] | None = None


class Setup(Connect, frozen=True, tag="setup"):
    """Alias of `connect`."""


class Subscribe(ClientFrame, frozen=True, tag="subscribe"):
    """Join a topic or pattern; `since` asks first for what the stream holds after it.

    `presence` asks for joins and leaves as well.
    """

    topic: str
    since: Sequence | None = None
    epoch: str | None = None
    qos: Annotated[int, Meta(ge=0, le=1)] | None = None
    durable: Name | None = None
    presence: bool | None = None


class Unsubscribe(ClientFrame, frozen=True, tag="unsubscribe"):
    """Leave a topic."""

    topic: str


class Publish(ClientFrame, frozen=True, tag="publish"):
    """Store and deliver a payload once per user and `messageId`."""

    topic: str
    message_id: MessageId
    payload: Raw


class Ack(ClientFrame, frozen=True, tag="ack"):
    """Confirm one event by `messageId`, or all up to `seqNo` of a topic.

    What a backend chose as `messageId` may be longer and odder than what `publish` takes.
    """

    message_id: Annotated[str, Meta(min_length=1)] | None = None
    topic: str | None = None
    seq_no: Sequence | None = None


class Resume(ClientFrame, frozen=True, tag="resume"):
    """Resubscribe to topics, each from its sequence, after a reconnect."""

    session_id: str
    last_seq_per_topic: dict[str, Sequence]


class Replay(ClientFrame, frozen=True, tag="replay"):
    """Ask again for what the stream holds from a sequence on."""

    topic: str
    from_seq: Sequence


class History(ClientFrame, frozen=True, tag="history"):
    """Ask for a page of stored events, newest last."""

    topic: str
    limit: Annotated[int, Meta(ge=1, le=1000)] | None = None
    before: Sequence | None = None


class Request(ClientFrame, frozen=True, tag="request"):
    """NATS request/reply to a backend; `timeout` in seconds."""

    topic: str
    payload: Raw
    timeout: Annotated[float, Meta(gt=0, le=60)] | None = None


class Presence(ClientFrame, frozen=True, tag="presence"):
    """Ask who is subscribed."""

    topic: str


class Refresh(ClientFrame, frozen=True, tag="refresh"):
    """A new token for the open session."""

    token: str


class Ping(ClientFrame, frozen=True, tag="ping"):
    """Answered by `pong`."""


AnyClientFrame = (
    Connect
    | Setup
    | Subscribe
    | Unsubscribe
    | Publish
    | Ack
    | Resume
    | Replay
    | History
    | Request
    | Presence
    | Refresh
    | Ping
)


class _Envelope(Struct, frozen=True):
    """The `id` of a frame that is otherwise wrong, so that its error can echo it."""

    id: FrameId | None = None


MAX_REASON = 200
"""Characters of a parser's complaint that are passed on: it may quote what was sent."""
_PATTERN = re.compile(r"matching regex '.*?'(?= - at)", re.DOTALL)

_decode: Callable[[str | bytes], AnyClientFrame] = msgspec.json.Decoder(AnyClientFrame).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_NAMES = {
    kind: tuple(f'"{name}"' for name in ("type", *(f.encode_name for f in fields(kind))))
    for kind in get_args(AnyClientFrame)
}


def parse_frame(text: str | bytes) -> AnyClientFrame:
    """Return the client frame in `text`.

    Raises:
        BadFrame: with a sentence that names the field; carries the frame's `id` if it had one.
    """
    try:
        frame = _decode(text)
        if isinstance(frame, Publish | Request):
            # Raw was only skipped over; a full pass refuses bad UTF-8 and numbers that no
            # reader holds (1e999, a 5,000-digit integer) before anybody else gets them.
            _decode_any(frame.payload)
        twice = repeated_name(text if isinstance(text, str) else text.decode(), _NAMES[type(frame)])
        if twice is None:
            return frame
        reason = f"{twice} comes twice"
    except RecursionError:
        reason = "the JSON is nested too deeply"
    except (msgspec.DecodeError, UnicodeError) as exc:
        reason = _PATTERN.sub("of the allowed characters", str(exc)).replace("`", "'")
    frame_id: str | int | None = None
    with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        frame_id = _decode_envelope(text).id
    raise BadFrame(
        f"This is not a frame of the protocol: {reason[:MAX_REASON]}.", frame_id=frame_id
    )


def parse_payload(payload: bytes) -> bool:
    """Say whether `payload` is strict JSON that may ride in a frame as it is."""
    try:
        _decode_any(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


class GatewayFrame(
    Struct, frozen=True, rename="camel", tag_field="type", omit_defaults=True, kw_only=True
):
    """What every gateway frame may carry: the `id` of the frame that it answers."""

    id: str | int | None = None


class Ready(GatewayFrame, frozen=True, tag="ready"):
    """The session is open."""

    session_id: str
    user_id: str
    expires_at: float | None
    heartbeat: float
    epoch: str
    subscriptions: list[str]


class Subscribed(GatewayFrame, frozen=True, tag="subscribed"):
    """Joined; `recovered` false: not everything after `since` could be had.

    On an ephemeral topic `seqNo` is 0, and `recovered` is false where a `since` was sent.
    """

    topic: str
    seq_no: int
    epoch: str
    recovered: bool


class Unsubscribed(GatewayFrame, frozen=True, tag="unsubscribed"):
    """Left."""

    topic: str
    reason: str


class PublishAck(GatewayFrame, frozen=True, tag="ack"):
    """Stored (or, on an ephemeral topic, handed to NATS: then without `seqNo`)."""

    message_id: str
    status: str
    seq_no: int | UnsetType = UNSET


class Recovery(Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """What `resumed` says of one topic: sequences after `first` up to `last` follow."""

    recovered: bool
    first: int
    last: int


class Resumed(GatewayFrame, frozen=True, tag="resumed"):
    """The topics that were joined again; their missed events follow."""

    session_id: str
    topics: dict[str, Recovery]


class Gap(GatewayFrame, frozen=True, tag="gap"):
    """Sequences that can no longer be had."""

    topic: str
    from_seq: int
    to_seq: int


class Reset(GatewayFrame, frozen=True, tag="reset"):
    """The stream was recreated; sequences start anew."""

    topic: str
    epoch: str


class Reply(GatewayFrame, frozen=True, tag="reply"):
    """The answer to `request`, `history` or `presence`."""

    data: Any


class Present(Struct, frozen=True, rename="camel"):
    """A user who came, and what the backend wants shown."""

    user_id: str
    info: dict[str, Any] | None


class PresenceChange(GatewayFrame, frozen=True, tag="presence"):
    """Users came to a topic, or left it (by their ids)."""

    topic: str
    joined: list[Present]
    left: list[str]


class Expiring(GatewayFrame, frozen=True, tag="expiring"):
    """The session ends soon: send `refresh`."""

    expires_at: float


class Reconnect(GatewayFrame, frozen=True, tag="reconnect"):
    """Close and come back after `afterMs` milliseconds."""

    after_ms: int
    reason: str


class Error(GatewayFrame, frozen=True, tag="error"):
    """Something was refused or failed; the socket stays unless a close follows."""

    code: ErrorCode
    message: str
    topic: str | None = None
    message_id: str | None = None


class Pong(GatewayFrame, frozen=True, tag="pong"):
    """The answer to `ping`."""


def encode_frame(frame: GatewayFrame) -> bytes:
    """Return the JSON text of a gateway frame."""
    return _encode(frame)


def whole(number: float) -> float:
    """Return a number that has no fraction as an integer: `25.0` does not fit elsewhere's `int`."""
    return int(number) if float(number).is_integer() and abs(number) <= 2**53 else number


def error_for(exc: GatewayError, frame_id: str | int | None) -> Error:
    """Return the `error` frame of an exception, answering the frame with that id."""
    return Error(
        id=frame_id,
        code=exc.code,
        message=exc.message,
        topic=exc.topic,
        message_id=exc.message_id,
    )
