"""How a tool ends: exit codes, and the errors that carry them."""

from __future__ import annotations

from enum import IntEnum

from realtime.client import ClientError, Denied, LoginFailed, NoAnswer, Refused, Unsubscribed
from realtime.protocol.exceptions import ErrorCode, GatewayError, Unavailable


class Exit(IntEnum):
    """Exit codes; docs/tools.md tells them to users."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    DENIED = 4
    TIMEOUT = 5
    NO_RESPONDER = 6
    INTERRUPTED = 130  # as a shell reports SIGINT
    UNREAD = 141  # SIGPIPE
    TERMINATED = 143  # and SIGTERM


class ToolError(Exception):
    """A tool cannot go on; the message is a sentence for people."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class UsageError(ToolError):
    """Options, files or credentials that cannot be used; says what to write instead."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.USAGE)


TOO_LARGE = "maximum payload"
"""What NATS, and nats-py for it, say of a message over the server's `max_payload`."""

_BY_CODE = {
    ErrorCode.NO_RESPONDER: Exit.NO_RESPONDER,
    ErrorCode.TIMEOUT: Exit.TIMEOUT,
    ErrorCode.UNAVAILABLE: Exit.UNREACHABLE,
    ErrorCode.AUTH_FAILED: Exit.DENIED,
    ErrorCode.ACL_DENIED: Exit.DENIED,
}


def failure_of(exc: ClientError | GatewayError) -> ToolError:
    """Return the failure that an error of either side is."""
    code = Exit.FAILED
    match exc:
        case Denied() | LoginFailed():
            code = Exit.DENIED
        case NoAnswer():
            code = Exit.TIMEOUT
        case Unsubscribed():
            code = Exit.DENIED if exc.reason in ("acl", ErrorCode.ACL_DENIED) else Exit.FAILED
        case Unavailable() if TOO_LARGE in exc.message.lower():
            pass  # NATS is there, and will not take it later either
        case Unavailable():
            code = Exit.UNREACHABLE
        case Refused() | GatewayError():
            code = next((exit for name, exit in _BY_CODE.items() if name == exc.code), code)
    where = f" ({exc.topic})" if exc.topic else ""
    return ToolError(f"{exc.code}: {exc.message}{where}", code)
