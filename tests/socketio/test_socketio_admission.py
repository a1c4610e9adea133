"""Who may come, and how long they may stay: cookies and origins, limits, expiry, drain."""

from __future__ import annotations

import asyncio

import pytest

from ..integration.support import log_in
from ..support.waiting import until
from .conftest import SOCKETIO
from .support import OPEN, NodeClient, Poller


async def test_cookie_of_this_site_is_a_credential(client, site):
    cookie = await asyncio.to_thread(log_in, site, "alice")
    headers = {"Cookie": cookie, "Origin": site.url()}
    async with client(auth={}, extraHeaders=headers) as alice:
        await alice.expect("connect")
        assert (await alice.frame("ready"))["userId"] == "1"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://u@127.0.0.1"]
)
async def test_cookie_from_a_foreign_page_is_refused(client, site, origin):
    cookie = await asyncio.to_thread(log_in, site, "alice")
    headers = {"Cookie": cookie, "Origin": origin}
    async with client(auth={}, extraHeaders=headers) as evil:
        await evil.expect("connect_error")
        assert not evil.all("connect")


async def test_cookie_without_a_word_on_its_origin_is_refused(client, site):
    cookie = await asyncio.to_thread(log_in, site, "alice")
    async with client(auth={}, extraHeaders={"Cookie": cookie}) as somebody:
        await somebody.expect("connect_error")


async def test_token_is_a_credential_from_any_page(client, site):
    async with client(extraHeaders={"Origin": "https://elsewhere.example"}) as alice:
        await alice.expect("connect")


def test_pages_of_allowed_origins_only_may_read_answers(poller, site):
    poller.headers = {"Origin": "https://evil.example"}
    assert "access-control-allow-origin" not in poller.ask("GET", OPEN)[2]
    status, _, headers = poller.ask("OPTIONS", OPEN)
    assert status == 204
    assert "access-control-allow-origin" not in headers


def test_allowed_origin_may_read_answers(gateway):
    site = gateway(**SOCKETIO, ALLOWED_ORIGINS="https://app.example")
    poller = Poller(site.url(), Origin="https://app.example")
    for method in ("GET", "OPTIONS"):
        headers = poller.ask(method, OPEN)[2]
        assert headers["access-control-allow-origin"] == "https://app.example"
        assert headers["access-control-allow-credentials"] == "true"


async def test_client_upgrades_from_polling_to_websocket(client, site):
    async with client(transports=["polling", "websocket"]) as alice:
        assert await alice.expect("upgrade") == ["websocket"]
        for number in range(50):
            await alice.emit("room.upgrade", number)
        assert (await alice.ask("ping"))["type"] == "pong"


async def connects(client: NodeClient) -> bool:
    async with client:
        await until(lambda: client.all("connect") or client.all("connect_error"))
        return bool(client.all("connect"))


async def test_session_counts_while_it_lasts(modules, gateway):
    site = gateway(**SOCKETIO, REALTIME_MAX_CONNECTIONS_PER_ADDRESS="1")
    token = site.token()

    def client(transport: str) -> NodeClient:
        return NodeClient(modules, site.url(), auth={"token": token}, transports=[transport])

    for transport in ("polling", "websocket", "polling"):

        async def takes_the_room(transport: str = transport) -> bool:
            async with client(transport) as alice:
                await until(lambda: alice.all("connect") or alice.all("connect_error"))
                if not alice.all("connect"):
                    return False  # the one before still counts
                assert not await connects(client("polling"))
                assert not await connects(client("websocket"))
                return True

        await until(takes_the_room, 90, what="a session that takes the room")


async def test_upgraded_session_counts_once(modules, gateway):
    site = gateway(**SOCKETIO, REALTIME_MAX_CONNECTIONS_PER_ADDRESS="2")
    options = {"auth": {"token": site.token()}}
    async with NodeClient(modules, site.url(), **options) as alice:
        await alice.expect("upgrade")
        assert (await alice.ask("ping"))["type"] == "pong"
        more = [NodeClient(modules, site.url(), transports=["polling"], **options) for _ in "12"]
        async with more[0] as second:
            await second.expect("connect")
            assert not await connects(more[1])


async def test_client_that_is_too_much_of_a_user_is_refused(modules, gateway):
    site = gateway(**SOCKETIO, REALTIME_MAX_CONNECTIONS_PER_USER="1")
    options = {"auth": {"token": site.token()}}
    async with NodeClient(modules, site.url(), **options) as alice:
        await alice.expect("connect")
        for transport in ("polling", "websocket"):
            async with NodeClient(modules, site.url(), transports=[transport], **options) as more:
                _, data, _ = await more.expect("connect_error")
                assert data["code"] == "TOO_MANY_CONNECTIONS"


async def test_session_of_an_expired_token_ends_and_its_client_tries_again(client, site):
    # As many seconds as the command may take to end and the client to start and connect.
    token = await asyncio.to_thread(site.token, "alice", "--lifetime", "15")
    async with client(auth={"token": token}, reconnection=True) as alice:
        await alice.expect("connect")
        await alice.frame("expiring")
        assert (await alice.frame("close"))["code"] == 4003
        reason, active = await alice.expect("disconnect")
        assert (reason, active) == ("transport close", True)
        await alice.expect("reconnect_attempt")


async def test_draining_process_sends_its_clients_away_to_come_back(modules, gateway):
    # It ends earlier, when they have gone: they may be slow to do so.
    site = gateway(**SOCKETIO, REALTIME_DRAIN_SECONDS="30")
    options = {"auth": {"token": site.token()}, "reconnection": True}
    clients = [
        NodeClient(modules, site.url(), transports=[one], **options)
        for one in ("polling", "websocket")
    ]
    async with clients[0] as polling, clients[1] as websocket:
        for client in (polling, websocket):
            await client.expect("connect")
        site.processes[0].terminate()
        for client in (polling, websocket):
            assert (await client.frame("reconnect"))["reason"] == "drain"
            assert (await client.frame("close"))["code"] == 4000
            reason, active = await client.expect("disconnect")
            assert active, reason
        assert await asyncio.to_thread(site.processes[0].wait, 60) == 0


async def test_backend_that_does_not_answer_lets_clients_try_again(modules, cluster_of_processes):
    site = cluster_of_processes(auth_workers=0, bridges=0, **SOCKETIO)
    for transport in ("polling", "websocket"):
        options = {"auth": {"token": site.token()}, "transports": [transport]}
        async with NodeClient(modules, site.url(), reconnection=True, **options) as alice:
            await alice.expect("reconnect_attempt")
            assert not alice.all("connect")
            assert all(active for _, _, active in alice.all("connect_error"))


def test_nobody_who_does_not_connect_may_stay(gateway):
    site = gateway(**SOCKETIO, REALTIME_AUTH_DEADLINE="0.5")
    poller = Poller(site.url())
    poller.open()
    status, text = poller.poll()
    assert (status, text) == (200, "1")
    assert poller.poll()[0] == 400


def test_nothing_is_there_unless_it_is_on(gateway):
    assert Poller(gateway().url()).ask("GET", OPEN)[0] == 404
