"""`/healthz` and `/readyz` of a web process, whatever happens round it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from realtime.broker import Broker, connected
from realtime.embedded import NatsServer
from realtime.nats_client import Message

from .support.client import TestClient
from .support.gateways import PATIENT
from .support.ports import free_port
from .support.processes import START, ManageProcess, freeze
from .support.waiting import DEADLINE, until, wait_until

READY = {
    "status": "ready",
    "started": True,
    "nats": True,
    "auth": True,
    "canary": True,
    "draining": False,
}
NATS_AWAY = READY | {"status": "unavailable", "nats": False, "auth": False}


class Answer(NamedTuple):
    """What an endpoint said."""

    status: int
    body: Any
    headers: http.client.HTTPMessage


class Web:
    """A web process with nothing but NATS."""

    def __init__(self, data_dir: Path, nats: NatsServer) -> None:
        self.nats = nats
        self.port = free_port()
        env = {
            **PATIENT,
            "DATA_DIR": str(data_dir),
            "NATS_URL": nats.url,
            "REDIS_URL": "",
            # The drain of a test ends with its socket.
            "REALTIME_DRAIN_SECONDS": str(DEADLINE),
        }
        self.process = ManageProcess(
            ["serve", "--port", str(self.port)], env, log=data_dir / "serve.log"
        )
        self.auth_worker = ManageProcess(["auth_worker"], env, log=data_dir / "auth_worker.log")

    def start(self) -> None:
        self.process.start()
        self.process.wait_http(f"http://127.0.0.1:{self.port}/healthz")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def ask(self, path: str, method: str = "GET") -> Answer:
        with contextlib.closing(self.connect()) as connection:
            return ask(connection, path, method)

    def wait_until_says(self, status: int, body: object) -> None:
        """Wait for an answer of `/readyz`; on a busy machine NATS may answer it too late."""

        def said() -> bool:
            answer = self.ask("/readyz")
            return (answer.status, answer.body) == (status, body)

        wait_until(said, START, what=f"{status} {body}")

    def wait_ready(self) -> None:
        self.wait_until_says(200, READY)


def ask(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> Answer:
    connection.request(method, path)
    response = connection.getresponse()
    text = response.read()
    body = json.loads(text) if response.headers.get_content_subtype() == "json" and text else None
    return Answer(response.status, body, response.headers)


@pytest.fixture
def make_web(
    data_dir: Path, nats_server: NatsServer, request: pytest.FixtureRequest
) -> Callable[[], Web]:
    """Return a function that starts a web process and returns when it answers."""

    def make() -> Web:
        web = Web(data_dir, nats_server)
        request.addfinalizer(web.process.kill)
        request.addfinalizer(web.auth_worker.kill)
        web.start()
        return web

    return make


@pytest.fixture
def web(make_web: Callable[[], Web]) -> Iterator[Web]:
    web = make_web()
    web.auth_worker.start()
    web.wait_ready()
    yield web


def test_both_when_serving_say_so_and_are_not_to_be_cached(web: Web) -> None:
    healthy, ready = web.ask("/healthz"), web.ask("/readyz")
    assert (healthy.status, healthy.body) == (200, {"status": "ok"})
    for answer in (healthy, ready):
        assert "no-store" in answer.headers["Cache-Control"]
    for path in ("/healthz", "/readyz"):
        # On a busy machine NATS may answer too late for one of them.
        wait_until(lambda path=path: web.ask(path, "HEAD").status == 200)
        assert web.ask(path, "HEAD").body is None


def test_ready_nats_away_is_503_until_it_is_back(web: Web) -> None:
    web.nats.kill()
    away = web.ask("/readyz")
    assert (away.status, away.body) == (503, NATS_AWAY)
    assert web.ask("/healthz").status == 200
    web.nats.start()
    web.wait_ready()


def test_ready_no_auth_worker_is_503_until_one_answers(make_web: Callable[[], Web]) -> None:
    web = make_web()
    web.wait_until_says(503, READY | {"status": "unavailable", "auth": False})
    web.auth_worker.start()
    web.wait_ready()


def test_ready_nats_frozen_is_503_while_it_is_frozen(web: Web) -> None:
    assert web.nats.pid is not None
    freeze(web.nats.pid)
    frozen = web.ask("/readyz")
    assert (frozen.status, frozen.body["nats"]) == (503, False)
    assert web.ask("/healthz").status == 200
    os.kill(web.nats.pid, signal.SIGCONT)
    web.wait_ready()


def test_ready_before_nats_is_503_and_healthy(
    make_web: Callable[[], Web], nats_server: NatsServer
) -> None:
    nats_server.kill()
    web = make_web()
    early = web.ask("/readyz")
    assert early.status == 503
    assert early.body == NATS_AWAY | {"started": False}
    nats_server.start()
    web.auth_worker.start()
    web.wait_ready()


async def let_in(broker: Broker) -> None:
    """Answer in an auth worker's place: everyone is user 7."""

    async def answer(message: Message) -> None:
        await broker.publish(message.reply, b'{"success": true, "user_id": "7"}')

    await broker.subscribe("gateway.auth", answer)
    await broker.flush()


async def test_ready_draining_is_503_for_who_is_connected_and_refused_for_others(
    make_web: Callable[[], Web],
) -> None:
    web = make_web()
    url = f"ws://127.0.0.1:{web.port}/ws/"
    async with (
        connected(web.nats.url, name="test") as broker,
        TestClient(url, connect=False, read=False) as stuck,
    ):
        await let_in(broker)
        await asyncio.to_thread(web.wait_ready)
        await stuck.send("connect", token="any")
        assert json.loads(await stuck.recv())["type"] == "ready"
        # It does not answer the close frame, and so keeps the process in its drain.
        await stuck.stop_reading()
        with contextlib.closing(web.connect()) as probe:
            probe.connect()
            await asyncio.to_thread(web.wait_ready)  # and so the probe is accepted, too
            web.process.terminate()
            await until(lambda: web.process.find("draining sockets="), what="the drain")
            answer = ask(probe, "/readyz")
        assert answer.status == 503
        assert answer.body == READY | {"status": "unavailable", "draining": True}

        def refused() -> bool:
            with contextlib.closing(web.connect()) as late:
                try:
                    late.connect()
                except ConnectionRefusedError:
                    return True
            return False

        await until(refused, what="new connections refused")
        stuck.abort()
    assert web.process.wait() == 0
