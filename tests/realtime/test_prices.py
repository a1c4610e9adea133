"""Made-up prices."""

from __future__ import annotations

import asyncio
import itertools
import json
import random

from realtime.broker import Broker
from realtime.nats_client import Message
from realtime.prices import SYMBOLS, publish_prices, topic_of, walk
from tests.support.waiting import DEADLINE, until


def test_walk_stays_near_its_start_and_tells_its_change():
    starts = {symbol: start for symbol, _, start in SYMBOLS}
    seen = set()
    for moved in itertools.islice(walk(random.Random(7)), 20_000):
        for symbol, price, change in moved:
            seen.add(symbol)
            assert starts[symbol] / 2 < price < starts[symbol] * 2
            assert abs((price / starts[symbol] - 1) * 100 - change) < 0.1
    assert seen == set(starts)


async def test_prices_are_published_on_a_topic_each(broker: Broker, nats_server):
    came: dict[str, Message] = {}

    async def receive(message: Message) -> None:
        came[message.subject] = message

    await broker.subscribe(topic_of("*"), receive)
    await broker.flush()
    stopping = asyncio.Event()
    publisher = Broker(nats_server.url, name="prices")
    running = asyncio.create_task(publish_prices(publisher, stopping))
    await until(lambda: len(came) == len(SYMBOLS), what="a price of each")
    assert set(json.loads(came["live.prices.TEA"].data)) == {"price", "change"}
    stopping.set()
    await asyncio.wait_for(running, DEADLINE)
    assert not publisher.connected
