"""Authentication: ask the backend over NATS who a socket is. Fails closed."""

from __future__ import annotations

import time

from .broker import Broker
from .metrics import Metrics
from .protocol.exceptions import (
    AuthFailed,
    AuthUnavailable,
    GatewayError,
    NoResponder,
    RequestTimeout,
    Unavailable,
)
from .protocol.messages import AuthRequest, Identity, encode_message, parse_auth_reply

ANSWERS_AGE = 1.0
"""Seconds for which the word that a backend answers is good."""


class Authenticator:
    """The gateway's side of the auth request/reply.

    Args:
        subject: where the backend's auth workers listen.
        timeout: seconds to wait for a reply.
        metrics: counts outcomes and times.
    """

    def __init__(self, broker: Broker, subject: str, timeout: float, metrics: Metrics) -> None:
        self._broker = broker
        self._subject = subject
        self._timeout = timeout
        self._metrics = metrics
        self._asked = -ANSWERS_AGE
        self._answers = False

    async def authenticate(self, request: AuthRequest) -> Identity:
        """Return who the backend says it is.

        Raises:
            AuthFailed: the backend denied it.
            AuthUnavailable: no usable answer: never a pass.
        """
        began, outcome = time.monotonic(), "unavailable"
        try:
            identity = await self._ask(request)
            outcome = "accepted"
            return identity
        except AuthFailed:
            outcome = "denied"
            raise
        finally:
            self._metrics.auth[outcome] += 1
            self._metrics.auth_seconds.observe(time.monotonic() - began)

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

    async def _ask(self, request: AuthRequest) -> Identity:
        try:
            reply = await self._broker.request(
                self._subject, encode_message(request), timeout=self._timeout
            )
        except (NoResponder, RequestTimeout, Unavailable) as exc:
            raise AuthUnavailable(
                "The backend did not say who you are; come back in a moment."
            ) from exc
        answer = parse_auth_reply(reply.data)
        if isinstance(answer, str):
            raise AuthFailed(answer)
        return answer
