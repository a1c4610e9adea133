"""Timer: a callback after a while or at a Unix time, however far away; setting it ends the last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

MAX_TIMER = 86400.0 * 24
"""Longest timer in seconds; some event loops take no longer ones."""


class Timer:
    """At most one callback that is to come, in the event loop in which it is set."""

    __slots__ = ("_handle",)

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Call after that many seconds, fewer than `MAX_TIMER`."""
        self.cancel()
        self._handle = asyncio.get_running_loop().call_later(seconds, work)

    def at(self, when: float, work: Callable[[], None]) -> None:
        """Call at a Unix time, by as many timers one after the other as it takes."""
        left = max(when - time.time(), 0.0)
        if left > MAX_TIMER:
            self.after(MAX_TIMER, lambda: self.at(when, work))
        else:
            self.after(left, work)

    def cancel(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
