"""Frames from the gateway: values that leave as strict JSON; events are in messages.py."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .exceptions import ErrorCode, GatewayError

_encode = msgspec.json.Encoder().encode


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
