"""The project's settings, and beside the gateway a WebSocket application of somebody else."""

from __future__ import annotations

from typing import Any

from gateway_project.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.integration.with_echo.application"


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Say at /echo/ what is said, by ASGI's own messages."""
    from gateway_project.asgi import application as gateway

    if scope["path"] != "/echo/":
        await gateway(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
