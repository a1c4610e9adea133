"""Stock Channels: `AsyncJsonWebsocketConsumer` over `channels_redis.pubsub` (channels_app.py)."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import version

import msgspec

from benchmarks.client import Dialect, Step
from benchmarks.publisher import Way, nats_way, redis_encode
from realtime.embedded import NatsServer

from .base import HOST, ROOT, Missing, Peer
from .gateway import frame
from .redis import RedisServer, find

PING_INTERVAL = "3600"
"""Seconds; longer than any run, for both close sockets that were busy when the ping came."""
APPLICATION = "benchmarks.peers.channels_app:application"


class Channels(Peer):
    """Stock Channels on one server or the other; events are published in Redis."""

    server = ""

    def __init__(self) -> None:
        super().__init__()
        self.redis: RedisServer | None = None

    @classmethod
    def install(cls) -> None:
        find()
        if importlib.util.find_spec(cls.server) is None:
            raise Missing(f"{cls.server} is missing: pip install -r benchmarks/requirements.txt")

    @classmethod
    def version(cls) -> str:
        return ", ".join(
            f"{name} {version(name)}" for name in (cls.server, "channels", "channels_redis")
        )

    def launch(self) -> None:
        self.redis = RedisServer(self)
        self.run(
            self.server,
            [sys.executable, "-m", self.server, *self.arguments(), APPLICATION],
            env={"REDIS_URL": self.redis.url, "PYTHONPATH": str(ROOT)},
        )

    def arguments(self) -> list[str]:
        """Return the options of the server's command."""
        raise NotImplementedError

    def dialect(self, topic: str | None) -> Dialect:
        def steps(number: int) -> list[Step]:
            wanted = topic or self.topic_of(number)
            return [Step(frame(type="subscribe", topic=wanted), b'"subscribed"')]

        return Dialect(lambda _: "/ws/", steps)

    def way(self) -> Way:
        assert self.redis is not None
        return Way(self.redis.port, encode)


def encode(topic: str, payload: bytes) -> bytes:
    """Return the `PUBLISH` that `group_send` of channels_redis.pubsub makes."""
    message = {"type": "bench.event", "data": msgspec.json.decode(payload)}
    return redis_encode(f"asgi__group__{topic}".encode(), msgspec.msgpack.encode(message))


class OnDaphne(Channels):
    """On Daphne, as `runserver` and most sites run it."""

    name = "channels, daphne"
    server = "daphne"

    def arguments(self) -> list[str]:
        return ["-b", HOST, "-p", str(self.port), "-v", "0", "--ping-interval", PING_INTERVAL]


class OnUvicorn(Channels):
    """On uvicorn, with uvloop and without compression."""

    name = "channels, uvicorn"
    server = "uvicorn"

    def arguments(self) -> list[str]:
        address = ["--host", HOST, "--port", str(self.port), "--log-level", "warning"]
        options = ["--loop", "uvloop", "--ws-per-message-deflate", "false"]
        return [*address, *options, "--ws-ping-interval", PING_INTERVAL]


class StockBridge(OnUvicorn):
    """NATS to `group_send` of stock channels_redis, one event after the other."""

    name = "channels_redis"

    def __init__(self) -> None:
        super().__init__()
        self.nats: NatsServer | None = None

    def launch(self) -> None:
        super().launch()
        assert self.redis is not None
        self.nats = NatsServer(self.directory / "nats", sync_interval="2m")
        self.nats.start()
        self.run(
            "bridge",
            [sys.executable, "-m", "benchmarks.peers.stock_bridge"],
            env={"REDIS_URL": self.redis.url, "NATS_URL": self.nats.url, "PYTHONPATH": str(ROOT)},
        )

    def stop(self) -> None:
        super().stop()
        if self.nats is not None:
            self.nats.stop()

    def way(self) -> Way:
        assert self.nats is not None
        return nats_way(self.nats.port)
