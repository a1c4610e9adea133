"""A C program that does nothing but `send` (sender.c), compiled on the fly."""

from __future__ import annotations

from benchmarks.client import Dialect
from benchmarks.publisher import Way
from realtime.embedded import free_port

from .base import CACHE, HERE, Peer, install, tool

PROGRAM = CACHE / "sender"


class Sender(Peer):
    """Sends every line that is published to every socket; knows one topic only."""

    name = "C send loop"
    mode: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.publish_port = free_port()

    @classmethod
    def install(cls) -> None:
        source = HERE / "sender.c"
        install([tool("gcc"), "-O2", "-Wall", "-o", str(PROGRAM), str(source)], CACHE)

    def launch(self) -> None:
        self.run("sender", [str(PROGRAM), str(self.port), str(self.publish_port), *self.mode])

    def dialect(self, topic: str | None) -> Dialect:
        return Dialect(lambda _: "/", lambda _: [])

    def way(self) -> Way:
        return Way(self.publish_port, lambda _, payload: payload + b"\n")


class JoiningSender(Sender):
    """The same, with one `send` a socket for all events that were read together."""

    name = "C send loop, joined"
    mode = ("joined",)
