"""Parameters of the REST API: as the OpenAPI document tells them, and as they are read."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated

import msgspec
from drf_spectacular.utils import OpenApiParameter
from msgspec import Meta, Struct
from rest_framework.exceptions import NotFound

from ..protocol.messages import Event
from ..protocol.subjects import MAX_TOPIC_BYTES
from .bodies import DEFAULT_PAGE, MAX_PAGE
from .publishing import KEY_PATTERN

_TOKEN = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]+$",
    "maxLength": MAX_TOPIC_BYTES,
    "examples": ["7"],
}
_TOPIC = {
    **_TOKEN,
    "pattern": r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
    "examples": ["room.lobby"],
}
TOPIC = OpenApiParameter("topic", _TOPIC, OpenApiParameter.PATH)
USER_ID = OpenApiParameter("user_id", _TOKEN, OpenApiParameter.PATH)
LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
    description="How many at most; fewer where their texts are long.",
)
CURSOR = OpenApiParameter("cursor", str, description="`nextCursor` of the page before.")
UNREAD = OpenApiParameter("unread", bool, description="Only what is not read.")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": KEY_PATTERN},
    OpenApiParameter.HEADER,
    description="The same key from the same user within `DEDUP_WINDOW` is stored once: send a"
    " request that got no answer again with it. An event's own `messageId` counts before it.",
)


class PageQuery(Struct, frozen=True):
    """What a page is asked for with."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: str = ""
    unread: bool = False


class Cursor(Struct, frozen=True, array_like=True):
    """Where a page ended: before which sequence of which stream the next one begins."""

    before: int
    epoch: str


_decode_cursor = msgspec.json.Decoder(Cursor).decode


def next_cursor(events: Sequence[Event], more: bool, epoch: str) -> str | None:
    """Return the cursor of the page after `events`, None when there is none."""
    if not (more and events):
        return None
    text = msgspec.json.encode(Cursor(events[-1].sequence, epoch))
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def read_cursor(text: str) -> Cursor | None:
    """Return the cursor in a query, None when it is the first page.

    Raises:
        NotFound: when it is none.
    """
    if not text:
        return None
    try:
        return _decode_cursor(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)))
    except (ValueError, msgspec.DecodeError) as exc:
        raise NotFound("This cursor leads nowhere: begin without one.") from exc


def position_of(cursor: Cursor | None, epoch: str) -> int | None:
    """Return before which sequence the page is.

    Raises:
        NotFound: when the cursor is of a stream that is gone.
    """
    if cursor is None:
        return None
    if cursor.epoch != epoch:
        raise NotFound("The stream was made anew since: begin without a cursor.")
    return cursor.before
