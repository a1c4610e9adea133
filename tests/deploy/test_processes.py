"""The project's own processes do their work with the rights that deploy/nats/nats.conf gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateways import Site
from tests.support.ports import free_port
from tests.support.processes import ManageProcess
from tests.support.redis import RedisServer

from .nats_server import DEADLINE, Server, connected, nats_server

pytestmark = pytest.mark.asyncio


class Deployment(Site):
    """Two web processes and one of each other kind, each as its own NATS user."""

    def __init__(self, data_dir: Path, template: Path, nats: Server, redis: RedisServer) -> None:
        patient = {"REALTIME_AUTH_TIMEOUT": str(DEADLINE)}
        super().__init__(data_dir, template, {"REDIS_URL": redis.url, **patient})
        self.ports = [free_port(), free_port()]
        for port in self.ports:
            self.run_as("gateway", nats, "serve", "--port", str(port))
        self.run_as("bridge", nats, "runworker", "nats_bridge")
        self.run_as("auth", nats, "auth_worker")
        self.run_as("backend", nats, "outbox")
        web, others = self.processes[:2], self.processes[2:]
        ready = ("bridge connected", "auth worker ready", "outbox relay ready")
        for process, line in zip(others, ready, strict=True):
            process.wait_for_line(line, 60)
        for process, port in zip(web, self.ports, strict=True):
            # Listening is not enough: it may not have reached NATS yet.
            process.wait_http(f"http://127.0.0.1:{port}/readyz", 60)

    def run_as(self, user: str, nats: Server, *args: str) -> None:
        """Start `manage.py ARGS` as a user of NATS."""
        env = {**self.env, "NATS_URL": nats.url(user), "NATS_INBOX_PREFIX": f"_INBOX_{user}"}
        log = self.data_dir / f"{len(self.processes)}-{args[0]}.log"
        self.processes.append(ManageProcess(args, env, log=log))
        self.processes[-1].start()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Server]:
    """A server with deploy/nats/nats.conf."""
    with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
def deployment(
    data_dir: Path, data_template: Path, nats: Server, redis_server: RedisServer
) -> Iterator[Deployment]:
    """Every process of the project once, the web process twice."""
    with ExitStack() as stack:
        running = Deployment(data_dir, data_template, nats, redis_server)
        stack.callback(running.close)
        yield running


async def test_event_of_the_backend_reaches_a_browser_and_nobody_oversteps_its_rights(
    deployment: Deployment, nats: Server, tmp_path: Path
) -> None:
    token = deployment.token("alice")
    async with (
        deployment.client(token, 0) as client,
        deployment.client(token, 1) as other,
        connected(nats, "backend") as backend,
    ):
        user = client.ready["userId"]
        topic = f"user.{user}.notifications"
        for one in (client, other):
            await one.ask("subscribe", "subscribed", topic=topic, timeout=DEADLINE)
        jetstream = backend.client.jetstream(timeout=DEADLINE)
        stored = await jetstream.publish(topic, json.dumps({"text": "hello"}).encode())
        for one in (client, other):
            message = await one.expect("message", timeout=DEADLINE)
            assert (message["seqNo"], message["data"]) == (stored.seq, {"text": "hello"})
        members = await client.ask("presence", "reply", topic=topic, timeout=DEADLINE)
        assert [member["userId"] for member in members["data"]] == [user]
        await backend.client.publish(f"gateway.control.user.{user}", b'{"action":"disconnect"}')
        for one in (client, other):
            await one.expect_close(4502, DEADLINE)
    for process in deployment.processes:
        process.stop()
    log = (tmp_path / "nats" / "log").read_text()
    assert [line for line in log.splitlines() if "Violation" in line] == []
