"""`manage.py runworker nats_bridge`: relay NATS into channel-layer groups.

Every other channel name is handed to Channels' own worker.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

from channels.layers import get_channel_layer
from channels.management.commands.runworker import Command as ChannelsCommand
from django.core.management import CommandError

from realtime import parts
from realtime.conf import settings
from realtime.protocol.exceptions import GatewayError

logger = logging.getLogger(__name__)

BRIDGE = "nats_bridge"


class Command(ChannelsCommand):  # type: ignore[misc]
    """Run the bridge, or Channels' worker."""

    help = "Runs the NATS bridge (channel name nats_bridge) or Channels' own worker."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        if BRIDGE not in options["channels"]:
            super().handle(*args, **options)
            return
        if options["channels"] != [BRIDGE]:
            raise CommandError(f"Run {BRIDGE} by itself: it is no channel of the layer.")
        layer = get_channel_layer(options["layer"])
        if layer is None or getattr(layer, "in_process", False):
            raise CommandError(
                "The bridge needs a channel layer that other processes see: set REDIS_URL."
                " With the in-process layer every web process runs a bridge of its own."
            )
        asyncio.run(run_bridge(layer))


async def run_bridge(layer: Any) -> None:
    """Relay until SIGTERM or SIGINT; NATS and Redis may go away and come back."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    broker = parts.make_broker("gateway-bridge")
    bridge = parts.make_bridge(broker, layer)
    relaying = loop.create_task(_relay(broker, bridge))
    stop = loop.create_task(stopping.wait())
    await asyncio.wait({relaying, stop}, return_when=asyncio.FIRST_COMPLETED)
    if relaying.done():
        relaying.result()
        await stop
    relaying.cancel()
    await bridge.stop()
    await broker.close()
    logger.info("bridge stopped relayed=%d dropped=%d", bridge.relayed, bridge.dropped)


async def _relay(broker: Any, bridge: Any) -> None:
    history = parts.make_history(broker)
    await broker.connect_forever()
    while True:
        try:
            await history.open()
            break
        except GatewayError as exc:
            logger.warning("stream not ready, trying again reason=%s", exc)
            await asyncio.sleep(1.0)
    await bridge.relay_all()
    logger.info(
        "bridge connected, relaying stream=%s subjects=%s.relay.>", settings.STREAM, settings.PREFIX
    )
