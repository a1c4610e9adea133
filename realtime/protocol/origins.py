"""Origins: which pages may open a socket on a visitor's cookie (RFC 6454, RFC 6455 §10.2)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]
"""Scheme, host and port."""


def parse_origin(text: str) -> Origin | None:
    """Return scheme, host and port of an Origin header; None when it is not a plain origin."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    scheme, host = parts.scheme.lower(), parts.hostname
    plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if scheme not in _PORTS or not host or not plain or any(char in text for char in " ,\t\\"):
        return None
    return scheme, host.lower(), port or _PORTS[scheme]


def origin_allowed(
    origin: str | None, *, host: str | None, secure: bool, allowed: Iterable[str]
) -> bool:
    """Say whether a page of `origin` may use the visitor's cookie here.

    Args:
        origin: the Origin header, None without one.
        host: the Host header: the site's own pages are allowed.
        secure: whether the request came over TLS.
        allowed: further origins, exactly: scheme, host and port.
    """
    parsed = parse_origin(origin) if origin is not None else None
    if parsed is None:
        return False
    if host is not None:
        own = parse_origin(f"{'https' if secure else 'http'}://{host}")
        if own is not None and own == parsed:
            return True
    return any(parse_origin(other) == parsed for other in allowed)
