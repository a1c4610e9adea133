"""Errors: one tree; each error knows what the client is told and whether to come back."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """The `code` of an `error` frame."""

    AUTH_REQUIRED = "AUTH_REQUIRED"
    AUTH_FAILED = "AUTH_FAILED"
    AUTH_UNAVAILABLE = "AUTH_UNAVAILABLE"
    ACL_DENIED = "ACL_DENIED"
    BAD_FRAME = "BAD_FRAME"
    BAD_TOPIC = "BAD_TOPIC"
    TOO_LARGE = "TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    NOT_SUBSCRIBED = "NOT_SUBSCRIBED"
    SESSION_EXPIRED = "SESSION_EXPIRED"
    NO_RESPONDER = "NO_RESPONDER"
    TIMEOUT = "TIMEOUT"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"


class CloseCode(IntEnum):
    """WebSocket close codes. 4000-4499: come back, with backoff. 4500-4999: do not."""

    GOING_AWAY = 4000
    SLOW_CONSUMER = 4001
    AUTH_UNAVAILABLE = 4002
    TOKEN_EXPIRED = 4003
    HEARTBEAT_LOST = 4004
    ACK_LOST = 4005
    AUTH_FAILED = 4500
    AUTH_DEADLINE = 4501
    REVOKED = 4502
    PROTOCOL_VIOLATION = 4503
    TOO_MANY_CONNECTIONS = 4504

    @property
    def retry(self) -> bool:
        """Say whether a client that is closed with this code should come back."""
        return self < 4500


class GatewayError(Exception):
    """A failure that is told to the client as an `error` frame.

    Args:
        message: a sentence for people that says what to do.
        topic: the topic it is about, if any.
        message_id: the `messageId` it is about, if any.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    close: ClassVar[CloseCode | None] = None

    def __init__(
        self, message: str, *, topic: str | None = None, message_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.topic = topic
        self.message_id = message_id


class AuthRequired(GatewayError):
    """The first frame was not `connect`."""

    code = ErrorCode.AUTH_REQUIRED


class AuthFailed(GatewayError):
    """The backend denied the credential; asking again with the same one is pointless."""

    code = ErrorCode.AUTH_FAILED
    close = CloseCode.AUTH_FAILED


class AuthUnavailable(GatewayError):
    """No usable answer from the backend: never a pass."""

    code = ErrorCode.AUTH_UNAVAILABLE
    close = CloseCode.AUTH_UNAVAILABLE


class AclDenied(GatewayError):
    """No rule allows it, or one denies it."""

    code = ErrorCode.ACL_DENIED


class BadFrame(GatewayError):
    """What the client sent is not a frame of the contract."""

    code = ErrorCode.BAD_FRAME

    def __init__(self, message: str, *, frame_id: str | int | None = None) -> None:
        super().__init__(message)
        self.frame_id = frame_id


class BadTopic(GatewayError):
    """The topic is malformed or not open to clients."""

    code = ErrorCode.BAD_TOPIC


class TooLarge(GatewayError):
    """A payload over the limit."""

    code = ErrorCode.TOO_LARGE


class RateLimited(GatewayError):
    """Too many frames in too short a time."""

    code = ErrorCode.RATE_LIMITED


class TooManySubscriptions(GatewayError):
    """The socket holds as many topics as it may."""

    code = ErrorCode.TOO_MANY_SUBSCRIPTIONS


class NotSubscribed(GatewayError):
    """The socket does not hold that topic."""

    code = ErrorCode.NOT_SUBSCRIBED


class SessionExpired(GatewayError):
    """The `sessionId` is forged, too old, or someone else's."""

    code = ErrorCode.SESSION_EXPIRED


class NoResponder(GatewayError):
    """Nobody listens on the requested subject."""

    code = ErrorCode.NO_RESPONDER


class RequestTimeout(GatewayError):
    """A responder exists but did not answer in time."""

    code = ErrorCode.TIMEOUT


class Unavailable(GatewayError):
    """NATS is out of reach; the same request may pass later."""

    code = ErrorCode.UNAVAILABLE
