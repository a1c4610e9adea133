"""nginx with the module nchan: publish by HTTP, subscribe by WebSocket."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

from benchmarks.client import Dialect
from benchmarks.publisher import HTTP_ANSWER, Way, http_encode

from .base import CACHE, HOST, Missing, Peer, install, tool

PACKAGE = "libnginx-mod-nchan"
MODULE = Path("usr/lib/nginx/modules/ngx_nchan_module.so")

_CONF = """
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile 20000;
error_log {directory}/error.log warn;
pid {directory}/nginx.pid;
load_module {module};
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    nchan_shared_memory_size 512m;
    nchan_message_buffer_length 128;
    server {{
        listen {host}:{port} backlog=4096;
        keepalive_requests 10000000;
        keepalive_timeout 1h;
        location ~ ^/publish/(.+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
        }}
        location ~ ^/live/(.+)$ {{
            nchan_subscriber websocket;
            nchan_subscriber_first_message newest;
            nchan_channel_id $1;
        }}
        location ~ ^/resume/(.+)$ {{
            nchan_subscriber websocket;
            nchan_subscriber_first_message oldest;
            nchan_channel_id $1;
        }}
    }}
}}
"""


def module() -> Path:
    """Return where the module is: the system's, or the one unpacked into the cache."""
    system = Path("/") / MODULE
    return system if system.exists() else CACHE / "nginx" / MODULE


class Nchan(Peer):
    """One nginx worker; the last 128 events of a topic are kept in memory."""

    name = "nchan"

    @classmethod
    def install(cls) -> None:
        tool("nginx")
        if module().exists():
            return
        # Unpacked, not installed: an nginx that runs on this machine need not know of it.
        cache = CACHE / "nginx"
        install([tool("apt-get"), "download", PACKAGE], cache)
        package = next(cache.glob(f"{PACKAGE}*.deb"), None)
        if package is None:
            raise Missing(f"apt-get brought no {PACKAGE}")
        install([tool("dpkg-deb"), "-x", str(package), str(cache)], cache)

    @classmethod
    def version(cls) -> str:
        done = subprocess.run([tool("nginx"), "-v"], capture_output=True, text=True, check=False)
        return done.stderr.strip().rpartition(" ")[2]

    def launch(self) -> None:
        conf = self.directory / "nginx.conf"
        conf.write_text(
            _CONF.format(
                directory=self.directory,
                host=HOST,
                port=self.port,
                module=module(),
                user=getpass.getuser(),
            )
        )
        self.run("nginx", [tool("nginx"), "-p", str(self.directory), "-c", str(conf)])

    def dialect(self, topic: str | None) -> Dialect:
        return Dialect(lambda number: f"/live/{topic or self.topic_of(number)}", lambda _: [])

    def resuming(self) -> Dialect:
        """Return how clients come back that have had nothing yet."""
        return Dialect(lambda number: f"/resume/{self.topic_of(number)}", lambda _: [])

    def way(self) -> Way:
        def encode(topic: str, payload: bytes) -> bytes:
            return http_encode(f"/publish/{topic}", payload)

        return Way(self.port, encode, answer=HTTP_ANSWER)
