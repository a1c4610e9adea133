"""Socket.IO with its Redis adapter (socketio_gateway.mjs)."""

from __future__ import annotations

import json

import msgspec

from benchmarks.client import Dialect, Step, mask
from benchmarks.publisher import Way, redis_encode

from .base import Peer, tool
from .node import install_modules, module_versions, script
from .redis import RedisServer, find


class SocketIo(Peer):
    """One Node process; events are published as other processes of its kind do, in Redis."""

    name = "socket.io"

    def __init__(self) -> None:
        super().__init__()
        self.redis: RedisServer | None = None

    @classmethod
    def install(cls) -> None:
        find()
        install_modules()

    @classmethod
    def version(cls) -> str:
        return module_versions("socket.io", "@socket.io/redis-adapter")

    def launch(self) -> None:
        self.redis = RedisServer(self)
        self.run(
            "socketio",
            [tool("node"), str(script("socketio_gateway.mjs", self.directory))],
            env={"PORT": str(self.port), "REDIS_URL": self.redis.url},
        )

    def dialect(self, topic: str | None) -> Dialect:
        def steps(number: int) -> list[Step]:
            wanted = json.dumps(["subscribe", topic or self.topic_of(number)])
            # Engine.IO's greeting, Socket.IO's, and a call that is acknowledged.
            return [
                Step(b"", b'0{"sid"'),
                Step(mask(b"40"), b'40{"sid"'),
                Step(mask(f"420{wanted}".encode()), b'430["subscribed"]'),
            ]

        return Dialect(lambda _: "/socket.io/?EIO=4&transport=websocket", steps)

    def way(self) -> Way:
        assert self.redis is not None
        return Way(self.redis.port, encode)


def encode(topic: str, payload: bytes) -> bytes:
    """Return the `PUBLISH` by which the adapter tells another process of an event."""
    packet = {"type": 2, "data": ["message", msgspec.json.decode(payload)], "nsp": "/"}
    options: dict[str, object] = {"rooms": [topic], "except": [], "flags": {}}
    message = msgspec.msgpack.encode(["benchmark", packet, options])
    return redis_encode(f"socket.io#/#{topic}#".encode(), message)
