"""What JetStream answers: confirmations, streams and their state (NATS ADR-31, ADR-8)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from .exceptions import Unavailable


class Stored(Struct, frozen=True):
    """JetStream's confirmation of a publish."""

    sequence: int = msgspec.field(name="seq")
    duplicate: bool = False


class StreamState(Struct, frozen=True):
    """What a stream holds: sequences `first` to `last`, less `deleted` ones in between.

    `subjects`: how many different ones its `messages` are of.
    """

    first: int = msgspec.field(name="first_seq")
    last: int = msgspec.field(name="last_seq")
    deleted: int = msgspec.field(name="num_deleted", default=0)
    messages: int = 0
    bytes: int = 0
    subjects: int = msgspec.field(name="num_subjects", default=0)


class StreamInfo(Struct, frozen=True):
    """A stream: its configuration, its creation time (the epoch) and its state."""

    config: dict[str, Any]
    created: str
    state: StreamState


class _ApiError(Struct, frozen=True):
    description: str = ""
    code: int = 0


class _StreamReply(Struct, frozen=True):
    error: _ApiError | None = None
    config: dict[str, Any] | None = None
    created: str = ""
    state: StreamState | None = None


class _PublishReply(Struct, frozen=True):
    error: _ApiError | None = None
    seq: int = 0
    duplicate: bool = False


_decode_stream = msgspec.json.Decoder(_StreamReply).decode
_decode_publish = msgspec.json.Decoder(_PublishReply).decode


def parse_stored(data: bytes) -> Stored:
    """Return the confirmation of a publish.

    Raises:
        Unavailable: when it is none, or a refusal.
    """
    try:
        reply = _decode_publish(data)
    except msgspec.DecodeError as exc:
        raise Unavailable("The stream did not confirm the message; try again.") from exc
    if reply.error is not None:
        raise Unavailable(f"The stream refused the message: {reply.error.description}.")
    return Stored(reply.seq, reply.duplicate)


def parse_stream(stream: str, data: bytes) -> StreamInfo | None:
    """Return a stream as JetStream describes it, None when there is none.

    Raises:
        Unavailable: when it says neither.
    """
    try:
        reply = _decode_stream(data)
    except msgspec.DecodeError as exc:
        raise Unavailable("JetStream does not answer.") from exc
    if reply.error is not None:
        if reply.error.code == 404:
            return None
        raise Unavailable(f"JetStream refused the stream {stream}: {reply.error.description}.")
    if reply.config is None or reply.state is None:
        raise Unavailable("JetStream's answer about the stream does not parse.")
    return StreamInfo(reply.config, reply.created, reply.state)
