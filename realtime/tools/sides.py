"""The two sides of a gateway, as the tools see them; the address says which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from realtime.client import Message

from .credentials import Credentials, access_for
from .nats_side import Backend, NatsSide
from .outcome import UsageError
from .scenario import Step
from .websocket_side import WebSocketSide


@dataclass(frozen=True)
class Target:
    """Where a tool goes, and how.

    Attributes:
        timeout: seconds for an answer, a confirmation, and the first connection of `produce`.
        backend: what the NATS side needs to know.
        compression: offer permessage-deflate to a gateway.
    """

    url: str
    credentials: Credentials
    timeout: float
    backend: Backend
    compression: bool = True


class Side(Protocol):
    """One side of the gateway.

    Attributes:
        reached: there was a connection.
    """

    reached: bool

    def messages(
        self, topics: Sequence[str], since: int | None, epoch: str | None
    ) -> AsyncIterator[Message]:
        """Yield what arrives on topics, coming back by itself; from `since` on, if given."""

    def answered(self, topics: Sequence[str], reply: Any | None) -> AsyncIterator[Message]:
        """Yield requests, each answered: with `reply`, or with what it brought (None)."""

    def check(self, step: Step) -> None:
        """Return when a message can be sent on this side, or raise UsageError."""

    async def publish(self, step: Step) -> str:
        """Publish, and return in words what became of it, once it is confirmed."""

    async def request(self, step: Step) -> Any:
        """Ask, and return the reply."""


async def side_for(target: Target, *, wait: bool) -> AbstractAsyncContextManager[Side]:
    """Return the side that an address names, to be entered.

    Args:
        wait: entering fails when it cannot be reached now; else it is tried on and on.

    Raises:
        UsageError: when the address is of neither side, or there is no credential.
        ClientError: when the site refuses a log-in.
    """
    scheme = _scheme_of(target.url)
    if scheme in ("ws", "wss", "http", "https"):
        access = await access_for(target.credentials, target.url, timeout=target.timeout)
        return WebSocketSide(
            target.url,
            access,
            timeout=target.timeout,
            wait=wait,
            compression=target.compression,
        )
    if scheme in ("nats", "tls"):
        return NatsSide(target.url, target.backend, timeout=target.timeout, wait=wait)
    raise UsageError("The address (-u) begins with ws://, wss://, nats:// or tls://.")


def _scheme_of(url: str) -> str:
    """Return the scheme of an address; NATS takes several, with commas between them.

    Raises:
        UsageError: when one is malformed.
    """
    schemes = set()
    for one in url.split(","):
        try:
            parts = urlsplit(one.strip())
            whole = bool(parts.hostname) and parts.port != 0  # `port` is what complains
            (parts.hostname or "").encode("idna")  # and this, of what is no name: `a..b`
        except ValueError:
            whole = False
        if not whole:
            raise UsageError("The address (-u) is a scheme, a host and a port: ws://HOST:PORT/ws/.")
        schemes.add(parts.scheme)
    return schemes.pop() if len(schemes) == 1 else ""
