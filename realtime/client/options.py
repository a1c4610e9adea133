"""What a client can be told when it is made, and what holds where it is not told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from .frames import PresenceChange

Token = str | Callable[[], str | Awaitable[str]] | None
"""A token, or what gives one: it is called before every connection, and when one expires."""

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


@dataclass(frozen=True)
class Timing:
    """Deadlines, in seconds.

    Attributes:
        connect: from the start of a connection until `ready`, the token included.
        reply: for answers.
        publish: until a message is confirmed, over reconnects; below the gateway's
            deduplication window (5 minutes by default).
        replay: without progress, before a hole is asked for again.
        send: for the network to take a frame; a connection that does not is given up.
        close: for the closing handshake.
        heartbeat: between WebSocket pings, and for their answer.
        again: after a refusal that may pass.
    """

    connect: float = 15.0
    reply: float = 10.0
    publish: float = 60.0
    replay: float = 5.0
    send: float = 10.0
    close: float = 2.0
    heartbeat: float = 20.0
    again: float = 1.0


@dataclass(frozen=True)
class SubscribeOptions:
    """How a topic is held: see `GatewayClient.subscribe`.

    Raises:
        ValueError: when one has a wrong value.
    """

    since: int | None = None
    epoch: str | None = None
    qos: int = 0
    durable: str | None = None
    ack: str = "auto"
    queue: int = 1000
    on_presence: Callable[[PresenceChange], None] | None = None

    def __post_init__(self) -> None:
        if self.qos not in (0, 1) or self.ack not in ("auto", "manual") or self.queue < 1:
            raise ValueError("qos is 0 or 1, ack 'auto' or 'manual', queue at least 1.")


def address_of(url: str) -> str:
    """Return the WebSocket address of a gateway: `ws(s)` for `http(s)`, `/ws/` for no path.

    Raises:
        ValueError: when it is no address, or holds a credential or a query.
    """
    try:
        parts = urlsplit(url)
        whole = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # a port or a host that is none, or half an IPv6 address
        whole = False
    if not whole:
        raise ValueError("Give the gateway's address as ws://HOST:PORT/ws/ or wss://HOST/ws/.")
    if parts.username is not None or parts.query or parts.fragment:
        # Addresses end in logs.
        raise ValueError("The address holds no credential: hand the token in as `token`.")
    path = parts.path if parts.path.strip("/") else "/ws/"
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, "", ""))


def origin_of(url: str) -> str:
    """Return the Origin of the site that a gateway's address belongs to."""
    parts = urlsplit(address_of(url))
    return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"
