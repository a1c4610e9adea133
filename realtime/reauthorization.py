"""Reauthorization: an open session is asked about again, and told nothing while that takes long.

A change of rules has to take effect within two seconds, also when the backend is slow or one of
its auth workers is frozen. So a session whose answer is overdue is suspended: nothing is
delivered to it and nothing taken from it until the answer is there. It keeps its topics and its
places in them, so a slow backend costs everybody a pause, and nobody an event that is stored.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from .protocol.exceptions import AuthFailed, AuthUnavailable
from .protocol.messages import Identity

DEADLINE = 1.75
"""Seconds from hearing of a change until it counts as overdue: two, less what travelling takes."""
TRIES = 3
"""Times the backend is asked for new rules before the socket has to come back."""


class Session(Protocol):
    """The session that is asked about."""

    async def authenticate_again(self) -> Identity:
        """Return who the backend now says it is."""

    async def become(self, identity: Identity) -> None:
        """Take that, and go on unless another answer is `overdue`."""

    def suspend(self) -> None:
        """Deliver and take nothing until then."""

    def disconnect(self, reason: str) -> None:
        """End for good."""

    def send_away(self) -> None:
        """End for now: nobody says what it may."""


class Round:
    """One asking: when it begins, and whether its answer is overdue."""

    __slots__ = ("begins", "deadline", "overdue", "when")

    def __init__(self, when: float, begins: asyncio.TimerHandle) -> None:
        # Kept here: a handle of uvloop's does not tell.
        self.when = when
        self.begins = begins
        self.deadline: asyncio.TimerHandle | None = None
        self.overdue = False

    def cancel(self) -> None:
        """Begin nothing, and miss no deadline."""
        self.begins.cancel()
        if self.deadline is not None:
            self.deadline.cancel()


class Reauthorization:
    """Asks again about one session.

    Args:
        spawn: runs a coroutine as a task.

    Attributes:
        asking: held while a question is open: an older answer must not undo a newer one.
    """

    __slots__ = ("_session", "_spawn", "_waiting", "_working", "asking")

    def __init__(
        self, session: Session, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._session = session
        self._spawn = spawn
        self.asking = asyncio.Lock()
        self._waiting: Round | None = None
        self._working: Round | None = None

    @property
    def overdue(self) -> bool:
        """Say whether something changed that the question under way came too early for."""
        return self._waiting is not None and self._waiting.overdue

    def soon(self, spread: float, *, urgent: bool = True) -> None:
        """Ask within `spread` seconds; what is said meanwhile is one question.

        Args:
            urgent: something changed, so the session is suspended when the answer is overdue.
        """
        loop = asyncio.get_running_loop()
        when = loop.time() + random.uniform(0, spread)
        if self._waiting is None:
            self._waiting = Round(when, loop.call_at(when, self._begin))
        elif when < self._waiting.when:
            self._waiting.begins.cancel()
            self._waiting.when = when
            self._waiting.begins = loop.call_at(when, self._begin)
        if urgent and self._waiting.deadline is None:
            self._waiting.deadline = loop.call_later(DEADLINE, self._missed, self._waiting)

    def close(self) -> None:
        """Ask nothing more."""
        for one in (self._waiting, self._working):
            if one is not None:
                one.cancel()
        self._waiting = None

    def _begin(self) -> None:
        self._spawn(self._work())

    async def _work(self) -> None:
        async with self.asking:
            # What is said from here on needs another question.
            self._working, self._waiting = self._waiting, None
            if self._working is None:
                return
            try:
                await self._ask()
            except Exception:
                # It may be suspended, and nobody else would ask.
                self._session.send_away()
                raise
            finally:
                self._working.cancel()
                self._working = None

    async def _ask(self) -> None:
        for attempt in range(TRIES):
            try:
                await self._session.become(await self._session.authenticate_again())
                return
            except AuthUnavailable:
                await asyncio.sleep(0.25 * 2**attempt)
            except AuthFailed as exc:
                self._session.disconnect(exc.message)
                return
        # Rules changed and nobody says how: better a reconnect than a leak.
        self._session.send_away()

    def _missed(self, late: Round) -> None:
        late.overdue = True
        self._session.suspend()
