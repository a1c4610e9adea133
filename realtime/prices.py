"""Made-up prices, for the demonstration of many ephemeral topics: a random walk of each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator

import msgspec

from .broker import Broker
from .protocol.exceptions import GatewayError

logger = logging.getLogger(__name__)

PERIOD = 0.5
"""Seconds between two rounds; in each, about two thirds of the prices move."""
STEP = 0.0015
"""Standard deviation of one move, as a part of the price."""
SYMBOLS = (
    ("TEA", "Tea", 12.40),
    ("COFFEE", "Coffee", 187.30),
    ("COCOA", "Cocoa", 731.00),
    ("SUGAR", "Sugar", 18.92),
    ("WHEAT", "Wheat", 562.75),
    ("COTTON", "Cotton", 81.44),
    ("COPPER", "Copper", 408.15),
    ("SILVER", "Silver", 29.06),
)
"""Symbol, name, and the price that the walk begins with."""


def topic_of(symbol: str) -> str:
    """Return the topic on which the price of a symbol is told."""
    return f"live.prices.{symbol}"


def walk(source: random.Random) -> Iterator[list[tuple[str, float, float]]]:
    """Yield, without end, the prices that moved: symbol, price, change since the start in %."""
    starts = {symbol: start for symbol, _, start in SYMBOLS}
    now = dict(starts)
    while True:
        moved = []
        for symbol, start in starts.items():
            if source.random() < 1 / 3:
                continue
            # Drawn back a little, so that a walk of days stays near its start.
            pull = (start - now[symbol]) / start * 0.01
            now[symbol] *= 1 + source.gauss(pull, STEP)
            change = (now[symbol] / start - 1) * 100
            moved.append((symbol, round(now[symbol], 2), round(change, 2)))
        yield moved


async def publish_prices(broker: Broker, stopping: asyncio.Event) -> None:
    """Publish a walk until `stopping` is set; while NATS is away, what is missed is missed."""
    stop = asyncio.create_task(stopping.wait())
    connect = asyncio.create_task(broker.connect_forever())
    try:
        await asyncio.wait({connect, stop}, return_when=asyncio.FIRST_COMPLETED)
        for moved in walk(random.Random()):
            if stop.done():
                return
            for symbol, price, change in moved:
                payload = msgspec.json.encode({"price": price, "change": change})
                with contextlib.suppress(GatewayError):
                    await broker.publish(topic_of(symbol), payload)
            await asyncio.wait({stop}, timeout=PERIOD)
    finally:
        connect.cancel()
        stop.cancel()
        await broker.close()
