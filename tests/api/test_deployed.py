"""The API with the rights that deploy/nats/nats.conf gives to web processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.nats_server import Server, nats_server
from tests.integration.support import ALICE, new_topic
from tests.support.gateways import PATIENT, Site
from tests.support.ports import free_port
from tests.support.waiting import until

from .support import Api, event


class Deployed(Site):
    """Two web processes and an auth worker, each with its own NATS user."""

    def __init__(self, data_dir: Path, template: Path, server: Server) -> None:
        super().__init__(data_dir, template, PATIENT)
        self._server = server

    def start(self) -> None:
        """Start them and return when they serve."""
        self.run_as("auth", "auth_worker")
        for _ in range(2):
            self.ports.append(free_port())
            self.run_as("gateway", "serve", "--port", str(self.ports[-1]))
        for process, port in zip(self.processes[1:], self.ports, strict=True):
            process.wait_http(f"http://127.0.0.1:{port}/readyz")
        self.processes[0].wait_for_line("auth worker ready")

    def run_as(self, user: str, *args: str) -> None:
        """Start a command as one of the users of nats.conf."""
        before = dict(self.env)
        self.env |= {"NATS_URL": self._server.url(user), "NATS_INBOX_PREFIX": f"_INBOX_{user}"}
        self.run(*args)
        self.env = before


@pytest.fixture
def deployed(tmp_path: Path, data_dir: Path, data_template: Path) -> Iterator[Deployed]:
    with nats_server(tmp_path) as server:
        site = Deployed(data_dir, data_template, server)
        try:
            site.start()
            yield site
        finally:
            site.close()


def connections(api: Api, topic: str) -> list[int]:
    """Return how many connections each user has who is on a topic."""
    members = api.get(f"topics/{topic}/presence/").body["members"]
    return [member["connections"] for member in members]


def sessions_and_topics(api: Api) -> list[Any]:
    """Return what the statistics have of the sessions of each process, and of topics."""
    stats = api.get("stats/").body
    return [[process["sessions"] for process in stats["processes"]], stats["topics"]]


async def test_every_operation_has_the_rights_it_needs(deployed: Deployed):
    admin = Api.bearer(deployed.ports[0], deployed.token("admin"))
    alice = Api.bearer(deployed.ports[1], deployed.token("alice"))
    room = new_topic()
    token = deployed.token("alice")
    async with deployed.client(token, 0) as one, deployed.client(token, 1) as other:
        await one.subscribe(room)
        await other.subscribe(room)
        published = admin.post("publish/", {"events": [event(topics=[room], users=[ALICE])]})
        assert published.status == 200, published.body
        assert len(alice.get(f"topics/{room}/history/").body["results"]) == 1
        # Web processes have a quarter of a second to answer these two.
        await until(lambda: connections(alice, room) == [2], what="both sockets")
        both = [[1, 1], [{"topic": room, "subscriptions": 2}]]
        await until(lambda: sessions_and_topics(admin) == both, what="both processes")
        sequence = published.body["results"][1]["seqNo"]
        assert alice.post("me/notifications/", {"seqNo": sequence}).body["unread"] == 0
        assert admin.post(f"users/{ALICE}/unsubscribe/", {"topic": room}).status == 202
        await one.expect("unsubscribed", topic=room)
        await other.expect("unsubscribed", topic=room)
        assert admin.post(f"users/{ALICE}/disconnect/").status == 202
        await one.expect_close(4502)
        await other.expect_close(4502)
    assert not any(process.find("permissions") for process in deployed.processes)
