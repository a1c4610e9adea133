"""Compression between a gateway where it is on and the clients for Python, tests and the shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from realtime.client import GatewayClient
from realtime.testing.client import RealtimeClient

from ..support.gateways import Gateway
from ..support.processes import manage
from ..support.waiting import DEADLINE, until
from ..test_metrics import scrape

TOPIC = "room.compressed"
LONG = {"text": "all work and no play makes Jack a dull boy " * 200}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Gateway]:
    """Run a gateway that agrees to compression."""
    env = {"REALTIME_COMPRESSION": "true"}
    with closing(Gateway(tmp_path_factory.mktemp("site") / "data", data_template, env)) as site:
        site.start()
        yield site


@pytest.fixture
def compressed(site: Gateway):
    """Return a function that says how many texts were compressed since the test began."""
    before = scrape(site.url())("compressions_total")
    return lambda: scrape(site.url())("compressions_total") - before


@pytest.mark.parametrize(("options", "some"), [({}, True), ({"compression": False}, False)])
async def test_python_client_is_sent_compressed_events_unless_it_says_no(
    site, compressed, options, some
):
    async with GatewayClient(site.ws_url(), token=site.token(), **options) as client:
        messages = await client.subscribe(TOPIC)
        await client.publish(TOPIC, LONG)
        assert (await messages.get(DEADLINE)).data == LONG
    assert bool(compressed()) is some


@pytest.mark.parametrize(("options", "some"), [({}, True), ({"compression": False}, False)])
async def test_client_of_tests_is_sent_compressed_events_unless_it_says_no(
    site, compressed, options, some
):
    async with RealtimeClient(site.ws_url(), token=site.token(), **options) as client:
        await client.subscribe(TOPIC)
        await client.publish(TOPIC, LONG)
        assert (await client.expect("message", topic=TOPIC))["data"] == LONG
    assert bool(compressed()) is some


@pytest.mark.parametrize(("options", "some"), [((), True), (("--no-compression",), False)])
def test_tools_are_sent_compressed_events_unless_told_not_to(site, compressed, options, some):
    env = {**site.env, "GATEWAY_TOKEN": site.token()}
    to = ("-u", site.ws_url(), "-t", TOPIC, *options)
    manage("produce", *to, "-m", f'"{LONG["text"]}"', env=env)
    got = manage("consume", *to, "--since", "0", "--count", "1", "--timeout", "60", env=env)
    assert LONG["text"] in got
    assert bool(compressed()) is some


async def test_event_that_inflates_beyond_the_bound_is_not_taken(site):
    async with GatewayClient(site.ws_url(), token=site.token()) as sender:
        await sender.publish(TOPIC, LONG)
    codes = []
    token = site.token()
    bounded = GatewayClient(
        site.ws_url(), token=token, max_size=2000, on_state=lambda state: codes.append(state.code)
    )
    async with bounded as client:
        await client.subscribe(TOPIC, since=0)
        await until(lambda: 1006 in codes, what="the end of the connection")
