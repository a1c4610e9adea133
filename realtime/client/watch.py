"""Whether what is known to be missing comes: asks for it again, and gives it up in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

REPLAYS = 2
"""Questions for the same hole, then it is given up and told as a gap."""


class Watch:
    """The timer of one subscription; it runs while events are missing.

    Args:
        patience: seconds without progress, then the hole is asked for or given up.
        replay: asks for it.
        give_up: tells of it; what is missing then is watched anew.
        excused: says that the gateway has a reason to send nothing.
    """

    def __init__(
        self,
        patience: float,
        *,
        replay: Callable[[], None],
        give_up: Callable[[], None],
        excused: Callable[[], bool],
    ) -> None:
        self._patience = patience
        self._replay = replay
        self._give_up = give_up
        self._excused = excused
        self._replays = 0
        self._progress_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def missing(self, missing: bool) -> None:
        """Take note of whether events are missing now."""
        if not missing:
            self.stop()
        elif self._timer is None:
            self.progressed()
            self._wait(self._patience)

    def hole(self) -> None:
        """Ask at once for a hole that has just shown; later ones wait for their turn."""
        if self._timer is None:
            self._ask()

    def progressed(self) -> None:
        """Note that something came."""
        self._progress_at = asyncio.get_running_loop().time()

    def excuse(self) -> None:
        """Note that the gateway cannot look now: that is no reason to give up."""
        self._replays = 0
        self.progressed()

    def stop(self) -> None:
        """Watch no more."""
        self._replays = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, delay: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        if self._excused():
            self.progressed()
        left = self._progress_at + self._patience - asyncio.get_running_loop().time()
        if left > 0:
            self._wait(left)
        elif self._replays < REPLAYS:
            self._ask()
            self.missing(True)
        else:
            self._replays = 0
            self._give_up()

    def _ask(self) -> None:
        self._replays += 1
        self._replay()
