"""Routes of WebSockets and event streams: two lines in a project's own `asgi.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from channels.routing import URLRouter
from django.urls import path, re_path

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


websocket_urlpatterns = [path("ws/", GatewayConsumer.as_asgi())]

websocket = URLRouter([*websocket_urlpatterns, re_path("", refuse)])
"""The gateway for a project that has no other WebSocket routes."""


def with_event_streams(http: Callable[..., Awaitable[None]]) -> URLRouter:
    """Return an application for HTTP: event streams at /sse/, everything else as before."""
    return URLRouter([path("sse/", EventStreamConsumer.as_asgi()), re_path("", http)])
