"""`manage.py auth_worker`: answer the gateway's auth requests in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from django.core.management.base import BaseCommand

from accounts.worker import serve
from realtime.broker import Broker
from realtime.conf import settings


class Command(BaseCommand):
    """Run an auth worker until SIGTERM or SIGINT; several may run."""

    help = (
        "Answers the gateway's auth requests over NATS until SIGTERM or SIGINT."
        " Several may run and share the work."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve, and exit 0 after a drain."""
        if not asyncio.run(self._serve()):
            # At exit Python would join the thread of a look-up that may hang for minutes.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    async def _serve(self) -> bool:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        broker = Broker(
            settings.NATS_URL,
            name="auth-worker",
            inbox_prefix=settings.NATS_INBOX_PREFIX,
            connect_timeout=settings.NATS_CONNECT_TIMEOUT,
        )
        return await serve(broker, stopping)
