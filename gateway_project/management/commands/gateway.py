"""`manage.py gateway`: everything in one command, for a first look and for small sites.

An embedded nats-server, the stream, the auth worker, the in-process bridge, pages, admin, API
and sockets. In production the same parts run as processes of their own (docs/deploy.md).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, call_command
from django.db import connections

from accounts.demo import make_demo_accounts
from accounts.worker import serve as answer_auth
from gateway_project.environment import published_nats_url
from realtime import server
from realtime.broker import Broker
from realtime.embedded import EmbeddedError, NatsServer
from realtime.management.ports import tcp_port
from realtime.outbox import OutboxRelay
from realtime.parts import make_broker
from realtime.prices import publish_prices
from realtime.protocol.exceptions import Unavailable

NATS_PORT = "4222"


class Command(BaseCommand):
    """Run the whole gateway."""

    help = "Runs the whole gateway in one command: NATS, auth worker, bridge, pages and sockets."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options; the environment says the same (docs/configuration.md)."""
        parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
        parser.add_argument("--port", type=tcp_port, default=os.environ.get("PORT", "8000"))
        parser.add_argument(
            "--nats-url",
            default=os.environ.get("NATS_URL", ""),
            help="use this NATS server (with JetStream) and embed none",
        )
        parser.add_argument(
            "--nats-port",
            type=tcp_port,
            default=os.environ.get("NATS_PORT", NATS_PORT),
            help="port of the embedded NATS server",
        )
        parser.add_argument(
            "-i", "--inbound", metavar="NAMES", help="event channels to clients, comma-separated"
        )
        parser.add_argument("-o", "--outbound", metavar="NAMES", help="event channels from clients")
        # Read by manage.py, before the settings are loaded that depend on it.
        parser.add_argument("--data-dir", help="where database, stream and keys are kept")
        parser.add_argument(
            "--demo",
            action="store_true",
            help="make the accounts alice, bob and admin, once, and publish made-up prices",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until Ctrl-C or SIGTERM."""
        self._open_channels(options)
        host, port = options["host"], options["port"]
        try:
            listener = server.listen(host, port)
        except OSError as exc:
            raise CommandError(
                f"Port {port} on {host} cannot be used ({exc.strerror}): choose another with"
                " --port, or stop the program that listens there."
            ) from exc
        call_command("migrate", verbosity=0, interactive=False)
        with (
            contextlib.closing(listener),
            nats(options["nats_url"], options["nats_port"]) as url,
            published_nats_url(settings.DATA_DIR, url),
        ):
            settings.REALTIME = {**settings.REALTIME, "NATS_URL": url, "BRIDGE": "process"}
            # Its signals tell the gateways of new rules, so NATS has to be known by now.
            accounts = make_demo_accounts() if options["demo"] else []
            connections.close_all()

            def ready() -> None:
                shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
                self.stdout.write(banner(f"http://{shown}:{port}", url, accounts))
                self.stdout.flush()

            beside = [auth_worker, outbox_relay, *([demo_prices] if options["demo"] else [])]
            server.serve(listener, beside=beside, ready=ready)

    def _open_channels(self, options: dict[str, Any]) -> None:
        """Take over the channels that the options name.

        Raises:
            SystemCheckError: when one cannot be.
        """
        named = {
            name.upper(): [one.strip() for one in options[name].split(",") if one.strip()]
            for name in ("inbound", "outbound")
            if options[name] is not None
        }
        if named:
            settings.REALTIME = {**settings.REALTIME, **named}
            self.check()


async def auth_worker(stopping: asyncio.Event) -> None:
    """Answer auth requests until `stopping` is set."""
    await answer_auth(make_broker("auth-worker"), stopping)


async def outbox_relay(stopping: asyncio.Event) -> None:
    """Publish the outbox until `stopping` is set."""
    await OutboxRelay(make_broker("outbox")).run(stopping)


async def demo_prices(stopping: asyncio.Event) -> None:
    """Publish made-up prices until `stopping` is set."""
    await publish_prices(make_broker("demo-prices"), stopping)


@contextlib.contextmanager
def nats(url: str, port: int) -> Iterator[str]:
    """Yield the address of the NATS server to use: the given one, else an embedded one.

    Raises:
        CommandError: when it cannot be reached, or started.
    """
    if url:
        asyncio.run(require_reachable(url))
        yield url
        return
    embedded = NatsServer(Path(settings.DATA_DIR) / "nats", port=port)
    try:
        embedded.start()
    except EmbeddedError as exc:
        raise CommandError(f"{exc} (--nats-port, --data-dir, or --nats-url)") from exc
    try:
        yield embedded.url
    finally:
        embedded.stop(timeout=1.5)


async def require_reachable(url: str) -> None:
    """Return when a NATS server answers.

    Raises:
        CommandError: otherwise.
    """
    broker = Broker(url, name="gateway", connect_timeout=3)
    try:
        await broker.connect()
    except Unavailable as exc:
        raise CommandError(str(exc)) from exc
    await broker.close()


def banner(url: str, nats_url: str, accounts: list[tuple[str, str, str]]) -> str:
    """Return what is printed when everything serves."""
    lines = [
        "",
        f"  Realtime gateway  {url}",
        f"  Admin             {url}/admin/",
        f"  Sockets           {url.replace('http', 'ws', 1)}/ws/",
        f"  NATS              {nats_url.rpartition('@')[2]}",
    ]
    if accounts:
        lines += ["", "  Log in as"]
        lines += [f"    {name:8} password {word:8} {role}" for name, word, role in accounts]
        python = os.path.relpath(sys.executable)
        lines += ["", f"  Then, in another terminal:  {python} manage.py notify alice hello"]
    return "\n".join([*lines, ""])
