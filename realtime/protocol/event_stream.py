"""Server-sent events: frames as the text of an event stream, and the ids by which it goes on.

https://html.spec.whatwg.org/multipage/server-sent-events.html

An id holds the position of each topic, in the order in which the request names them, and the
epoch they belong to: `17@EPOCH`, or `17,-,40@EPOCH` (`-`: not joined yet). The epoch may be left
out, so a plain sequence is an id as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from .exceptions import BadFrame

MAX_SEQUENCE = 2**53
COMMENT = b":\n\n"
"""What keeps a quiet stream alive, and shows a dead one; clients skip it."""
MAX_ID = 4096
"""Characters of an id: a hundred positions and an epoch fit."""

_POSITION = re.compile(r"-|[0-9]{1,16}")


class Head(Struct, rename="camel"):
    """What positions need to know of a frame."""

    type: str
    topic: str | None = None
    pattern: str | None = None
    seq_no: int | None = None
    to_seq: int | None = None
    epoch: str | None = None
    code: str | None = None
    message: str | None = None

    @property
    def held(self) -> str | None:
        """The topic or pattern that was subscribed to."""
        return self.pattern or self.topic


head_of = msgspec.json.Decoder(Head).decode


class Cursor:
    """The positions of a stream's topics, moved on by each frame that is written.

    Args:
        topics: as the request names them.
        event_id: where the stream is to go on; empty: at the tops.

    Raises:
        BadFrame: when the id is none, or is not about so many topics.
    """

    def __init__(self, topics: Sequence[str], event_id: str = "") -> None:
        positions, _, epoch = event_id.partition("@")
        fields = positions.split(",") if event_id else ["-"] * len(topics)
        valid = len(event_id) <= MAX_ID and all(map(_POSITION.fullmatch, fields))
        if event_id and not (valid and len(fields) == len(topics)):
            raise BadFrame(
                "The event id is not one of this stream: it has one position for each topic,"
                " in their order."
            )
        self.positions = {
            topic: None if field == "-" else min(int(field), MAX_SEQUENCE)
            for topic, field in zip(topics, fields, strict=True)
        }
        self.epoch = epoch

    def follow(self, head: Head) -> bool:
        """Take in a frame; say whether that moved a position."""
        topic = head.held
        if topic is None or topic not in self.positions:
            return False
        match head.type:
            case "message" if head.seq_no is not None:
                self.positions[topic] = head.seq_no
            case "gap":
                self.positions[topic] = head.to_seq
            case "reset":
                self.positions[topic], self.epoch = 0, head.epoch or ""
            case "subscribed":
                self.epoch = head.epoch or ""
                if self.positions[topic] is None:
                    self.positions[topic] = head.seq_no
            case _:
                return False
        return True

    @property
    def event_id(self) -> str:
        """The id of the present positions."""
        fields = ("-" if one is None else str(one) for one in self.positions.values())
        return ",".join(fields) + (f"@{self.epoch}" if self.epoch else "")


def encode_event(text: bytes, event_id: str = "", event: str = "") -> bytes:
    """Return an event whose data is a JSON text; that may be of several lines."""
    # Between JSON's tokens a line break is as good as a space; elsewhere it is escaped.
    data = b" ".join(text.splitlines())
    name = f"event: {event}\n" if event else ""
    number = f"id: {event_id}\n" if event_id else ""
    return f"{name}{number}data: ".encode() + data + b"\n\n"


def encode_close(code: int, reason: str) -> bytes:
    """Return the event that ends a stream: what a close frame says on a WebSocket."""
    return encode_event(json.dumps({"code": code, "reason": reason}).encode(), event="close")
