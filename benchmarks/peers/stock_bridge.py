"""A bridge as one would write it over stock channels_redis: subscribe, then `group_send` each."""

from __future__ import annotations

import asyncio
import json
import os

from channels_redis.pubsub import RedisPubSubChannelLayer

from realtime.broker import connected
from realtime.nats_client import Message


async def run() -> None:
    layer = RedisPubSubChannelLayer(hosts=[os.environ["REDIS_URL"]])

    async def relay(message: Message) -> None:
        event = {"type": "bench.event", "data": json.loads(message.data)}
        await layer.group_send(message.subject, event)

    async with connected(os.environ["NATS_URL"], name="stock bridge") as broker:
        await broker.subscribe("room.>", relay)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run())
