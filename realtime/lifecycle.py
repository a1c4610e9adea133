"""The life of a connection in the log: one line when it is opened, authenticated, refused, closed.

All four name session, user and address, so that one search finds them; what is not known is None.
No credential is ever in them: a backend's word why it denied one is left out where it repeats it.
"""

from __future__ import annotations

import logging

from .protocol.messages import AuthRequest

logger = logging.getLogger(__name__)

MAX_REASON = 200
"""Characters of a reason that are logged: some come from a backend."""


def opened(session: str, ip: str, transport: str) -> None:
    """Log a connection that is accepted; who it is comes with its first frame."""
    logger.info("opened session=%s user=%s ip=%s transport=%s", session, None, ip, transport)


def authenticated(session: str, user: str, ip: str) -> None:
    """Log that the backend said who it is."""
    logger.info("authenticated session=%s user=%s ip=%s", session, user, ip)


def refused(
    ip: str, code: str, reason: str, *, session: str | None = None, user: str | None = None
) -> None:
    """Log a connection that may not be, before or after it was accepted.

    Args:
        code: an error code, or the HTTP status.
    """
    logger.info(
        "refused session=%s user=%s ip=%s code=%s reason=%r",
        *(session, user, ip, code, reason[:MAX_REASON]),
    )


def closed(
    session: str, user: str | None, ip: str, ending: tuple[int | None, str | None], seconds: float
) -> None:
    """Log the end of a connection.

    Args:
        ending: close code, and the gateway's reason; without a reason the client ended it, with a
            code of its own, or 1006: it vanished (RFC 6455 §7.1.5). A client's reason is not
            logged, for it may hold anything.
        seconds: how long it lived.
    """
    code, reason = ending
    by = "client" if reason is None else "gateway"
    logger.info(
        "closed session=%s user=%s ip=%s code=%s by=%s reason=%r seconds=%.1f",
        *(session, user, ip, code, by, reason and reason[:MAX_REASON], seconds),
    )


def without_credential(reason: str, request: AuthRequest) -> str:
    """Return a backend's reason, unless it repeats the credential that it was asked about."""
    secrets = (request.token, request.session_key)
    if any(secret and secret in reason for secret in secrets):
        return "(withheld: it repeats the credential)"
    return reason
