"""`/metrics`: what is counted, who may read it, and one answer for all workers on a port."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from realtime.embedded import NatsServer
from realtime.metrics import LATENCY_BOUNDS, Histogram

from .conftest import StartGateway
from .support.client import TestClient
from .support.ports import free_port
from .support.processes import ManageProcess
from .support.waiting import DEADLINE, until, wait_until

Sample = Callable[..., float]


def scrape(url: str, token: str = "") -> Sample:
    """Return a function that says what the samples of a name and its labels add up to."""
    request = urllib.request.Request(f"{url}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=DEADLINE) as response:
        families = list(text_string_to_metric_families(response.read().decode()))

    def value(name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"gateway_{name}" and labels.items() <= sample.labels.items()
        )

    return value


def status(url: str, token: str = "", **headers: str) -> int:
    """Return the HTTP status of a scrape."""
    try:
        scrape(url, token)
    except urllib.error.HTTPError as exc:
        return exc.code
    return 200


@given(st.lists(st.floats(0, 20), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    rank = max(int(-(-share * len(values) // 1)), 1)
    true = sorted(values)[rank - 1]
    found = histogram.quantile(share)
    assert found is not None
    bounds = [0.0, *LATENCY_BOUNDS]
    above = next((bound for bound in LATENCY_BOUNDS if true <= bound), LATENCY_BOUNDS[-1])
    below = bounds[bounds.index(above) - 1]
    assert below <= found <= above


def test_histograms_of_two_processes_add_up() -> None:
    one, other = Histogram(), Histogram()
    one.observe(0.002, 3)
    other.observe(30.0)
    one.add(other)
    assert (one.count, one.total) == (4, pytest.approx(30.006))
    assert one.quantile(0.5) == pytest.approx(0.002, abs=0.001)
    assert Histogram().quantile(0.5) is None


async def test_metrics_tell_what_passed_through(gateway: StartGateway) -> None:
    site = gateway(REALTIME_CANARY_SECONDS="0.2")
    async with site.client(site.token("alice")) as alice, site.client(site.token("bob")) as bob:
        for client in (alice, bob):
            await client.subscribe("room.lobby")
        for _ in range(3):
            await alice.publish("room.lobby", "hello", message_id="same")
        await bob.expect("message", topic="room.lobby")
        await alice.error("subscribe", topic="user.999.notifications")
        await until(lambda: scrape(site.url())("canary_seconds") > 0, what="the canary")
        value = scrape(site.url())
        assert value("connections") == value("sessions", state="authenticated") == 2
        assert value("users") == 2
        assert value("subscriptions") >= 2
        assert value("published_total", outcome="ok") == 1
        assert value("published_total", outcome="duplicate") == 2
        assert value("deliveries_total") >= 2
        assert value("delivery_latency_seconds_count") >= 2
        assert value("auth_total", outcome="accepted") == 2
        assert value("auth_seconds_count") >= 2
        assert value("errors_total", code="ACL_DENIED") == 1
        await until(lambda: scrape(site.url())("loop_lag_seconds_count") > 0, what="a look")
        assert value("nats") == 1
        assert value("canary_failures_total") == 0
        assert value("memory_bytes") > 10_000_000
    await until(lambda: scrape(site.url())("connections") == 0, what="the sockets to go")


def test_metrics_with_a_token_want_it(gateway: StartGateway) -> None:
    site = gateway(REALTIME_METRICS_TOKEN="secret")
    assert status(site.url()) == 404
    assert status(site.url(), "wrong") == 404
    assert scrape(site.url(), "secret")("nats") == 1


def test_metrics_show_every_worker_on_the_port(data_dir: Path, nats_server: NatsServer) -> None:
    port = free_port()
    env = {"DATA_DIR": str(data_dir), "NATS_URL": nats_server.url, "REDIS_URL": ""}
    serve = ManageProcess(
        ["serve", "--workers", "3", "--port", str(port)], env, log=data_dir / "serve.log"
    )
    serve.start()
    try:
        url = f"http://127.0.0.1:{port}"
        serve.wait_http(f"{url}/healthz")
        wait_until(lambda: scrape(url)("nats") == 3, what="three workers in one answer")
    finally:
        serve.stop()


# Limits on connections, each with its counter.


async def refusal(site_url: str) -> int:
    """Return the HTTP status with which an upgrade is refused, 101 when it is not."""
    from websockets.exceptions import InvalidStatus

    try:
        async with TestClient(site_url, connect=False):
            return 101
    except InvalidStatus as exc:
        return exc.response.status_code


async def test_connections_over_the_limit_of_the_process_are_refused(
    gateway: StartGateway,
) -> None:
    site = gateway(REALTIME_MAX_CONNECTIONS="2")
    token = site.token("alice")
    async with site.client(token), site.client(token):
        assert await refusal(site.ws_url()) == 503
        assert scrape(site.url())("refused_total", reason="total") == 1
    await until(lambda: scrape(site.url())("connections") == 0)
    async with site.client(token):
        pass


async def test_connections_over_the_limit_of_an_address_are_refused_for_that_one(
    gateway: StartGateway,
) -> None:
    site = gateway(REALTIME_MAX_CONNECTIONS_PER_ADDRESS="1", FORWARDED_HEADER="X-Forwarded-For")
    url = site.ws_url()

    def from_address(address: str) -> TestClient:
        return TestClient(url, connect=False, headers={"X-Forwarded-For": address})

    async with from_address("192.0.2.1"), from_address("192.0.2.2"):
        with pytest.raises(Exception, match="429"):
            async with from_address("192.0.2.1"):
                pass
        assert scrape(site.url())("refused_total", reason="address") == 1


async def test_sessions_over_the_limit_of_a_user_are_closed(gateway: StartGateway) -> None:
    site = gateway(REALTIME_MAX_CONNECTIONS_PER_USER="1")
    token = site.token("alice")
    async with site.client(token), TestClient(site.ws_url(), connect=False) as second:
        await second.send("connect", token=token)
        await second.expect_close(4504)
        async with site.client(site.token("bob")):
            pass
        assert scrape(site.url())("refused_total", reason="user") == 1


async def test_pongs_in_a_flood_are_closed(gateway: StartGateway) -> None:
    site = gateway()
    async with site.client(site.token("alice")) as client:
        client.send_raw(b"\x8a\x80\0\0\0\0" * 600)
        await client.expect_close(4503)
        await until(lambda: scrape(site.url())("closes_total", code="4503") == 1)


async def test_bytes_in_a_flood_are_dropped_and_told(gateway: StartGateway) -> None:
    site = gateway(REALTIME_BYTE_BURST="50000", REALTIME_BYTE_RATE="1000")
    async with site.client(site.token("alice")) as client:
        payload = "x" * 40_000
        await client.publish("room.lobby", payload)
        error = await client.error("publish", topic="room.lobby", messageId="2", payload=payload)
        assert error["code"] == "RATE_LIMITED"
        assert error["messageId"] == "2"
