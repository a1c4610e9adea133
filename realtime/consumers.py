"""The WebSocket consumer: ASGI on one side, a connection on the other.

It derives from Channels' AsyncConsumer for its place in routing, but has no channel of its
own and no dispatch by message type: stock `dispatch` calls into a thread for every message,
and a channel per socket costs a queue, a copy and two tasks per delivery. Here the fan-out
writes to the socket itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from channels.consumer import AsyncConsumer
from django.conf import settings as django_settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from . import lifecycle
from .conf import settings
from .connection import Connection
from .peer import Peer
from .protocol.exceptions import CloseCode
from .protocol.origins import origin_allowed
from .runtime import Runtime, get_runtime
from .sockets import SendSocket

WRITER = "gateway.writer"
"""The key in `scope["extensions"]` under which our server offers its direct writer."""


class GatewayConsumer(AsyncConsumer):  # type: ignore[misc]
    """One socket, from upgrade to close."""

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve the socket; never raises, since that would end it without a proper close."""
        runtime = get_runtime()
        await receive()  # websocket.connect
        peer = peer_of(scope)
        if peer is None:
            await send({"type": "websocket.close", "code": CloseCode.PROTOCOL_VIOLATION})
            return
        # Closing before accept is an HTTP 403 and no close code reaches the browser, so
        # everything else is said after it.
        await send({"type": "websocket.accept"})
        socket = scope.get("extensions", {}).get(WRITER) or SendSocket(
            send, runtime.metrics, settings.MAX_BUFFER
        )
        await until_started(runtime)
        connection = Connection(runtime.services, socket, peer)
        code: int | None = None
        try:
            if runtime.draining:
                connection.drain(0)
            while (message := await receive())["type"] == "websocket.receive":
                text = message.get("text")
                if text is None:
                    connection.refuse_binary()
                else:
                    await connection.receive(text)
            code = message.get("code")
        finally:
            connection.close(code)
            socket.stop()


async def until_started(runtime: Runtime) -> None:
    """Return when the runtime serves, or that takes too long.

    Under another server the first socket starts it, and should not be sent away for that.
    """
    if not runtime.started.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.AUTH_TIMEOUT):
                await runtime.started.wait()


def header_of(scope: Mapping[str, Any], name: bytes) -> str | None:
    """Return a request's header; None without one."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


def peer_of(
    scope: Mapping[str, Any], *, proven: bool = False, transport: str = "websocket"
) -> Peer | None:
    """Return who opens the socket; None when a cookie comes from a page that may not use it.

    Args:
        proven: it is known otherwise that the page is one of this site.
        transport: by which way it comes.
    """
    headers: dict[bytes, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value.decode("latin-1"))
    origins = headers.get(b"origin", [])
    origin = ",".join(origins) if origins else None
    session_key = _session_key("; ".join(headers.get(b"cookie", [])))
    client = scope.get("client") or ("", 0)
    # Only a cookie comes by itself, so only then does it matter which page asked.
    if session_key is not None and not (proven or _is_own_page(scope, headers, origin)):
        lifecycle.refused(client[0], "ORIGIN", f"a cookie from a page of {origin!r}")
        return None
    agents = headers.get(b"user-agent", [])
    return Peer(
        ip=client[0],
        user_agent=agents[0][:256] if agents else None,
        origin=origin,
        session_key=session_key,
        transport=transport,
    )


def _is_own_page(
    scope: Mapping[str, Any], headers: Mapping[bytes, list[str]], origin: str | None
) -> bool:
    return origin_allowed(
        origin,
        host=_own_host(headers),
        secure=_is_secure(scope, headers),
        allowed=settings.ALLOWED_ORIGINS,
    )


def _own_host(headers: Mapping[bytes, list[str]]) -> str | None:
    """Return the host that was asked for where it is this site; None for any other name.

    Else a page of a name that DNS leads here (rebinding) would be one of this site's own.
    """
    request = HttpRequest()
    # Without a Host, Django would take the server's own name.
    request.META["HTTP_HOST"] = next(iter(headers.get(b"host", [])), "")
    if forwarded := headers.get(b"x-forwarded-host"):
        request.META["HTTP_X_FORWARDED_HOST"] = forwarded[0]
    try:
        return str(request.get_host())
    except DisallowedHost:
        return None


def _session_key(cookies: str) -> str | None:
    if not cookies:
        return None
    try:
        morsel = SimpleCookie(cookies).get(django_settings.SESSION_COOKIE_NAME)
    except CookieError:
        return None
    return morsel.value if morsel is not None and morsel.value else None


def _is_secure(scope: Mapping[str, Any], headers: Mapping[bytes, list[str]]) -> bool:
    if scope.get("scheme") in ("wss", "https"):
        return True
    trusted = getattr(django_settings, "SECURE_PROXY_SSL_HEADER", None)
    if trusted is None:
        return False
    name, value = trusted
    header = name.removeprefix("HTTP_").replace("_", "-").lower().encode()
    return headers.get(header) == [value]
