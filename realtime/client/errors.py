"""What can go wrong for a client: one tree, each error with a code and a sentence for people.

It is a tree of its own, apart from `realtime.protocol.exceptions`: those are the gateway's
errors, raised where a frame is handled; these are raised where one was sent.
"""

from __future__ import annotations

from realtime.protocol.exceptions import ErrorCode

PASSING = frozenset(
    {
        ErrorCode.UNAVAILABLE,
        ErrorCode.AUTH_UNAVAILABLE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.TIMEOUT,
    }
)
"""Codes after which the same request may pass later."""


class ClientError(Exception):
    """A failure of something that this client was asked to do.

    Args:
        message: a sentence for people.
        topic: the topic it is about, if any.

    Attributes:
        code: one of the contract's error codes, or one of this client's own (upper case too).
    """

    code = "CLIENT"

    def __init__(self, message: str, *, topic: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.topic = topic


class Refused(ClientError):
    """The gateway answered with an `error` frame; `code` is what that says."""

    def __init__(self, code: str, message: str, *, topic: str | None = None) -> None:
        super().__init__(message, topic=topic)
        self.code = code

    @property
    def passing(self) -> bool:
        """Say whether the same request may pass later."""
        return self.code in PASSING


class NoAnswer(ClientError):
    """This client's own deadline passed; the request may have had its effect all the same."""

    code = "NO_ANSWER"


class Disconnected(ClientError):
    """The connection was lost before the answer came; the client comes back by itself."""

    code = "DISCONNECTED"


class Denied(ClientError):
    """The gateway does not want this client back until something has changed.

    Attributes:
        close_code: of the connection (4500 to 4999), or 0 where the upgrade was refused.
    """

    code = "DENIED"

    def __init__(self, message: str, *, close_code: int = 0, topic: str | None = None) -> None:
        super().__init__(message, topic=topic)
        self.close_code = close_code


class Closed(ClientError):
    """`close` was called on the client, or the topic was unsubscribed from."""

    code = "CLOSED"


class QueueFull(ClientError):
    """So much waits to be sent that no more is taken; try again later."""

    code = "QUEUE_FULL"


class Unsubscribed(ClientError):
    """The gateway ended the subscription.

    Attributes:
        reason: `acl` (the rules no longer allow it), `server` (the backend took it away), or the
            error code of a refusal when it was joined again after a reconnect.
    """

    code = "UNSUBSCRIBED"

    def __init__(self, message: str, *, reason: str, topic: str) -> None:
        super().__init__(message, topic=topic)
        self.reason = reason


class LoginFailed(ClientError):
    """The site took no such username and password, or has no such page."""

    code = "LOGIN_FAILED"
