"""This gateway, in two shapes: with the bridge in the web process, and over Redis."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

from benchmarks.client import Client, Dialect, Step, mask
from benchmarks.publisher import Way, nats_way
from realtime.embedded import NatsServer

from .accounts import token_maker
from .base import HOST, ROOT, Missing, Peer
from .redis import RedisServer

JWT_KEY = "a key for benchmarks, and for nothing else"
USERS = 10_000
ACK = b'"type":"ack"'
_SESSION_ID = re.compile(rb'"sessionId":"([^"]+)"')


def frame(**fields: object) -> bytes:
    """Return a masked client frame."""
    return mask(json.dumps(fields, separators=(",", ":")).encode())


def subscribe_steps(topic: str, token: str) -> list[Step]:
    """Return what a client says to this gateway, and to the one in Node."""
    return [
        Step(frame(type="connect", token=token), b'"type":"ready"'),
        Step(frame(type="subscribe", topic=topic), b'"type":"subscribed"'),
    ]


class Gateway(Peer):
    """`serve` with the in-process bridge; `auth_worker` is a process of its own."""

    name = "gateway"
    idle_rules = 0

    def __init__(self) -> None:
        super().__init__()
        self.token_for = token_maker(JWT_KEY)
        self.nats: NatsServer | None = None
        self.env: dict[str, str] = {}

    def launch(self) -> None:
        # As deploy/ runs it: fsync at nats-server's own interval, not at every message.
        self.nats = NatsServer(self.directory / "nats", sync_interval="2m")
        self.nats.start()
        self.env = {
            "DATA_DIR": str(self.directory),
            "JWT_KEY": JWT_KEY,
            "NATS_URL": self.nats.url,
            "BRIDGE": "process",
            # None of the peers writes a line for each socket.
            "LOG_LEVEL": "WARNING",
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
        numbers = (str(USERS), str(self.idle_rules))
        subprocess.run(
            [sys.executable, "-m", "benchmarks.peers.accounts", *numbers],
            cwd=ROOT,
            env={**os.environ, **self.env},
            check=True,
        )

    def manage(self, *arguments: str, serves: bool = True) -> None:
        """Start a management command."""
        argv = [sys.executable, "manage.py", *arguments]
        self.run(arguments[0], argv, env=self.env, cwd=ROOT, serves=serves)

    def stop(self) -> None:
        super().stop()
        if self.nats is not None:
            self.nats.stop()

    def dialect(self, topic: str | None) -> Dialect:
        def steps(number: int) -> list[Step]:
            wanted = topic or self.topic_of(number)
            return subscribe_steps(wanted, self.token_for(number % USERS + 1))

        return Dialect(lambda _: "/ws/", steps)

    def resuming(self, clients: Sequence[Client]) -> Dialect:
        """Return how these clients come back: with their session and no event had yet."""
        sessions = {client.number: _SESSION_ID.search(client.heard) for client in clients}

        def steps(number: int) -> list[Step]:
            session = sessions[number]
            assert session is not None
            connect = frame(
                type="connect",
                token=self.token_for(number + 1),
                sessionId=session[1].decode(),
                lastSeqPerTopic={self.topic_of(number): 0},
            )
            return [Step(connect, b'"type":"resumed"')]

        return Dialect(lambda _: "/ws/", steps)

    def publishing(self) -> Dialect:
        """Return how clients open that will publish (see `publish_frame`), and count acks."""

        def steps(number: int) -> list[Step]:
            return [Step(frame(type="connect", token=self.token_for(number + 1)), b'"ready"')]

        return Dialect(lambda _: "/ws/", steps, marker=ACK)

    def way(self) -> Way:
        assert self.nats is not None
        return nats_way(self.nats.port)

    def _wait_ready(self, timeout: float = 60.0) -> None:
        self.wait_port(self.port, timeout)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://{HOST}:{self.port}/readyz", timeout=5)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise Missing(f"{self.name} was not ready in time: {self._last_words()}")


class ManyRules(Gateway):
    """The same where 200 rules apply to each user."""

    name = "gateway, 200 rules"
    idle_rules = 198


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


def publish_frame(number: int, count: int) -> bytes:
    """Return what a client publishes in its turn `count`, on a topic of its own."""
    payload = {"n": count, "pad": "x" * 60}
    topic, message_id = f"room.own{number}", f"{number}-{count}"
    return frame(type="publish", topic=topic, messageId=message_id, payload=payload)
