"""Authentication: ask the backend over NATS who a socket is. Fails closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from . import tracing
from .broker import Broker
from .metrics import Metrics
from .nats_client import Message
from .protocol.exceptions import (
    AuthFailed,
    AuthUnavailable,
    GatewayError,
    NoResponder,
    RequestTimeout,
    Unavailable,
)
from .protocol.messages import AuthRequest, Identity, encode_message, parse_auth_reply
from .protocol.rules import Rule

ANSWERS_AGE = 1.0
"""Seconds for which the word that a backend answers is good."""
PATIENCE = (0.5, 0.75)
"""Seconds after which an unanswered question about an open session is put once more."""
MAX_AGAIN = 256
"""Questions about open sessions under way at once; the rest wait for those."""


class Authenticator:
    """The gateway's side of the auth request/reply.

    Args:
        subject: where the backend's auth workers listen.
        timeout: seconds to wait for a reply.
        metrics: counts outcomes and times.
        granted: what every session may do besides what the backend says.
    """

    def __init__(
        self,
        broker: Broker,
        subject: str,
        timeout: float,
        metrics: Metrics,
        granted: tuple[Rule, ...] = (),
    ) -> None:
        self._broker = broker
        self._subject = subject
        self._timeout = timeout
        self._metrics = metrics
        self._granted = granted
        self._again = asyncio.Semaphore(MAX_AGAIN)
        self._asked = -ANSWERS_AGE
        self._answers = False

    async def authenticate(self, request: AuthRequest) -> Identity:
        """Return who the backend says it is.

        Raises:
            AuthFailed: the backend denied it.
            AuthUnavailable: no usable answer: never a pass.
        """
        return await self._counted(self._ask(request))

    async def authenticate_again(self, request: AuthRequest) -> Identity:
        """Return who the backend says that an open session now is.

        A change of rules may concern every session at once, so only MAX_AGAIN questions are under
        way. Workers share the questions at random and one may be frozen, so a question that stays
        unanswered is put again, to another one perhaps; the first answer counts.

        Raises:
            AuthFailed: the backend denies it by now.
            AuthUnavailable: no usable answer: never a pass.
        """
        async with self._again:
            return await self._counted(self._persist(request))

    async def answers(self) -> bool:
        """Say whether a backend answers, by asking about nobody; asked once in ANSWERS_AGE."""
        if time.monotonic() - self._asked > ANSWERS_AGE:
            self._asked = time.monotonic()
            try:
                await self._ask(AuthRequest(None, None, None, "", None))
                self._answers = True
            except GatewayError as exc:
                self._answers = isinstance(exc, AuthFailed)
        return self._answers

    async def _counted(self, answer: Awaitable[Identity]) -> Identity:
        began, outcome = time.monotonic(), "unavailable"
        try:
            identity = await answer
            outcome = "accepted"
            return identity
        except AuthFailed:
            outcome = "denied"
            raise
        finally:
            self._metrics.auth[outcome] += 1
            self._metrics.auth_seconds.observe(time.monotonic() - began)

    async def _ask(self, request: AuthRequest) -> Identity:
        try:
            return self._identity(await self._request(request, self._timeout))
        except (NoResponder, RequestTimeout, Unavailable) as exc:
            raise _unavailable() from exc

    async def _persist(self, request: AuthRequest) -> Identity:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._timeout
        asked: set[asyncio.Task[Message]] = set()
        try:
            for patience in (*PATIENCE, self._timeout):
                left = ends - loop.time()
                if left <= 0:
                    break
                # They are cancelled together at the end, so none ends by itself before.
                asked.add(loop.create_task(self._request(request, left + 1)))
                done, _ = await asyncio.wait(
                    asked, timeout=min(patience, left), return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return self._identity(await done.pop())
            raise _unavailable()
        except (NoResponder, RequestTimeout, Unavailable) as exc:
            raise _unavailable() from exc
        finally:
            for task in asked:
                task.cancel()

    async def _request(self, request: AuthRequest, timeout: float) -> Message:
        with tracing.sending("authenticate", self._subject, None) as headers:
            return await self._broker.request(
                self._subject, encode_message(request), timeout=timeout, headers=headers
            )

    def _identity(self, reply: Message) -> Identity:
        answer = parse_auth_reply(reply.data, self._granted)
        if isinstance(answer, str):
            raise AuthFailed(answer)
        return answer


def _unavailable() -> AuthUnavailable:
    return AuthUnavailable("The backend did not say who you are; come back in a moment.")
