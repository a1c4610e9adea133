"""One trace from the publisher to the delivery, whichever way the event takes."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from realtime import tracing
from realtime.broker import connected
from realtime.nats_client import Message
from realtime.protocol.messages import ephemeral_event
from tests.support.gateways import Cluster, Gateway, Site
from tests.support.processes import manage
from tests.support.waiting import until

from .support import ALICE, add_rules

SETTINGS = "tests.integration.traced"
TOPIC = f"user.{ALICE}.notifications"
IN_A_TRANSACTION = f"""
from django.db import transaction
from opentelemetry import trace
from realtime.publish import notify
with trace.get_tracer("test").start_as_current_span("view"), transaction.atomic():
    notify({ALICE}, "by the outbox")
"""


def spans(site: Site) -> list[dict[str, Any]]:
    """Return what all processes of a site, and the commands run on it, have traced."""
    texts = [file.read_text() for file in Path(site.env["SPANS"]).iterdir()]
    # The last line may be half written.
    lines = [line for text in texts for line in text.split("\n")[:-1]]
    return [json.loads(line) for line in lines]


def named(name: str, found: Sequence[dict[str, Any]], **attributes: Any) -> list[dict[str, Any]]:
    """Return the spans of a name and with these attributes."""
    wanted = attributes.items()
    return [one for one in found if one["name"] == name and wanted <= one["attributes"].items()]


async def one_trace(site: Site, topic: str, *names: str) -> list[dict[str, Any]]:
    """Return the `deliver` spans of a topic's one event, once all that lead to it are there too."""
    destination = {"messaging.destination.name": topic}

    def found() -> list[dict[str, Any]]:
        everything = spans(site)
        delivered = named("deliver", everything, **destination)
        for one in delivered:
            trace = one["context"]["trace_id"]
            mine = [it for it in everything if it["context"]["trace_id"] == trace]
            if {*names} <= {it["name"] for it in mine}:
                return delivered
        return []

    return await until(found, what=f"a trace over {names}")


def with_spans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what the environment of a traced site has."""
    return {"DJANGO_SETTINGS_MODULE": SETTINGS, "SPANS": str(tmp_path_factory.mktemp("spans"))}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Cluster]:
    """Run two web processes behind a bridge through Redis, and an outbox relay."""
    env = with_spans(tmp_path_factory)
    site = Cluster(tmp_path_factory.mktemp("traced") / "data", data_template, env)
    try:
        site.start(web=2, bridges=1, auth_workers=1)
        site.run("outbox").wait_for_line("outbox relay ready")
        yield site
    finally:
        site.close()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Gateway]:
    """Run everything in one process."""
    env = with_spans(tmp_path_factory)
    site = Gateway(tmp_path_factory.mktemp("single") / "data", data_template, env)
    try:
        site.start()
        yield site
    finally:
        site.close()


async def test_notify_and_its_deliveries_through_redis_are_one_trace(cluster: Cluster) -> None:
    token = cluster.token("bob")
    topic = "user.2.notifications"
    async with (
        cluster.client(token) as one,
        cluster.client(token) as two,
        cluster.client(token, 1) as other,
    ):
        for client in (one, two, other):
            await client.subscribe(topic)
        await asyncio.to_thread(manage, "notify", "bob", "hello", env=cluster.env)
        for client in (one, two, other):
            await client.expect("message", topic=topic)
        await one_trace(cluster, topic, "publish", "deliver")

        def both() -> bool:
            found = named("deliver", spans(cluster), **{"messaging.destination.name": topic})
            return sorted(one["attributes"]["gateway.deliveries"] for one in found) == [1, 2]

        await until(both, what="one span of each process, with how many got it")
    (published,) = named("publish", spans(cluster), **{"messaging.destination.name": topic})
    delivered = named("deliver", spans(cluster), **{"messaging.destination.name": topic})
    for span in delivered:
        assert span["context"]["trace_id"] == published["context"]["trace_id"]
        assert span["parent_id"] == published["context"]["span_id"]
        assert span["attributes"]["gateway.sequence"] > 0
        assert span["start_time"] <= span["end_time"]


async def test_outbox_goes_on_with_the_trace_of_the_transaction(cluster: Cluster) -> None:
    async with cluster.client(cluster.token("alice")) as client:
        await client.subscribe(TOPIC)
        await asyncio.to_thread(manage, "shell", "-c", IN_A_TRANSACTION, env=cluster.env)
        await client.expect("message", topic=TOPIC, data="by the outbox")
        await one_trace(cluster, TOPIC, "view", "publish", "deliver")
    (view,) = named("view", spans(cluster))
    (published,) = named("publish", spans(cluster), **{"messaging.destination.name": TOPIC})
    assert published["parent_id"] == view["context"]["span_id"]


@pytest.mark.parametrize("topic", ["room.traced", "live.prices.traced"])
async def test_client_that_publishes_begins_a_trace(single: Gateway, topic: str) -> None:
    await asyncio.to_thread(add_rules, single, [("allow", "publish", topic)])
    async with single.client(single.token("alice")) as client:
        await client.subscribe(topic)
        await client.publish(topic, "over the socket")
        message = await client.expect("message", topic=topic)
        assert "trace" not in json.dumps(message).replace(topic, "")
        (span,) = await one_trace(single, topic, "publish", "deliver")
    assert span["attributes"]["gateway.deliveries"] == 1


async def test_publish_over_the_api_is_one_trace(single: Gateway) -> None:
    topic = "room.traced-api"
    request = urllib.request.Request(
        f"{single.url()}/api/publish/",
        json.dumps({"events": [{"topics": [topic], "data": 1}]}).encode(),
        {
            "Authorization": f"Bearer {single.token('admin')}",
            "Content-Type": "application/json",
        },
    )
    async with single.client(single.token("alice")) as client:
        await client.subscribe(topic)
        await asyncio.to_thread(urllib.request.urlopen, request, timeout=30)
        await client.expect("message", topic=topic)
        await one_trace(single, topic, "publish", "deliver")


async def test_event_of_a_plain_publisher_is_no_trace_unless_it_brings_one(
    single: Gateway,
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    header = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    plain, traced = "room.plain", "room.plain-traced"
    async with single.client(single.token("alice")) as client:
        await client.subscribe(plain)
        await client.subscribe(traced)
        async with connected(single.nats_url, name="plain") as broker:
            await broker.store(plain, b"1", headers=None, timeout=30)
            await broker.store(traced, b"2", headers=header, timeout=30)
        await client.expect("message", topic=traced)
        (span,) = await one_trace(single, traced, "deliver")
    assert span["context"]["trace_id"] == f"0x{trace_id}"
    assert named("deliver", spans(single), **{"messaging.destination.name": plain}) == []


async def test_question_to_the_backend_carries_the_trace(single: Gateway) -> None:
    asked: list[Message] = []

    async def note(message: Message) -> None:
        asked.append(message)

    async with connected(single.nats_url, name="spy") as spy:
        await spy.subscribe("gateway.auth", note)
        await spy.flush()
        async with single.client(single.token("alice")):
            await until(lambda: any(one.headers for one in asked), what="a question")

    def known() -> bool:
        ids = {one["context"]["trace_id"][2:] for one in named("authenticate", spans(single))}
        sent = [one.headers["traceparent"] for one in asked if one.headers]
        return all(one.split("-")[1] in ids for one in sent)

    await until(known, what="the spans of the questions")


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Trace in this process, for one test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    return exporter


def test_delivered_makes_one_span_an_event_whatever_the_sockets(
    exported: InMemorySpanExporter,
) -> None:
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    event = ephemeral_event("room.a", b"1", {}, message_id="m", timestamp=1)
    tracing.delivered([event, tracing.carrying(event, headers)], 500)
    (span,) = exported.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["gateway.deliveries"] == 500


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{'b' * 16}-01", "é" * 60])
def test_trace_context_that_is_none_harms_nothing(
    exported: InMemorySpanExporter, header: str
) -> None:
    event = ephemeral_event("room.a", b"1", {}, message_id="m", timestamp=1)
    tracing.delivered([tracing.carrying(event, {"traceparent": header})], 1)
    with tracing.continuing(header), tracing.sending("publish", "room.a", None) as headers:
        assert headers is not None
        assert len(headers["traceparent"]) == 55


def test_without_tracing_headers_are_what_they_were() -> None:
    assert tracing.tracer is None
    given = {"Nats-Msg-Id": "1"}
    with tracing.continuing("00-a-b-01"), tracing.sending("publish", "room.a", given) as headers:
        assert headers is given
    assert tracing.current() == ""
