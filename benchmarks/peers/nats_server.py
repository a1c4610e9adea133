"""nats-server's own WebSocket: clients speak NATS in binary frames."""

from __future__ import annotations

import json

from benchmarks.client import Dialect, Step, mask
from benchmarks.publisher import Way, nats_way
from realtime.embedded import NatsServer, find_binary

from .base import HOST, Peer
from .node import make_stream

BINARY = 0x82
CONNECT = 'CONNECT {"verbose":false,"pedantic":false}\r\n'
STREAM = "BENCH"


def say(text: str) -> bytes:
    """Return a masked frame of NATS protocol."""
    return mask(text.encode(), BINARY)


class NatsWebSocket(Peer):
    """One nats-server in Go; core NATS, nothing stored."""

    name = "nats-server"

    def __init__(self) -> None:
        super().__init__()
        self.nats: NatsServer | None = None

    @classmethod
    def install(cls) -> None:
        find_binary()

    def launch(self) -> None:
        websocket = f'websocket {{ host: "{HOST}", port: {self.port}, no_tls: true }}'
        more = f'{websocket}\nping_interval: "10m"\nmax_pending: 512MB\n'
        self.nats = NatsServer(self.directory / "nats", sync_interval="2m", config_extra=more)
        self.nats.start()

    def stop(self) -> None:
        if self.nats is not None:
            self.nats.stop()

    def dialect(self, topic: str | None) -> Dialect:
        def steps(number: int) -> list[Step]:
            wanted = topic or self.topic_of(number)
            return [Step(say(f"{CONNECT}SUB {wanted} 1\r\nPING\r\n"), b"PONG\r\n")]

        return Dialect(lambda _: "/", steps)

    def way(self) -> Way:
        assert self.nats is not None
        return nats_way(self.nats.port)


class NatsConsumers(NatsWebSocket):
    """The same with a stream, and a JetStream consumer for each client that comes back."""

    name = "nats-server, consumers"

    def __init__(self) -> None:
        super().__init__()
        self._comebacks = 0

    def launch(self) -> None:
        super().launch()
        assert self.nats is not None
        make_stream(self.nats.url, STREAM)

    def resuming(self) -> Dialect:
        """Return how clients come back that have had nothing yet.

        Under subjects of their own: interest in the old ones would keep the consumers that nobody
        needs any more, and nats-server was seen to make no more than 1,000.
        """
        self._comebacks += 1
        prefix = f"deliver.{self._comebacks}"

        def steps(number: int) -> list[Step]:
            config = {
                "deliver_subject": f"{prefix}.{number}",
                "deliver_policy": "all",
                "ack_policy": "none",
                "filter_subject": self.topic_of(number),
                # Nanoseconds.
                "inactive_threshold": 10**9,
            }
            body = json.dumps({"stream_name": STREAM, "config": config})
            subject = f"$JS.API.CONSUMER.CREATE.{STREAM}"
            create = f"PUB {subject} deliver.none {len(body)}\r\n{body}\r\n"
            join = f"{CONNECT}SUB {prefix}.{number} 1\r\n{create}PING\r\n"
            return [Step(say(join), b"PONG\r\n")]

        return Dialect(lambda _: "/", steps)
