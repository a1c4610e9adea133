"""WebSocket framing of what the gateway sends (RFC 6455 §5.2).

A server's frames carry no mask, so the bytes made here serve every socket of a topic.
"""

from __future__ import annotations

from collections.abc import Iterable

_FINAL_TEXT = 0x81


def frame_text(payload: bytes) -> bytes:
    """Return one unmasked, final text frame around UTF-8 `payload`."""
    size = len(payload)
    if size < 126:
        return bytes((_FINAL_TEXT, size)) + payload
    if size < 65536:
        return bytes((_FINAL_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_FINAL_TEXT, 127)) + size.to_bytes(8, "big") + payload


def frame_texts(payloads: Iterable[bytes]) -> bytes:
    """Return several text frames as one piece, so that they cost one write a socket."""
    return b"".join(map(frame_text, payloads))
