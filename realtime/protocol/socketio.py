"""Socket.IO: frames of the gateway as a Socket.IO client's events, and its events as frames.

https://socket.io/docs/v4/socket-io-protocol/

A `message` becomes an event named after its topic, with the data, and with what else is known of
it. The direct reply to a frame becomes the acknowledgement of the event that the frame came as:
the `id` of the one is the number of the other. Every other frame becomes the event `gateway`,
which no topic can be called.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, get_args

import msgspec
from msgspec import Raw

from .client_frames import AnyClientFrame
from .exceptions import CloseCode

EVENT = "2"
ACK = "3"
DISCONNECT = "1"
"""A packet that ends the session; a client then stays away until it is told to come back."""
BINARY = ("5", "6")
"""Types of packets whose binary parts follow in messages of their own."""
CONTROL = "gateway"
"""The event of every frame that is neither a message nor a direct reply."""
CACHED = 64
"""Messages whose packet is kept: many sockets of a process write the same one."""

# What a client may send by Engine.IO: close, ping, pong, message, upgrade, no-op
# (https://socket.io/docs/v4/engine-io-protocol/). A message has to hold a Socket.IO packet.
_TRANSPORT_PACKET = re.compile(r"(?:[1356]|[23]probe|4[0-6].*)\Z", re.DOTALL)
MESSAGE = "4"

FRAMES = frozenset(str(frame.__struct_config__.tag) for frame in get_args(AnyClientFrame)) - {
    "connect",
    "setup",
}
"""Events that are frames; every other one publishes on the topic of its name."""
_WITH_PAYLOAD = frozenset({"publish", "request"})
_CREDENTIALS = ("token", "sessionId", "lastSeqPerTopic")

_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def is_transport_packet(packet: str) -> bool:
    """Say whether a client may send this by Engine.IO."""
    return _TRANSPORT_PACKET.match(packet) is not None


def loads(text: str) -> Any:
    """Return the value of a JSON text, strictly read.

    Raises:
        ValueError: when it is none, or nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ValueError("This is no JSON.") from exc


def connect_frame(auth: object) -> bytes:
    """Return the `connect` frame for what a client gave as `auth`."""
    given = auth if isinstance(auth, dict) else {}
    known = {name: given[name] for name in _CREDENTIALS if given.get(name) is not None}
    return _encode({"type": "connect", **known})


def client_frame(event: str, args: Sequence[Any], ack: int | None, message_id: str) -> bytes:
    """Return the frame for an event; whether it is a good one is for its parser to say.

    Args:
        event: the type of a frame, or else a topic to publish on.
        args: for a frame its fields, or its topic and then its payload or its other fields; for a
            topic the payload (several arguments: as a list).
        ack: the number of the acknowledgement that is waited for, if any.
        message_id: for a publish that brings none.
    """
    fields: dict[str, Any]
    if event not in FRAMES:
        payload = args[0] if len(args) == 1 else list(args) or None
        fields = {"topic": event, "payload": payload}
        event = "publish"
    else:
        fields = _fields(event, args)
    if event == "publish":
        fields.setdefault("messageId", message_id)
    fields.pop("id", None)
    return _encode({**fields, "type": event} | ({} if ack is None else {"id": ack}))


def _fields(event: str, args: Sequence[Any]) -> dict[str, Any]:
    if args and isinstance(args[0], str):
        fields = {"token" if event == "refresh" else "topic": args[0]}
        if event in _WITH_PAYLOAD:
            return {**fields, "payload": args[1] if len(args) > 1 else None}
        more = args[1] if len(args) > 1 else {}
    else:
        fields, more = {}, args[0] if args else {}
    return {**more, **fields} if isinstance(more, dict) else fields


@lru_cache(maxsize=CACHED)
def packet_for(text: bytes) -> str:
    """Return the packet for the text of a gateway frame."""
    fields = _decode(text)
    if bytes(fields["type"]) == b'"message"':
        del fields["type"]
        topic, data = fields.pop("topic"), fields.pop("data")
        return EVENT + _encode([topic, data, fields]).decode()
    number = fields.pop("id", None)
    if number is not None and bytes(number).isdigit():
        return f"{ACK}{bytes(number).decode()}{_encode([fields]).decode()}"
    return EVENT + _encode([CONTROL, fields]).decode()


def close_packets(code: int, reason: str) -> list[str]:
    """Return the packets that tell why a session ends, and whether to come back."""
    told = EVENT + _encode([CONTROL, {"type": "close", "code": code, "reason": reason}]).decode()
    # A client comes back by itself when just its transport goes.
    return [told] if CloseCode(code).retry else [told, DISCONNECT]
