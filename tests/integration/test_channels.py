"""Event channels on real gateways: in one process, and with a bridge round Redis."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from realtime.broker import connected
from realtime.nats_client import Message

from ..support.client import TestClient
from ..support.gateways import Gateway, Site
from ..support.processes import ManageProcess, manage
from ..support.waiting import until

CHANNELS = {"REALTIME_INBOUND": "IN,both,news.sport", "REALTIME_OUTBOUND": "OUT,both"}


class Place:
    """A gateway with channels, and its NATS."""

    def __init__(self, site: Site, nats_url: str) -> None:
        self.site = site
        self.nats_url = nats_url

    def client(self, user: str = "alice") -> TestClient:
        return self.site.client(self.site.token(user))

    @asynccontextmanager
    async def service(self, subject: str, reply: bytes | None) -> AsyncIterator[list[Message]]:
        """Listen on a subject; answer requests with `reply`, None: with nothing."""
        got: list[Message] = []
        async with connected(self.nats_url, name="service") as broker:

            async def take(message: Message) -> None:
                got.append(message)
                if reply is not None and message.reply:
                    await broker.publish(message.reply, reply)

            subscription = await broker.subscribe(subject, take)
            await broker.flush()
            yield got
            # Who asks from here on is to be told that nobody is there.
            await broker.unsubscribe(subscription)
            await broker.flush()


@pytest.fixture(params=["one process", "bridge"])
def place(request, gateway, cluster_of_processes) -> Place:
    if request.param == "bridge":
        cluster = cluster_of_processes(**CHANNELS)
        return Place(cluster, cluster.nats.url)
    site = gateway(**CHANNELS)
    return Place(site, site.nats_url)


async def test_channels_carry_events_and_requests_both_ways(place: Place) -> None:
    async with place.client() as alice, place.client("bob") as bob:
        await in_reaches_those_who_observe(place, alice, bob)
        await out_reaches_the_service(place, alice)
        await both_reaches_clients_and_services(place, alice, bob)
        await requests_tell_their_failures_apart(place, alice)
        await what_is_not_open_stays_shut(alice)


async def in_reaches_those_who_observe(place: Place, alice: TestClient, bob: TestClient) -> None:
    subscribed = await alice.subscribe("IN")
    assert subscribed["seqNo"] == 0
    await alice.subscribe("news.sport")
    async with connected(place.nats_url, name="service") as broker:
        await broker.publish("IN", b'{"n":1}')
        await broker.publish("news.sport", b"2")
        await broker.flush()
    event = await alice.expect("message", topic="IN")
    assert event["data"] == {"n": 1}
    assert "seqNo" not in event
    assert (await alice.expect("message", topic="news.sport"))["data"] == 2
    await alice.expect_nothing("message")  # once, not once for each way
    await bob.expect_nothing("message")


async def out_reaches_the_service(place: Place, alice: TestClient) -> None:
    async with place.service("OUT", None) as got:
        ack = await alice.publish("OUT", {"n": 3}, message_id="m3")
        assert ack["status"] == "ok"
        assert "seqNo" not in ack
        await until(lambda: got)
        assert json.loads(got[0].data) == {"n": 3}
        assert got[0].headers["Gateway-User"] == alice.ready["userId"]
        assert got[0].headers["Gateway-Message-Id"] == "m3"


async def both_reaches_clients_and_services(
    place: Place, alice: TestClient, bob: TestClient
) -> None:
    await bob.subscribe("both")
    async with place.service("both", None) as got:
        await alice.publish("both", "hi")
        assert (await bob.expect("message", topic="both"))["data"] == "hi"
        await until(lambda: got)


async def requests_tell_their_failures_apart(place: Place, alice: TestClient) -> None:
    error = await alice.error("request", topic="OUT", payload=1)
    assert error["code"] == "NO_RESPONDER"
    async with place.service("OUT", None):
        await alice.send("request", id="late", topic="OUT", payload=1, timeout=0.2)
        error = await alice.expect("error", id="late")
        assert error["code"] == "TIMEOUT"
    async with place.service("OUT", b'{"ok":true}'):
        reply = await alice.ask("request", "reply", topic="OUT", payload=1)
        assert reply["data"] == {"ok": True}


async def what_is_not_open_stays_shut(alice: TestClient) -> None:
    shut = [
        ("subscribe", {"topic": "OUT"}),
        ("subscribe", {"topic": "IN.more"}),
        ("subscribe", {"topic": "in"}),
        ("publish", {"topic": "IN", "messageId": "m", "payload": 1}),
        ("publish", {"topic": "OUT.more", "messageId": "m", "payload": 1}),
        ("request", {"topic": "IN", "payload": 1}),
        ("request", {"topic": "gateway.auth", "payload": 1}),
    ]
    for type_, fields in shut:
        assert (await alice.error(type_, **fields))["code"] == "BAD_TOPIC", (type_, fields)


async def test_channel_denied_by_a_rule_ends_for_open_sockets_too(gateway) -> None:
    place = Place(site := gateway(**CHANNELS), site.nats_url)
    async with place.client() as alice:
        await alice.subscribe("IN")
        await asyncio.to_thread(site.add_rule, "publish", "OUT", "deny")
        await asyncio.to_thread(site.add_rule, "subscribe", "IN", "deny")
        left = await alice.expect("unsubscribed", topic="IN")
        assert left["reason"] == "acl"
        assert (await alice.error("subscribe", topic="IN"))["code"] == "ACL_DENIED"
        error = await alice.error("publish", topic="OUT", messageId="m", payload=1)
        assert error["code"] == "ACL_DENIED"


async def test_django_code_and_the_rest_api_know_channels(gateway) -> None:
    site = gateway(**CHANNELS)
    async with site.client(site.token()) as alice:
        await alice.subscribe("IN")
        code = "from realtime.publish import publish; print(publish('IN', {'n': 1}))"
        await asyncio.to_thread(manage, "shell", "-c", code, env=site.env)
        assert (await alice.expect("message", topic="IN"))["data"] == {"n": 1}

        async def alone() -> bool:  # gateways have a quarter of a second to answer who is there
            page = await asyncio.to_thread(get, site, "/api/topics/IN/presence/")
            return [one["connections"] for one in page["members"]] == [1]

        await until(alone, what="the one socket")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        await asyncio.to_thread(get, site, "/api/topics/OUT/presence/")


def get(site: Gateway, path: str) -> Any:
    """Return what the REST API answers alice."""
    headers = {"Authorization": f"Bearer {site.token()}"}
    request = urllib.request.Request(site.url() + path, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return json.load(response)


def test_gateway_takes_channels_as_options(data_dir, data_template) -> None:
    help_text = manage("gateway", "--help", env={"DATA_DIR": str(data_dir)})
    assert "--inbound" in help_text
    process = ManageProcess(
        ("gateway", "-i", "IN,gateway.auth", "-o", "user.1"),
        {"DATA_DIR": str(data_dir)},
        log=data_dir / "gateway.log",
    )
    process.start()
    assert process.wait(60) == 1
    assert "REALTIME['INBOUND'] has 'gateway.auth'" in process.text()
    assert "REALTIME['OUTBOUND'] has 'user.1': the stream stores it" in process.text()


async def test_gateway_with_options_opens_them(data_dir, data_template, request) -> None:
    site = Gateway(data_dir, data_template, {})
    site.options = ("-i", "IN", "-o", " OUT ,feedback")
    request.addfinalizer(site.close)
    await asyncio.to_thread(site.start)
    async with site.client(site.token()) as alice:
        await alice.subscribe("IN")
        await alice.publish("OUT", 1)
        async with connected(site.nats_url, name="service") as broker:
            await broker.publish("IN", b"1")
        assert (await alice.expect("message"))["data"] == 1
