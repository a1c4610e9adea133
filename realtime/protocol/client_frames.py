"""Frames from the client: values, parsed strictly.

They are decoded and validated in one pass by msgspec; unknown fields are ignored, a wrong or
missing one is `BadFrame`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Annotated, get_args

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import fields

from .exceptions import BadFrame
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
_NAMES = {
    kind: tuple(f'"{name}"' for name in ("type", *(f.encode_name for f in fields(kind))))
    for kind in get_args(AnyClientFrame)
}


def resume_for(frame: Connect) -> Resume | None:
    """Return the `resume` that rides in a `connect`, None when there is none."""
    if frame.session_id is None or frame.last_seq_per_topic is None:
        return None
    return Resume(
        id=frame.id, session_id=frame.session_id, last_seq_per_topic=frame.last_seq_per_topic
    )


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
