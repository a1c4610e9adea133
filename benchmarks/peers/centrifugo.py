"""Centrifugo, built by Go from its module; history is on."""

from __future__ import annotations

import json

from benchmarks.client import Dialect, Step, mask
from benchmarks.publisher import HTTP_ANSWER, Way, http_encode

from .base import CACHE, HOST, Peer, install, tool

MODULE = "github.com/centrifugal/centrifugo/v5"
VERSION = "v5.4.9"
BINARY = CACHE / "go" / f"centrifugo-{VERSION}"


class Centrifugo(Peer):
    """One Centrifugo with its memory engine; the last 128 events of a channel are kept."""

    name = "centrifugo"

    @classmethod
    def install(cls) -> None:
        if BINARY.exists():
            return
        # Not `go install`, which asks for the list of all versions too: some proxies have none.
        go = tool("go")
        module = install([go, "mod", "download", "-json", f"{MODULE}@{VERSION}"], CACHE / "go")
        source = json.loads(module)["Dir"]
        # On two cores that others use too it took three to four minutes.
        install([go, "build", "-o", str(BINARY), "."], source, timeout=900)

    @classmethod
    def version(cls) -> str:
        return f"Centrifugo {VERSION.removeprefix('v')}"

    def launch(self) -> None:
        conf = self.directory / "centrifugo.json"
        everything = {
            "address": HOST,
            "port": str(self.port),
            "api_insecure": True,
            "client_insecure": True,
            "history_size": 128,
            "history_ttl": "300s",
            "force_recovery": True,
            # Its pings are messages of its own protocol, which the load generator does not answer.
            "ping_interval": "1h",
            "usage_stats_disable": True,
            "log_level": "warn",
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
        return Way(self.port, encode, answer=HTTP_ANSWER)


def encode(topic: str, payload: bytes) -> bytes:
    """Return a call of its HTTP API."""
    body = b'{"channel":"%b","data":%b}' % (topic.encode(), payload)
    return http_encode("/api/publish", body, "Content-Type: application/json\r\n")
