"""A minimal gateway in Node: `ws` and `nats`, topic to set of sockets (node_gateway.mjs)."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.load import Dialect, Step
from benchmarks.publisher import Way, nats_way
from realtime.embedded import NatsServer

from .accounts import token_maker
from .base import CACHE, HERE, Peer, install, tool
from .gateway import JWT_KEY, frame

MODULES = CACHE / "node"
PACKAGES = (
    "ws@8",
    "nats@2",
    "jsonwebtoken@9",
    "socket.io@4",
    "@socket.io/redis-adapter@8",
    "redis@4",
)


def install_modules() -> None:
    """Install the packages of every Node peer.

    Raises:
        Missing: without Node or npm, or when npm fails.
    """
    tool("node")
    if not (MODULES / "node_modules" / "redis").exists():
        npm = [tool("npm"), "install", "--no-audit", "--no-fund", "--prefix", str(MODULES)]
        install([*npm, *PACKAGES], MODULES)


def script(name: str, directory: Path) -> Path:
    """Copy a script into a directory in which Node finds the packages; return its path."""
    copy = Path(shutil.copy(HERE / name, directory))
    (directory / "node_modules").symlink_to(MODULES / "node_modules")
    return copy


class Node(Peer):
    """The Node gateway, which verifies the JWT itself and stores nothing."""

    name = "node"
    can = frozenset({"unicast", "auth", "memory"})
    stream = ""

    def __init__(self) -> None:
        super().__init__()
        self.token_for = token_maker(JWT_KEY)
        self.nats: NatsServer | None = None

    @classmethod
    def install(cls) -> None:
        install_modules()

    def launch(self) -> None:
        self.nats = NatsServer(self.directory / "nats", sync_interval="2m")
        self.nats.start()
        self.prepare(self.nats)
        self.run(
            "node",
            [tool("node"), str(script("node_gateway.mjs", self.directory))],
            env={
                "PORT": str(self.port),
                "NATS_URL": self.nats.url,
                "JWT_KEY": JWT_KEY,
                "STREAM": self.stream,
            },
        )

    def prepare(self, nats: NatsServer) -> None:
        """Prepare NATS; this one needs nothing."""

    def stop(self) -> None:
        super().stop()
        if self.nats is not None:
            self.nats.stop()

    def dialect(self, topic: str | None, **options: object) -> Dialect:
        def steps(number: int) -> list[Step]:
            wanted = topic or self.topic_of(number)
            connect = frame(type="connect", token=self.token_for(number + 1))
            return [
                Step(connect, b'"type":"ready"'),
                Step(frame(type="subscribe", topic=wanted), b'"type":"subscribed"'),
            ]

        return Dialect("/", steps)

    def way(self) -> Way:
        assert self.nats is not None
        return nats_way(self.nats.port)
