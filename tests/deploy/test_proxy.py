"""deploy/nginx: WebSockets through a real nginx, where one is installed."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Origin

from realtime.embedded import end, spawn
from tests.support.ports import free_port
from tests.support.waiting import wait_until

NGINX = Path(__file__).parents[2] / "deploy" / "nginx"
# Debian keeps it out of PATH for ordinary users.
BINARY = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(BINARY is None, reason="nginx is not installed"),
]


class Proxy(NamedTuple):
    """Where nginx listens, and where it expects the web processes."""

    http: int
    https: int
    web: tuple[int, int]


def write_certificate(directory: Path) -> None:
    """Write cert.pem and key.pem for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def install(directory: Path, site: str, proxy: Proxy) -> Path:
    """Return nginx.conf as it is deployed, but for its addresses and directories."""
    swaps = {
        "/tmp/": f"{directory}/",
        "/etc/nginx/conf.d/*.conf": f"{directory}/{site}",
        "/etc/nginx/": f"{directory}/",
        "listen 8080": f"listen 127.0.0.1:{proxy.http}",
        "listen 8443": f"listen 127.0.0.1:{proxy.https}",
        "web1:8000 resolve": f"127.0.0.1:{proxy.web[0]}",
        "web2:8000 resolve": f"127.0.0.1:{proxy.web[1]}",
        # What the tests need of it, which is what any host allows.
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 32768": "worker_connections 256",
        "worker_processes auto": "worker_processes 1",
    }
    for name in ("nginx.conf", "locations.conf", site):
        text = (NGINX / name).read_text()
        for old, new in swaps.items():
            text = text.replace(old, new)
        (directory / name).write_text(text)
    (directory / "certificates").mkdir()
    write_certificate(directory / "certificates")
    return directory / "nginx.conf"


@contextmanager
def nginx(directory: Path, site: str) -> Iterator[Proxy]:
    """Run nginx with one of the two sites."""
    assert BINARY is not None
    proxy = Proxy(free_port(), free_port(), (free_port(), free_port()))
    config = install(directory, site, proxy)
    log = directory / "log"
    more = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    process = spawn([BINARY, "-p", str(directory), "-c", str(config), "-g", more], log)
    try:

        def serving() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return request(proxy.http, "/proxy-health").status == 204
            except OSError:
                return False

        wait_until(serving, 30, what="nginx")
        yield proxy
    finally:
        end(process, 5)


def request(port: int, path: str) -> http.client.HTTPResponse:
    """Return the answer to a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": "gateway.example"})
    return connection.getresponse()


@asynccontextmanager
async def web_processes(*ports: int) -> AsyncIterator[None]:
    """Stand in for web processes: each says over a WebSocket which headers reached it."""

    async def tell(socket: ServerConnection) -> None:
        assert socket.request is not None
        await socket.send(json.dumps({k.lower(): v for k, v in socket.request.headers.items()}))
        await socket.wait_closed()

    async with AsyncExitStack() as stack:
        for port in ports:
            await stack.enter_async_context(serve(tell, "127.0.0.1", port))
        yield


async def headers_through(
    url: str, more: dict[str, str] | None = None, *, tls: ssl.SSLContext | None = None
) -> dict[str, str]:
    """Return the headers that a web process got of a WebSocket handshake at `url`."""
    async with connect(
        url, ssl=tls, origin=Origin("http://page.example"), additional_headers=more, proxy=None
    ) as socket:
        told: dict[str, str] = json.loads(await socket.recv())
        return told


async def test_websocket_through_http_brings_the_true_address(tmp_path: Path) -> None:
    with nginx(tmp_path, "http.conf") as proxy:
        async with web_processes(*proxy.web):
            spoofed = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Port": "1"}
            headers = await headers_through(f"ws://localhost:{proxy.http}/ws/", spoofed)
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["host"] == f"localhost:{proxy.http}"
    assert headers["origin"] == "http://page.example"
    assert "x-forwarded-port" not in headers


async def test_websocket_through_https_says_that_it_came_by_tls(tmp_path: Path) -> None:
    with nginx(tmp_path, "https.conf") as proxy:
        tls = ssl.create_default_context(cafile=str(tmp_path / "certificates" / "cert.pem"))
        async with web_processes(*proxy.web):
            headers = await headers_through(f"wss://localhost:{proxy.https}/ws/", tls=tls)
        moved = request(proxy.http, "/notifications/")
    assert headers["x-forwarded-proto"] == "https"
    assert moved.status == 308
    assert moved.headers["Location"] == "https://gateway.example/notifications/"


async def test_websocket_while_one_web_process_is_down_reaches_the_other(tmp_path: Path) -> None:
    with nginx(tmp_path, "http.conf") as proxy:
        async with web_processes(proxy.web[1]):
            for _ in range(4):
                await headers_through(f"ws://localhost:{proxy.http}/ws/")


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
async def test_metrics_from_outside_are_not_found(tmp_path: Path, path: str) -> None:
    with nginx(tmp_path, "http.conf") as proxy:
        assert request(proxy.http, path).status == 404
