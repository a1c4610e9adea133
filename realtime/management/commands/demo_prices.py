"""`manage.py demo_prices`: publish made-up prices, for the page /prices/."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.core.management import BaseCommand

from realtime.parts import make_broker
from realtime.prices import SYMBOLS, publish_prices, topic_of


class Command(BaseCommand):
    """Publish prices until Ctrl-C or SIGTERM."""

    help = "Publishes made-up prices on live.prices.<symbol>, for the page /prices/."

    def handle(self, *args: Any, **options: Any) -> None:
        """Publish until told to end."""
        self.stdout.write(f"Publishing on {topic_of('*')}: {len(SYMBOLS)} made-up prices.")
        asyncio.run(publish_until_signal())


async def publish_until_signal() -> None:
    """Publish until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await publish_prices(make_broker("demo-prices"), stopping)
