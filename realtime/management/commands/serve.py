"""`manage.py serve`: a web process: pages, admin, API and sockets; nothing else."""

from __future__ import annotations

import argparse
import os
import socket
from typing import Any

from django.core.management import BaseCommand, CommandError

from realtime import server
from realtime.management.ports import tcp_port
from realtime.supervisor import Supervisor


class Command(BaseCommand):
    """Serve HTTP and WebSockets, in one process or in several that share the port."""

    help = "Serves HTTP and WebSockets until SIGTERM or SIGINT."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
        parser.add_argument("--port", type=tcp_port, default=os.environ.get("PORT", "8000"))
        parser.add_argument("--workers", type=int, default=1, help="processes on the port")
        parser.add_argument("--fd", type=int, help="serve on this inherited listening socket")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve."""
        if options["fd"] is not None:
            server.serve(socket.socket(fileno=options["fd"]))
            return
        host, port, workers = options["host"], options["port"], options["workers"]
        if workers < 1:
            raise CommandError("--workers is at least 1.")
        try:
            listener = server.listen(host, port)
        except OSError as exc:
            raise CommandError(
                f"Port {port} on {host} cannot be used ({exc.strerror}): choose another with"
                " --port, or stop the program that listens there."
            ) from exc
        if workers == 1:
            server.serve(listener, ready=lambda: self._announce(host, port))
        else:
            self._announce(host, port)
            Supervisor("serve", listener, workers).run()

    def _announce(self, host: str, port: int) -> None:
        self.stdout.write(f"Serving on http://{host}:{port}")
        self.stdout.flush()
