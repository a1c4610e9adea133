"""A minimal gateway in Node: `ws` and `nats`, topic to set of sockets (node_gateway.mjs)."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from benchmarks.client import Dialect, Step
from benchmarks.publisher import Way, nats_way
from realtime.broker import connected
from realtime.embedded import NatsServer

from .accounts import token_maker
from .base import CACHE, HERE, Peer, install, tool
from .gateway import ACK, JWT_KEY, frame, subscribe_steps

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


def module_versions(*names: str) -> str:
    """Return the installed versions of some packages."""
    lock = json.loads((MODULES / "package-lock.json").read_text())["packages"]
    return ", ".join(f"{name} {lock[f'node_modules/{name}']['version']}" for name in names)


def script(name: str, directory: Path) -> Path:
    """Copy a script into a directory in which Node finds the packages; return its path."""
    copy = Path(shutil.copy(HERE / name, directory))
    (directory / "node_modules").symlink_to(MODULES / "node_modules")
    return copy


class Node(Peer):
    """The Node gateway, which verifies the JWT itself and stores nothing."""

    name = "node"
    stream = ""

    def __init__(self) -> None:
        super().__init__()
        self.token_for = token_maker(JWT_KEY)
        self.nats: NatsServer | None = None

    @classmethod
    def install(cls) -> None:
        install_modules()

    @classmethod
    def version(cls) -> str:
        return module_versions("ws", "nats", "jsonwebtoken")

    def launch(self) -> None:
        self.nats = NatsServer(self.directory / "nats", sync_interval="2m")
        self.nats.start()
        if self.stream:
            make_stream(self.nats.url, self.stream)
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

    def stop(self) -> None:
        super().stop()
        if self.nats is not None:
            self.nats.stop()

    def dialect(self, topic: str | None) -> Dialect:
        def steps(number: int) -> list[Step]:
            return subscribe_steps(topic or self.topic_of(number), self.token_for(number + 1))

        return Dialect(lambda _: "/", steps)

    def publishing(self) -> Dialect:
        """Return how clients open that will publish, and count acks."""

        def steps(number: int) -> list[Step]:
            return [Step(frame(type="connect", token=self.token_for(number + 1)), b'"ready"')]

        return Dialect(lambda _: "/", steps, marker=ACK)

    def way(self) -> Way:
        assert self.nats is not None
        return nats_way(self.nats.port)


class StoringNode(Node):
    """The same, answering a publish when JetStream has stored it."""

    name = "node, stored"
    stream = "BENCH"


def make_stream(url: str, name: str) -> None:
    """Make a stream of the topics that this gateway stores too."""

    async def run() -> None:
        async with connected(url, name="benchmark") as broker:
            config = {"name": name, "subjects": ["user.>", "room.>"], "storage": "file"}
            await broker.ensure_stream(config, timeout=5)

    asyncio.run(run())
