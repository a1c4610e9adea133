"""The link to the gateway: connects, and comes back by itself, until the gateway says not to."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from websockets.exceptions import InvalidStatus, WebSocketException

from realtime.protocol.exceptions import CloseCode

from .backoff import Backoff
from .connection import ABNORMAL, Connection, opened
from .errors import LoginFailed
from .frames import Failure, Frame, Reconnect, Session, encode_frame
from .options import Timing, Token

logger = logging.getLogger(__name__)

REFUSED_FOR_GOOD = frozenset({400, 401, 403})
"""HTTP statuses of the upgrade after which the same request cannot pass."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the connection stands.

    Attributes:
        retry_in: seconds until the next attempt; None: none waits.
        code: close code of the connection that was lost.
        reason: a sentence for people, where there is one.
    """

    name: Literal["closed", "connecting", "open", "reconnecting", "denied"]
    retry_in: float | None = None
    code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection, or an attempt, ended. `lived` and `after` in seconds."""

    code: int
    reason: str
    lived: float = 0.0
    after: float | None = None
    for_good: bool = False

    @property
    def comes_back(self) -> bool:
        """Say whether a client should come back: 4500 to 4999 say no."""
        return not self.for_good and not 4500 <= self.code <= 4999


class Handlers(Protocol):
    """Who is told."""

    def received(self, frame: Frame) -> None:
        """Take in a frame; the first one of a connection is a Session, or a Failure."""

    def lost(self, code: int) -> None:
        """Note that the connection, or the attempt, ended."""

    def changed(self, state: State) -> None:
        """Note a new state."""


class Link:
    """One connection after the other.

    Args:
        url: as `address_of` returns it.
        headers: of the upgrade request.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token,
        headers: Mapping[str, str],
        compression: bool,
        max_size: int,
        timing: Timing,
        backoff: Backoff,
        handlers: Handlers,
    ) -> None:
        self.state = State("closed")
        self._url = url
        self._token = token
        self._headers = headers
        self._compression = compression
        self._max_size = max_size
        self._timing = timing
        self._backoff = backoff
        self._handlers = handlers
        self._ready: Connection | None = None

    @property
    def connected(self) -> bool:
        """Say whether frames can be sent."""
        return self._ready is not None

    def send(self, text: bytes) -> bool:
        """Send a frame; say whether there was a connection that took it."""
        return self._ready is not None and self._ready.send(text)

    async def run(self) -> None:
        """Stay connected; return when the gateway does not want this client back."""
        self.change(State("connecting"))
        while True:
            ending = await self._live()
            self._handlers.lost(ending.code)
            if not ending.comes_back:
                self.change(State("denied", code=ending.code, reason=ending.reason))
                return
            stable = self._backoff.ended(ending.lived)
            delay = ending.after
            if delay is None:
                # An expired token says nothing about the gateway's health.
                fresh = ending.code == CloseCode.TOKEN_EXPIRED and stable
                delay = 0.0 if fresh else self._backoff.next()
            self.change(State("reconnecting", delay, ending.code, ending.reason))
            await asyncio.sleep(delay)

    def change(self, state: State) -> None:
        """Take on a state, and tell of it."""
        self.state = state
        self._handlers.changed(state)

    async def token(self) -> str | None:
        """Return the token; None: there is none.

        Raises:
            Exception: whatever the application's own function raises.
        """
        if not callable(self._token):
            return self._token
        given = self._token()
        return await given if inspect.isawaitable(given) else given

    async def _live(self) -> Ending:
        """Make one connection and return how it ended."""
        try:
            async with asyncio.timeout(self._timing.connect) as deadline:
                token = await self._asked_token()
                if isinstance(token, Ending):
                    return token
                connection = await opened(
                    self._url,
                    headers=self._headers,
                    compression=self._compression,
                    max_size=self._max_size,
                    timing=self._timing,
                )
                try:
                    connection.send(encode_frame("connect", {"token": token}))
                    return await self._read(connection, deadline)
                finally:
                    self._ready = None
                    await connection.close()
        except TimeoutError:
            return Ending(ABNORMAL, "The gateway did not answer in time.")
        except InvalidStatus as exc:
            status = exc.response.status_code
            reason = f"The upgrade was refused with HTTP {status}."
            return Ending(ABNORMAL, reason, for_good=status in REFUSED_FOR_GOOD)
        except (OSError, WebSocketException, AssertionError) as exc:
            # AssertionError: websockets 17.4, when the peer has spoken first and hung up.
            return Ending(ABNORMAL, str(exc) or "There is no gateway at this address.")

    async def _asked_token(self) -> str | Ending | None:
        try:
            return await self.token()
        except LoginFailed as exc:
            return Ending(ABNORMAL, exc.message, for_good=True)
        except TimeoutError:
            raise
        except Exception as exc:
            # The application's own: it may be a token service that is away.
            logger.warning("no token reason=%r", exc)
            return Ending(ABNORMAL, "No token could be had.")

    async def _read(self, connection: Connection, deadline: asyncio.Timeout) -> Ending:
        loop = asyncio.get_running_loop()
        opened_at: float | None = None
        said = ""  # by the last `error`, for a close that follows it
        after: float | None = None
        while (frame := await connection.receive()) is not None:
            said = frame.message if isinstance(frame, Failure) and frame.id is None else ""
            if isinstance(frame, Reconnect):
                after = frame.after
                break
            if isinstance(frame, Session) and opened_at is None:
                opened_at = loop.time()
                deadline.reschedule(None)
                self._ready = connection
                self._handlers.received(frame)
                self.change(State("open"))
            else:
                self._handlers.received(frame)
        lived = 0.0 if opened_at is None else loop.time() - opened_at
        if after is not None:
            return Ending(int(CloseCode.GOING_AWAY), "The process ends.", lived, after)
        return Ending(connection.close_code, said or connection.close_reason, lived)
