"""Compression: each text once, for all sockets of a process that take it compressed."""

from __future__ import annotations

from collections.abc import Sequence

from .metrics import Metrics
from .protocol.deflate import frame_deflated
from .protocol.websocket import frame_text

KEPT_BYTES = 1024**2
"""Texts and their frames that are kept; beyond it the oldest go."""
KEPT_AT_MOST = 64 * 1024
"""Text of one frame that is kept; longer ones are answers to one client."""
ENTRY_BYTES = 200
"""What an entry takes beyond its text and frame."""


class Compressor:
    """Frames texts, and keeps the frames while others may want them.

    The sockets of a topic are handed one list of texts after each other, so the frames of the
    last list are at hand. Other sockets get the same texts in lists of their own, one by one or
    as a page: those are found by their content.

    Args:
        metrics: counts what is compressed.
        min_bytes: texts below this size stay as they are.
    """

    def __init__(self, metrics: Metrics, min_bytes: int) -> None:
        self._metrics = metrics
        self._min_bytes = min_bytes
        self._last: tuple[Sequence[bytes], bytes] = ((), b"")
        self._kept: dict[bytes, bytes] = {}
        self._bytes = 0

    def frames(self, texts: Sequence[bytes]) -> bytes:
        """Return several texts framed as one piece; the list is not changed any more."""
        last, frames = self._last
        if texts is not last:
            frames = b"".join(map(self.frame, texts))
            self._last = (texts, frames)
        return frames

    def frame(self, text: bytes) -> bytes:
        """Return one text framed."""
        if len(text) < self._min_bytes:
            return frame_text(text)
        framed = self._kept.get(text)
        if framed is None:
            framed = frame_deflated(text)
            self._metrics.compressions += 1
            if len(text) <= KEPT_AT_MOST:
                self._keep(text, framed)
        return framed

    def _keep(self, text: bytes, framed: bytes) -> None:
        self._kept[text] = framed
        self._bytes += len(text) + len(framed) + ENTRY_BYTES
        while self._bytes > KEPT_BYTES:
            oldest = next(iter(self._kept))
            self._bytes -= len(oldest) + len(self._kept.pop(oldest)) + ENTRY_BYTES
