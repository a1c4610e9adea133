"""The connection of the client: it comes back, or not, and says so."""

from __future__ import annotations

import asyncio
import json

import pytest

from realtime.client import Closed, Denied, Disconnected, GatewayClient, LoginFailed, NoAnswer
from realtime.client.options import Timing

from ..support.ports import free_port
from ..support.proxy import Proxy
from ..support.waiting import DEADLINE, until
from .conftest import TIMING


async def test_connect_sends_the_token_in_the_first_frame(scripted, fake):
    one = scripted(token="secret")
    one.client.start()
    peer = await one.accept()
    assert await one.expect(peer, "connect") == {"type": "connect", "token": "secret"}


async def test_connect_returns_the_session(scripted):
    one = scripted()
    await one.open(userId="9", expiresAt=12.5)
    assert one.client.session.user_id == "9"
    assert one.client.session.expires_at == 12.5
    assert one.states == ["connecting", "open"]


@pytest.mark.parametrize("code", [1000, 1006, 1011, 4000, 4001, 4003, 4499])
async def test_close_that_may_pass_is_come_back_from(scripted, code):
    one = scripted()
    peer = await one.open()
    await asyncio.to_thread(peer.drop if code == 1006 else lambda: peer.close(code))
    await one.ready()
    await until(lambda: one.client.state.name == "open")
    assert one.states == ["connecting", "open", "reconnecting", "open"]


async def test_denial_ends_connect_whatever_else_still_runs(scripted):
    one = scripted(timing=Timing(connect=60, again=60, close=0.5))
    peer = await one.open()
    await one.client.subscribe("room.a", wait=False)
    frame = await one.expect(peer, "subscribe")
    peer.send("error", id=frame["id"], code="UNAVAILABLE", message="Later.", topic="room.a")
    await asyncio.to_thread(peer.close, 4000)
    await until(lambda: one.client.state.name == "reconnecting")
    connecting = asyncio.create_task(one.client.connect())
    peer = await one.accept()
    await asyncio.to_thread(peer.close, 4500)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Denied):
            await connecting


@pytest.mark.parametrize("code", [4500, 4502, 4999])
async def test_close_for_good_denies_everything_that_is_open(scripted, code):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, "room.a")
    asking = asyncio.create_task(one.client.history("room.a"))
    publishing = asyncio.create_task(one.client.publish("room.a", 1))
    await one.expect(peer, "history")
    peer.send("error", code="AUTH_FAILED", message="Get another token.")
    await asyncio.to_thread(peer.close, code)
    for work in (asking, publishing, one.client.publish("room.a", 2)):
        with pytest.raises((Denied, Disconnected)):
            await work
    with pytest.raises(Denied, match=r"Get another token\.") as denied:
        await messages.get(DEADLINE)
    assert denied.value.close_code == code
    assert one.client.state.name == "denied"
    assert one.fake.attempts == 1


async def test_connect_after_a_denial_tries_again(scripted):
    one = scripted()
    peer = await one.open()
    await asyncio.to_thread(peer.close, 4502)
    await until(lambda: one.client.state.name == "denied")
    await one.open()
    assert one.fake.attempts == 2


async def test_reconnect_frame_waits_as_long_as_it_says(scripted):
    one = scripted()
    peer = await one.open()
    peer.send("reconnect", afterMs=30, reason="drain")
    await one.ready()
    await until(lambda: one.client.state.name == "open")
    assert one.states[2] == "reconnecting"
    assert peer.closed.wait(DEADLINE)


async def test_upgrade_refused_for_now_is_tried_again(scripted, fake):
    fake.refusing = True
    one = scripted()
    one.client.start()
    await until(lambda: fake.attempts >= 3)
    fake.refusing = False
    await one.ready()
    await one.client.connect()


async def test_connect_nobody_there_says_so_in_time_and_goes_on():
    url = f"ws://127.0.0.1:{free_port()}/ws/"
    client = GatewayClient(url, token="t", timing=Timing(connect=0.3))
    with pytest.raises(NoAnswer, match=r"not reached within 0\.3 s"):
        await client.connect()
    assert client.state.name in ("connecting", "reconnecting")
    await client.close()
    assert client.state.name == "closed"


async def test_gateway_that_never_says_ready_is_given_up(scripted):
    one = scripted(timing=Timing(connect=1, close=0.2))
    one.client.start()
    for _ in range(2):
        await one.accept()
    assert "reconnecting" in one.states


async def test_black_hole_is_noticed_by_the_heartbeat(scripted, fake):
    port = int(fake.url.rsplit(":", 1)[1].strip("/"))
    states = []
    async with Proxy(port) as proxy:
        client = GatewayClient(
            f"ws://127.0.0.1:{proxy.port}",
            token="t",
            timing=Timing(heartbeat=2, close=0.2),
            on_state=lambda state: states.append(state.name),
        )
        client.start()
        await asyncio.to_thread(fake.ready)
        await client.connect()
        proxy.black_hole()
        await until(lambda: "reconnecting" in states)
        await client.close()


async def test_token_function_is_asked_before_every_connection(scripted):
    tokens = iter(["one", "two"])
    one = scripted(token=lambda: next(tokens))
    one.client.start()
    peer = await one.accept()
    assert (await one.expect(peer, "connect"))["token"] == "one"
    peer.drop()
    peer = await one.accept()
    assert (await one.expect(peer, "connect"))["token"] == "two"


async def test_token_function_that_fails_is_asked_again(scripted):
    calls = []

    async def token() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise OSError("the token service is away")
        return "late"

    one = scripted(token=token)
    await one.open()
    assert len(calls) == 3


async def test_token_function_that_is_refused_denies(scripted, fake):
    def token() -> str:
        raise LoginFailed("Wrong password.")

    one = scripted(token=token)
    with pytest.raises(Denied, match=r"Wrong password\."):
        await one.client.connect()
    assert fake.attempts == 0


async def test_expiring_refreshes_with_a_new_token(scripted):
    tokens = iter(["one", "two"])
    one = scripted(token=lambda: next(tokens))
    peer = await one.open()
    peer.send("expiring", expiresAt=1.0)
    frame = await one.expect(peer, "refresh")
    assert frame["token"] == "two"
    peer.ready(id=frame["id"], sessionId="new")
    await until(lambda: one.client.session.session_id == "new")


async def test_frames_that_are_not_known_are_ignored(scripted):
    one = scripted()
    peer = await one.open()
    for text in ("", "{", "[]", '{"type":"later"}', json.dumps({"type": "message"})):
        peer.send_text(text)
    asking = asyncio.create_task(one.client.presence("room.a"))
    frame = await one.expect(peer, "presence")
    peer.send("reply", id=frame["id"], data=[{"userId": "1"}])
    assert await asking == [{"userId": "1"}]


async def test_close_ends_iterations_and_refuses_what_is_open(scripted):
    one = scripted()
    peer = await one.open()
    messages = await one.subscribe(peer, "room.a")
    reading = asyncio.create_task(anext(messages, None))
    asking = asyncio.create_task(one.client.request("rpc.x"))
    await one.expect(peer, "request")
    await one.client.close()
    assert await reading is None
    with pytest.raises((Closed, Disconnected)):
        await asking
    assert await asyncio.to_thread(peer.closed.wait, DEADLINE)
    with pytest.raises(Closed):
        await one.client.publish("room.a", 1)


async def test_closed_client_can_connect_again(scripted):
    one = scripted()
    await one.open()
    await one.client.close()
    await one.open()
    assert one.client.state.name == "open"


async def test_state_callback_that_fails_is_logged_and_does_no_harm(fake, caplog):
    def fail(state: object) -> None:
        raise RuntimeError("a bug of the application")

    client = GatewayClient(fake.url, token="t", timing=TIMING, on_state=fail)
    client.start()
    await asyncio.to_thread(fake.ready)
    await client.connect()
    await client.close()
    assert "a bug of the application" in caplog.text
