"""What the manual of Channels shows, and no more: a consumer that joins groups.

Served by `daphne benchmarks.peers.channels_app:application`, or by uvicorn, with REDIS_URL in
the environment.
"""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        }
    },
)
django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402


class Consumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """Joins a group on request, and passes on what is sent to it."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Take a `subscribe` frame."""
        await self.channel_layer.group_add(content["topic"], self.channel_name)
        await self.send_json({"type": "subscribed", "topic": content["topic"]})

    async def bench_event(self, message: dict[str, Any]) -> None:
        """Pass on an event."""
        await self.send_json({"type": "message", "data": message["data"]})


application = ProtocolTypeRouter({"websocket": Consumer.as_asgi()})
