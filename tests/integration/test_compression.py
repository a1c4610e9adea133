"""permessage-deflate (RFC 7692) over real sockets: the handshake, and what the gateway sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from realtime.broker import Broker, connected
from tests.faults.wire import COMPRESSED, OFFER, TEXT, RawSocket
from tests.support.client import TestClient
from tests.support.gateways import Gateway
from tests.support.waiting import until
from tests.test_metrics import scrape

from .deflating import client, run, said
from .support import new_topic

AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def extension(raw: RawSocket) -> str | None:
    """Return what the gateway agreed to in its handshake."""
    for line in raw.head.decode().split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "sec-websocket-extensions":
            return value
    return None


@pytest.fixture(scope="module")
def plain_site(data_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run one as it is by default."""
    yield from run(tmp_path_factory.mktemp("plain"), data_template)


@pytest.fixture
async def backend(compressing: Gateway) -> AsyncIterator[Broker]:
    async with connected(compressing.nats_url, name="backend") as broker:
        yield broker


def payload(number: int, size: int = 1000) -> bytes:
    words = f"event {number} of a shop in which orders are shipped and paid. ".encode()
    return b'"' + (words * (size // len(words) + 1))[:size] + b'"'


async def store(backend: Broker, topic: str, count: int, start: int = 1) -> list[Any]:
    """Store events; return their data."""
    payloads = [payload(number) for number in range(start, start + count)]
    for one in payloads:
        await backend.store(topic, one, headers=None, timeout=30)
    return [json.loads(one) for one in payloads]


async def data_of(client: TestClient, topic: str, count: int) -> list[Any]:
    return [(await client.expect("message", topic=topic))["data"] for _ in range(count)]


# The handshake.


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ("permessage-deflate", AGREED),
        ("permessage-deflate; client_max_window_bits", AGREED),  # as Chromium and Node say it
        ("permessage-deflate; client_max_window_bits=8", AGREED),
        (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            f"{AGREED}; server_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", AGREED),
        ("permessage-deflate; unknown=1, PERMESSAGE-DEFLATE", AGREED),
        ("permessage-bzip2, other; x=1, permessage-deflate", AGREED),
        ("permessage-deflate; server_max_window_bits=9", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; client_max_window_bits=16", None),
        ("permessage-bzip2; nonsense=1", None),
        ("x-webkit-deflate-frame", None),
        (";;,=", None),
    ],
)
async def test_offer_is_met_or_declined(
    compressing: Gateway, offered: str, agreed: str | None
) -> None:
    async with RawSocket(compressing.ports[0]) as raw:
        assert await raw.shake(f"Sec-WebSocket-Extensions: {offered}") == 101
        assert extension(raw) == agreed


@pytest.mark.parametrize(
    "offered", ["permessage-deflate; client_max_window_bits", "permessage-deflate; unknown"]
)
async def test_offer_is_declined_where_compression_is_off(
    plain_site: Gateway, offered: str
) -> None:
    async with RawSocket(plain_site.ports[0]) as raw:
        assert await raw.shake(f"Sec-WebSocket-Extensions: {offered}") == 101
        assert extension(raw) is None
    async with client(plain_site, True) as plain:
        assert plain.ws.protocol.extensions == []


@pytest.mark.parametrize("on", [False, True], ids=["off", "not offered"])
async def test_compressed_message_without_agreement_closes_1002(
    compressing: Gateway, plain_site: Gateway, on: bool
) -> None:
    async with RawSocket((compressing if on else plain_site).ports[0]) as raw:
        assert await raw.shake(*([] if on else [OFFER])) == 101
        await raw.send(said(type="ping"))
        assert await raw.ending() == 1002


# What the gateway sends.


async def test_same_events_reach_clients_with_and_without_compression_and_are_compressed_once(
    compressing: Gateway, backend: Broker
) -> None:
    topic = new_topic()
    async with (
        client(compressing, True) as one,
        client(compressing, True, "bob") as other,
        client(compressing, True) as sure,
        client(compressing, False) as plain,
    ):
        assert [it.name for it in one.ws.protocol.extensions] == ["permessage-deflate"]
        assert plain.ws.protocol.extensions == []
        everyone = (one, other, sure, plain)
        for it in (one, other, plain):
            await it.subscribe(topic)
        await sure.subscribe(topic, qos=1)
        before = scrape(compressing.url())("compressions_total")
        sent = await store(backend, topic, 20)
        for it in everyone:
            assert await data_of(it, topic, 20) == sent
        assert scrape(compressing.url())("compressions_total") - before == 20


async def test_pages_reach_a_client_with_compression(compressing: Gateway, backend: Broker) -> None:
    topic = new_topic()
    sent = await store(backend, topic, 20)
    async with client(compressing, True) as reader:
        await reader.subscribe(topic, since=0)
        assert await data_of(reader, topic, 20) == sent
        sent += await store(backend, topic, 5, start=21)
        assert await data_of(reader, topic, 5) == sent[20:]
        reply = await reader.ask("history", "reply", topic=topic, limit=25)
        assert [it["data"] for it in reply["data"]] == sent
    async with client(compressing, True) as again:
        await again.subscribe(topic, since=0)
        assert await data_of(again, topic, 25) == sent


async def test_frame_below_the_minimum_is_sent_as_it_is(
    compressing: Gateway, backend: Broker, raw: RawSocket
) -> None:
    topic = new_topic()
    await raw.send(said(type="subscribe", topic=topic))
    await raw.until("subscribed")
    await backend.store(topic, b'"small"', headers=None, timeout=30)
    assert (await raw.until("message"))["data"] == "small"
    raw.data = b""
    await store(backend, topic, 1)
    await until(lambda: _read(raw), what="a frame")
    assert raw.data[0] == 0x80 | COMPRESSED << 4 | TEXT


async def _read(raw: RawSocket) -> bool:
    raw.data += await raw.read()
    return len(raw.data) > 1


async def test_other_application_of_this_server_hears_and_says_what_it_always_did(
    compressing: Gateway,
) -> None:
    address = compressing.ws_url().replace("/ws/", "/echo/")
    async with connect(address, compression="deflate", proxy=None) as ws:
        assert [it.name for it in ws.protocol.extensions] == ["permessage-deflate"]
        for text in ("x" * 2000, "é"):
            await ws.send(text)
            assert await asyncio.wait_for(ws.recv(), 30) == text
