"""The gateways that tests start: in one process, and in many."""

from __future__ import annotations

from .conftest import StartCluster, StartGateway
from .support.client import TestClient
from .support.processes import manage


async def test_gateway_started_lets_alice_in(gateway: StartGateway) -> None:
    site = gateway()
    async with site.client(site.token("alice")) as client:
        assert client.ready["userId"]


async def test_gateway_fresh_data_directory_is_filled(gateway: StartGateway) -> None:
    site = gateway(fresh=True)
    assert (site.data_dir / "db.sqlite3").exists()
    async with TestClient(site.ws_url(), connect=False) as client:
        await client.error("ping")


async def test_cluster_two_web_processes_share_what_is_published(
    cluster_of_processes: StartCluster,
) -> None:
    site = cluster_of_processes(web=2, bridges=1, auth_workers=1)
    alice, bob = site.token("alice"), site.token("bob")
    async with site.client(alice, 0) as one, site.client(bob, 1) as other:
        await other.subscribe("room.1")
        ack = await one.publish("room.1", {"text": "hi"})
        message = await other.expect("message", topic="room.1")
        assert (message["seqNo"], message["data"]) == (ack["seqNo"], {"text": "hi"})
        assert site.listening("gateway.auth") == 1


def test_manage_on_a_site_reaches_its_data(gateway: StartGateway) -> None:
    site = gateway()
    counted = "from django.contrib.auth.models import User; print(User.objects.count())"
    assert int(manage("shell", "-v", "0", "-c", counted, env=site.env)) == 3
