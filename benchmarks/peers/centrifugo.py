"""Centrifugo, built by Go from its module; history is on."""

from __future__ import annotations

import json
import subprocess

from benchmarks.client import Dialect, Step, mask
from benchmarks.publisher import Way, http_encode

from .base import CACHE, HOST, Peer, install, tool

MODULE = "github.com/centrifugal/centrifugo/v6@latest"
BINARY = CACHE / "go" / "centrifugo"


class Centrifugo(Peer):
    """One Centrifugo with its memory engine; the last 128 events of a channel are kept."""

    name = "centrifugo"

    @classmethod
    def install(cls) -> None:
        if not BINARY.exists():
            install([tool("go"), "install", MODULE], CACHE / "go", GOBIN=str(BINARY.parent))

    @classmethod
    def version(cls) -> str:
        done = subprocess.run([BINARY, "version"], capture_output=True, text=True, check=False)
        return done.stdout.strip().splitlines()[0]

    def launch(self) -> None:
        conf = self.directory / "centrifugo.json"
        everything = {
            "http_server": {"address": HOST, "port": str(self.port)},
            "http_api": {"insecure": True},
            "client": {"insecure": True},
            "channel": {
                "without_namespace": {
                    "history_size": 128,
                    "history_ttl": "300s",
                    "force_recovery": True,
                }
            },
            "log": {"level": "warn"},
        }
        conf.write_text(json.dumps(everything))
        self.run("centrifugo", [str(BINARY), "-c", str(conf)])

    def dialect(self, topic: str | None) -> Dialect:
        def steps(number: int) -> list[Step]:
            join = {"id": 2, "subscribe": {"channel": topic or self.topic_of(number)}}
            return [
                Step(mask(b'{"id":1,"connect":{}}'), b'"connect":'),
                Step(mask(json.dumps(join).encode()), b'"subscribe":'),
            ]

        return Dialect(lambda _: "/connection/websocket", steps)

    def way(self) -> Way:
        return Way(self.port, encode)


def encode(topic: str, payload: bytes) -> bytes:
    """Return a call of its HTTP API."""
    body = b'{"channel":"%b","data":%b}' % (topic.encode(), payload)
    return http_encode("/api/publish", body, "Content-Type: application/json\r\n")
