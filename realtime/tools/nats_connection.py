"""The connection of the NATS side: tried on and on, but not once NATS refused who it is."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Literal

from realtime.broker import Broker
from realtime.client.entered import Entered

from .outcome import Exit, ToolError

logger = logging.getLogger(__name__)

ATTEMPT = 2.0
"""Seconds of one attempt to connect, at most; why it failed is logged at its end."""
REFUSAL = "authorization violation"
"""What NATS says, in any case, to credentials that it does not take:
https://docs.nats.io/reference/reference-protocols/nats-protocol#ok-err"""
_VIOLATION = re.compile(r'permissions violation for (\w+) to "([^"]+)"', re.IGNORECASE)


class JudgedBroker(Broker):
    """A broker that tells of what NATS refuses, and why an attempt to connect failed."""

    def __init__(self, url: str, *, on_failure: Callable[[str], None], **options: Any) -> None:
        super().__init__(url, **options)
        self._on_failure = on_failure

    async def _error(self, exc: Exception) -> None:
        # Told of every attempt that fails, also of those to come back, which go on for ever; and
        # of rights that are missing, of which nothing else tells.
        await super()._error(exc)
        self._on_failure(str(exc) or type(exc).__name__)


class NatsConnection(Entered):
    """A connection that comes back by itself, and one bell for all that happens.

    Args:
        timeout: seconds for the first connection, where entering waits for it.
        wait: entering waits.

    Attributes:
        reached: there was a connection.
    """

    def __init__(self, url: str, *, inbox_prefix: str, timeout: float, wait: bool) -> None:
        self.reached = False
        self.timeout = timeout
        self.broker = JudgedBroker(
            url,
            name="gateway-tools",
            inbox_prefix=inbox_prefix,
            connect_timeout=min(ATTEMPT, timeout / 2),
            on_failure=self._note_failure,
        )
        self._wait = wait
        self._connecting: asyncio.Task[None] | None = None
        self._refused = False
        self._reason = ""
        self._violations: set[tuple[str, str]] = set()
        self._news = asyncio.Event()

    async def connect(self) -> None:
        """Connect in the background; return at once, or when there is a connection.

        Raises:
            ToolError: when NATS refuses the credentials, or is not reached in time.
        """
        self._connecting = asyncio.create_task(self._connect())
        self._connecting.add_done_callback(lambda _: self.tell())
        if not self._wait:
            return
        try:
            async with asyncio.timeout(self.timeout):
                await self.connected()
        except TimeoutError as exc:
            why = f": {self._reason}" if self._reason else ""
            message = f"NATS was not reached within {self.timeout:g} s{why}."
            raise ToolError(message, Exit.UNREACHABLE) from exc

    async def close(self) -> None:
        """Disconnect."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        await self.broker.close()

    async def connected(self) -> None:
        """Return when there is, or was, a connection.

        Raises:
            ToolError: when NATS refuses the credentials.
        """
        while not self.reached:
            await self.next_news()

    def tell(self) -> None:
        """Say that there is something new."""
        self._news.set()

    async def next_news(self) -> None:
        """Return when there may be something new.

        Raises:
            ToolError: when NATS refuses the credentials.
        """
        if self._refused:
            raise ToolError(
                "NATS refused the user, password or token: give the right ones in the address"
                " (-u), nats://USER:PASSWORD@HOST:PORT or nats://TOKEN@HOST:PORT.",
                Exit.DENIED,
            )
        if self._connecting is not None and self._connecting.done():
            self._connecting.result()  # an address that no connection can be tried with
        await self._news.wait()
        self._news.clear()

    def require_allowed(
        self, action: Literal["publish", "subscription"], subject: str, cause: Exception | None
    ) -> None:
        """Return when NATS has not refused that to this user.

        Raises:
            ToolError: when it has; from `cause`, which that led to.
        """
        if (action, subject.lower()) in self._violations:
            verb = "publish on" if action == "publish" else "subscribe to"
            raise ToolError(
                f"The user of this address may not {verb} {subject} on NATS: take another user,"
                " or have it allowed in the server's configuration.",
                Exit.DENIED,
            ) from cause

    async def _connect(self) -> None:
        await self.broker.connect_forever()
        self.reached = True
        logger.info("connection open")

    def _note_failure(self, reason: str) -> None:
        if REFUSAL in reason.lower():
            self._refused = True
            self.tell()
        elif violation := _VIOLATION.search(reason):
            # In lower case, as nats-py hands it over.
            self._violations.add((violation[1].lower(), violation[2].lower()))
            self.tell()
        elif not self.reached and reason != self._reason:
            logger.warning("no connection, trying again reason=%s", reason)
            self._reason = reason
