"""Authentication: ask the backend over NATS who a socket is. Fails closed."""

from __future__ import annotations

from .broker import Broker
from .protocol.exceptions import (
    AuthFailed,
    AuthUnavailable,
    NoResponder,
    RequestTimeout,
    Unavailable,
)
from .protocol.messages import AuthRequest, Identity, encode_message, parse_auth_reply


class Authenticator:
    """The gateway's side of the auth request/reply.

    Args:
        subject: where the backend's auth workers listen.
        timeout: seconds to wait for a reply.
    """

    def __init__(self, broker: Broker, subject: str, timeout: float) -> None:
        self._broker = broker
        self._subject = subject
        self._timeout = timeout

    async def authenticate(self, request: AuthRequest) -> Identity:
        """Return who the backend says it is.

        Raises:
            AuthFailed: the backend denied it.
            AuthUnavailable: no usable answer: never a pass.
        """
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
