"""permessage-deflate (RFC 7692), without context takeover.

Every message is compressed by itself, so the bytes made here serve every socket that agreed to
the extension, as those of websocket.py serve all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

from .exceptions import BadFrame, TooLarge
from .websocket import frame_text

EXTENSION = "permessage-deflate"
WINDOW_BITS = 12
"""Window of what is sent, as a power of two: 4 KiB. The usual 32 KiB save little more on texts of
this size, and setting up a compressor for them costs more than compressing a small event."""

Parameters = Mapping[str, Sequence[str | bool]]
"""Parameters of an offer: the values given for each name, True where there is none."""

_MEMORY_LEVEL = 5
_LEVEL = 6
_AGREED = f"{EXTENSION}; server_no_context_takeover; client_no_context_takeover"
_COMPRESSED_TEXT = b"\xc1"  # final, RSV1, text
_EMPTY_BLOCK = b"\x00\x00\xff\xff"  # ends a flush, and is left out (RFC 7692 §7.2.1)
_FINAL_BLOCK = b"\x03\x00"  # an empty one, by which a message is known to end where a block does
_LARGEST_WINDOW = 15
_BITS = frozenset(map(str, range(8, 16)))
_SERVER_BITS = frozenset(map(str, range(WINDOW_BITS, 16)))


def negotiate(offers: Iterable[tuple[str, Parameters]]) -> str | None:
    """Return the answer to the first offer that can be met (RFC 7692 §5, §7.1); None: to none.

    Others are declined, those with a parameter that is unknown, repeated or malformed too.

    Args:
        offers: extensions of the handshake, by name, in the client's order of preference.
    """
    for name, offered in offers:
        if name == EXTENSION and all(_can_meet(key, given) for key, given in offered.items()):
            bits = f"; server_max_window_bits={WINDOW_BITS}"
            return _AGREED + bits if "server_max_window_bits" in offered else _AGREED
    return None


def _can_meet(key: str, given: Sequence[str | bool]) -> bool:
    if len(given) != 1:
        return False
    value = given[0]
    if key in ("server_no_context_takeover", "client_no_context_takeover"):
        return value is True
    if key == "client_max_window_bits":
        return value is True or value in _BITS
    return key == "server_max_window_bits" and value in _SERVER_BITS


def deflate(payload: bytes) -> bytes:
    """Return a message's payload compressed (RFC 7692 §7.2.1)."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -WINDOW_BITS, _MEMORY_LEVEL)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(_EMPTY_BLOCK)]


def inflate(payload: bytes, limit: int) -> bytes:
    """Return a compressed message's payload (RFC 7692 §7.2.2).

    No more than a byte over the limit is ever made of it.

    Args:
        limit: most bytes of the result.

    Raises:
        TooLarge: when there is more.
        BadFrame: when it is not compressed data, or not all of it.
    """
    stream = zlib.decompressobj(-_LARGEST_WINDOW)
    end = _EMPTY_BLOCK + _FINAL_BLOCK
    try:
        text = stream.decompress(payload + end, limit + 1)
    except zlib.error as exc:
        raise BadFrame("The message is not compressed data.") from exc
    if len(text) > limit:
        raise TooLarge(f"A message has at most {limit} bytes, inflated.")
    # What ends with a final block of its own has one byte behind it (RFC 7692 §7.2.3.4).
    if not stream.eof or stream.unused_data not in (b"", b"\0" + end):
        raise BadFrame("The message is not compressed data, or not all of it.")
    return text


def frame_deflated(payload: bytes) -> bytes:
    """Return one unmasked, final text frame, compressed if that makes it smaller."""
    compressed = deflate(payload)
    if len(compressed) >= len(payload):
        return frame_text(payload)
    return _COMPRESSED_TEXT + frame_text(compressed)[1:]
