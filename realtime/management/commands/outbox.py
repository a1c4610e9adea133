"""`manage.py outbox`: publish what transactions wrote to the outbox."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.core.management import BaseCommand

from realtime.outbox import OutboxRelay
from realtime.parts import make_broker


class Command(BaseCommand):
    """Run an outbox relay; several may run."""

    help = "Publishes what transactions wrote to the outbox, until SIGTERM or SIGINT."

    def handle(self, *args: Any, **options: Any) -> None:
        """Relay."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await OutboxRelay(make_broker("outbox")).run(stopping)
