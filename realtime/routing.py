"""Routes of WebSockets, event streams and Socket.IO: two lines in a project's own `asgi.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from channels.routing import URLRouter
from django.urls import URLPattern, path, re_path

from .conf import settings
from .consumers import GatewayConsumer
from .sse import EventStreamConsumer


async def refuse(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Refuse a socket on a path that is not ours; URLRouter alone would raise, and log it."""
    await receive()
    await send({"type": "websocket.close"})


def _socketio_urlpatterns() -> list[URLPattern]:
    if not settings.SOCKETIO:
        return []
    # What is off is not loaded, and need not be installed.
    from .socketio_endpoint import SocketIoConsumer

    return [path("socket.io/", SocketIoConsumer.as_asgi())]


socketio_urlpatterns = _socketio_urlpatterns()
websocket_urlpatterns = [path("ws/", GatewayConsumer.as_asgi()), *socketio_urlpatterns]

websocket = URLRouter([*websocket_urlpatterns, re_path("", refuse)])
"""The gateway for a project that has no other WebSocket routes."""


def with_event_streams(http: Callable[..., Awaitable[None]]) -> URLRouter:
    """Return an application for HTTP: what is ours at its addresses, everything else as before."""
    ours = [path("sse/", EventStreamConsumer.as_asgi()), *socketio_urlpatterns]
    return URLRouter([*ours, re_path("", http)])
