"""This gateway, in its three shapes: all in one process, split, and over Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

from benchmarks.load import Dialect, Step, mask
from benchmarks.publisher import Way, nats_way
from realtime.embedded import NatsServer, free_port

from .accounts import token_maker
from .base import HOST, ROOT, Missing, Peer
from .redis import RedisServer

JWT_KEY = "a key for benchmarks, and for nothing else"


def frame(**fields: object) -> bytes:
    """Return a masked client frame."""
    return mask(json.dumps(fields, separators=(",", ":")).encode())


class Gateway(Peer):
    """`serve` with the in-process bridge and `auth_worker` in a process of its own."""

    name = "gateway"
    can = frozenset({"unicast", "auth", "ack", "resume", "stored", "memory"})

    users = 10_000
    idle_rules = 0

    def __init__(self) -> None:
        super().__init__()
        self.token_for = token_maker(JWT_KEY)
        self.nats: NatsServer | None = None
        self.env: dict[str, str] = {}
        self._way: Way | None = None

    def launch(self) -> None:
        # As deploy/ runs it: fsync at nats-server's own interval, not at every message.
        self.nats = NatsServer(self.directory / "nats", sync_interval="2m")
        self.nats.start()
        self._way = nats_way(self.nats.port)
        self.env = {
            "DATA_DIR": str(self.directory),
            "JWT_KEY": JWT_KEY,
            "NATS_URL": self.nats.url,
            "BRIDGE": "process",
        }
        self.make_accounts()
        self.launch_parts()
        self._wait_ready()

    def launch_parts(self) -> None:
        """Start the gateway's own processes."""
        self.manage("auth_worker", serves=False)
        self.manage("serve", "--port", str(self.port))

    def make_accounts(self) -> None:
        """Fill the database."""
        numbers = (str(self.users), str(self.idle_rules))
        subprocess.run(
            [sys.executable, "-m", "benchmarks.peers.accounts", *numbers],
            cwd=ROOT,
            env={**os.environ, **self.env},
            check=True,
        )

    def manage(self, *arguments: str, serves: bool = True) -> subprocess.Popen[bytes]:
        """Start a management command."""
        argv = [sys.executable, "manage.py", *arguments]
        return self.run(arguments[0], argv, env=self.env, cwd=ROOT, serves=serves)

    def stop(self) -> None:
        super().stop()
        if self.nats is not None:
            self.nats.stop()

    def dialect(self, topic: str | None, **options: object) -> Dialect:
        def steps(number: int) -> list[Step]:
            token = self.token_for(number % self.users + 1)
            wanted = topic or self.topic_of(number)
            return [
                Step(frame(type="connect", token=token), b'"type":"ready"'),
                Step(frame(type="subscribe", topic=wanted), b'"type":"subscribed"'),
            ]

        return Dialect("/ws/", steps)

    def way(self) -> Way:
        assert self._way is not None
        return self._way

    def _wait_ready(self, timeout: float = 30.0) -> None:
        self.wait_port(self.port, timeout)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://{HOST}:{self.port}/readyz", timeout=1)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise Missing(f"{self.name} was not ready in time: {self._last_words()}")


class Embedded(Gateway):
    """`manage.py gateway`: the auth worker in the web process, in threads."""

    name = "gateway, one process"

    def launch_parts(self) -> None:
        """Start the one process."""
        assert self.nats is not None
        self.manage("gateway", "--port", str(self.port), "--nats-url", self.nats.url)


class Clustered(Gateway):
    """`runworker nats_bridge`, Redis, and `serve`."""

    name = "gateway, Redis"

    def launch_parts(self) -> None:
        """Start Redis and the three processes."""
        redis = RedisServer(self)
        self.env |= {"REDIS_URL": redis.url, "BRIDGE": "worker"}
        self.manage("auth_worker", serves=False)
        self.manage("runworker", "nats_bridge")
        self.manage("serve", "--port", str(self.port))


__all__ = ["Clustered", "Embedded", "Gateway", "free_port"]
