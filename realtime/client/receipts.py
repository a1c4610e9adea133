"""QoS 1: how far events were confirmed, and when to tell the gateway.

What is confirmed is told as a position, "all up to here", so that one lost `ack` frame does no
harm: the next one says the same and more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PAUSE = 0.01
"""Seconds between two `ack` frames: the gateway limits frames a second."""


class Receipts:
    """The confirmed position of one subscription.

    Args:
        since: the position to begin with, if any.
        tell: sends it to the gateway.
    """

    def __init__(self, since: int | None, tell: Callable[[int], None]) -> None:
        self.position = since
        self._tell = tell
        self._resets = 0
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    def confirm(self, sequence: int) -> None:
        """Note that everything up to a sequence is done with."""
        if self._resets:
            return  # of the stream that is gone: in the new one the number means something else
        self.position = max(self.position or 0, sequence)
        self._say_soon()

    def repeated(self, sequence: int) -> None:
        """Note that an event came again: when it was confirmed, that was lost on the way."""
        if self.position is not None and sequence <= self.position:
            self._say_soon()

    def reset_queued(self) -> None:
        """Note that the stream is another one; events of the old one are still to be taken."""
        self.position = None
        self._due = False
        self._resets += 1

    def reset_taken(self) -> None:
        """Note that what is taken from now on is of the new stream."""
        self._resets -= 1

    def stop(self) -> None:
        """Tell nothing more."""
        self._due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say_soon(self) -> None:
        self._due = True
        if self._timer is None:
            self._say()

    def _say(self) -> None:
        self._timer = None
        if self._due and self.position is not None:
            self._due = False
            self._tell(self.position)
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._say)
