"""The client on the real gateway: what the scripted one can only claim."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial

import pytest

from realtime.broker import Broker, connected
from realtime.client import (
    Backoff,
    Denied,
    GatewayClient,
    LoginFailed,
    PresenceChange,
    Refused,
    Timing,
    fetch_token,
    log_in,
)
from realtime.nats_client import Message

from ..support.gateways import Gateway
from ..support.proxy import Proxy
from ..support.waiting import DEADLINE, until


def client_of(site: Gateway, user: str = "alice", url: str = "") -> GatewayClient:
    return GatewayClient(
        url or site.ws_url(),
        token=site.token(user),
        backoff=Backoff(base=0.05, cap=0.2),
        timing=Timing(connect=60, reply=60, close=0.5),
    )


def room() -> str:
    return f"room.{uuid.uuid4().hex}"


async def test_published_events_reach_a_subscriber_in_order(live):
    topic = room()
    async with client_of(live) as alice, client_of(live, "bob") as bob:
        messages = await bob.subscribe(topic)
        done = [await alice.publish(topic, {"n": n}) for n in range(20)]
        got = [await messages.get(DEADLINE) for _ in range(20)]
        assert [one.data for one in got] == [{"n": n} for n in range(20)]
        assert [one.seq_no for one in got] == [one.seq_no for one in done]


async def test_same_message_id_is_stored_once(live):
    topic = room()
    async with client_of(live) as alice:
        first = await alice.publish(topic, 1, message_id=topic)
        again = await alice.publish(topic, 1, message_id=topic)
        assert (again.duplicate, again.seq_no) == (True, first.seq_no)
        assert [one.data for one in await alice.history(topic)] == [1]


async def test_resets_of_the_network_lose_and_repeat_nothing(live):
    topic = room()
    async with Proxy(live.ports[0]) as proxy, client_of(live, "bob") as bob:
        alice = client_of(live, url=f"ws://127.0.0.1:{proxy.port}/ws/")
        await alice.connect()
        messages = await alice.subscribe(topic)
        got = []
        for n in range(60):
            await bob.publish(topic, n)
            if n % 20 == 10:
                proxy.abort()
        while len(got) < 60:
            got.append((await messages.get(DEADLINE)).data)
        assert got == list(range(60))
        assert proxy.accepted > 1
        await alice.close()


async def test_publishes_over_resets_are_stored_once(live):
    topic = room()
    async with Proxy(live.ports[0]) as proxy:
        alice = client_of(live, url=f"ws://127.0.0.1:{proxy.port}/ws/")
        await alice.connect()

        async def resets() -> None:
            pause = 0.005
            while True:
                await asyncio.sleep(pause)
                proxy.abort()
                # Until a busy machine, too, connects and publishes in between.
                pause *= 1.3

        resetting = asyncio.create_task(resets())
        confirmed = await asyncio.gather(*(alice.publish(topic, n) for n in range(40)))
        resetting.cancel()
        assert proxy.accepted > 1
        stored = await alice.history(topic, limit=100)
        assert sorted(one.data for one in stored) == list(range(40))
        assert len({one.seq_no for one in confirmed}) == 40
        await alice.close()


async def test_since_brings_what_was_missed(live):
    topic = room()
    async with client_of(live) as alice:
        sequences = [(await alice.publish(topic, n)).seq_no for n in range(4)]
        messages = await alice.subscribe(topic, since=sequences[1])
        assert [(await messages.get(DEADLINE)).data for _ in range(2)] == [2, 3]


async def test_small_queue_gets_everything_in_the_end(live):
    topic = room()
    async with client_of(live) as alice, client_of(live, "bob") as bob:
        messages = await alice.subscribe(topic, queue=5)
        await asyncio.gather(*(bob.publish(topic, n) for n in range(100)))
        got = [await messages.get(DEADLINE) for _ in range(100)]
        assert sorted(one.data for one in got) == list(range(100))
        sequences = [one.seq_no for one in got]
        assert sequences == sorted(set(sequences))


async def test_durable_position_is_gone_on_from(live):
    topic = room()
    async with client_of(live) as alice:
        messages = await alice.subscribe(topic, durable="test", ack="manual")
        for n in range(3):
            await alice.publish(topic, n)
        messages.ack(await messages.get(DEADLINE))
        # The position is written within half a second of the `ack`.
        await alice.unsubscribe(topic)

    async def resumed() -> list[int]:
        async with client_of(live) as again:
            messages = await again.subscribe(topic, durable="test", ack="manual")
            return [(await messages.get(DEADLINE)).data for _ in range(2)]

    await until(lambda: _equals(resumed, [1, 2]))


async def _equals(call, wanted) -> bool:
    return await call() == wanted


async def test_bytes_of_a_backend_come_as_bytes(live):
    topic = room()
    async with client_of(live) as alice, connected(live.nats_url, name="test") as broker:
        messages = await alice.subscribe(topic)
        await broker.publish(topic, b"\xff\x00")
        assert (await messages.get(DEADLINE)).data == b"\xff\x00"


async def test_request_is_answered_by_a_backend(live):
    async with client_of(live) as alice, connected(live.nats_url, name="test") as broker:
        await serve(broker, "rpc.echo")
        assert await alice.request("rpc.echo", [1, {"a": None}]) == [1, {"a": None}]
        with pytest.raises(Refused) as refused:
            await alice.request("rpc.nobody")
        assert refused.value.code == "NO_RESPONDER"


async def serve(broker: Broker, subject: str) -> None:
    async def answer(message: Message) -> None:
        await broker.publish(message.reply, message.data)

    await broker.subscribe(subject, answer)
    await broker.flush(DEADLINE)


async def test_presence_names_who_is_there(live):
    topic = room()
    async with client_of(live) as alice:
        await alice.subscribe(topic)

        async def named() -> bool:
            # An answer that comes too late is left out.
            present = await alice.presence(topic)
            return [(one["userId"], one["connections"]) for one in present] == [me]

        me = (alice.session.user_id, 1)
        await until(named)


async def test_refresh_gives_the_session_a_new_end(live):
    async with client_of(live) as alice:
        before = alice.session
        session = await alice.refresh(live.token("alice", "--lifetime", "7200"))
        assert session.user_id == before.user_id
        assert session.expires_at > before.expires_at


async def test_no_rule_refuses_a_topic(live):
    async with client_of(live) as alice:
        with pytest.raises(Refused) as refused:
            await alice.subscribe("user.0.notifications")
        assert refused.value.code == "ACL_DENIED"


async def test_bad_token_denies(live):
    with pytest.raises(Denied) as denied:
        async with GatewayClient(live.ws_url(), token="no.such.token"):
            pass
    assert denied.value.close_code == 4500


async def test_log_in_by_the_form_opens_a_session(live):
    headers = await log_in(live.ws_url(), "alice", "alice")
    async with GatewayClient(live.ws_url(), headers=headers) as by_form, client_of(live) as alice:
        assert by_form.session.user_id == alice.session.user_id


async def test_token_endpoint_gives_what_opens_a_session(live):
    token = partial(fetch_token, live.ws_url(), "alice", "alice")
    async with GatewayClient(live.ws_url(), token=token) as fetched, client_of(live) as alice:
        assert fetched.session.user_id == alice.session.user_id


async def test_log_in_with_a_wrong_password_is_refused(live):
    with pytest.raises(LoginFailed, match="refused the username or password"):
        await log_in(live.ws_url(), "alice", "wrong")


async def test_cookie_from_another_site_is_denied(live):
    headers = await log_in(live.ws_url(), "alice", "alice")
    client = GatewayClient(live.ws_url(), headers={**headers, "Origin": "https://evil.example"})
    with pytest.raises(Denied, match="HTTP 403"):
        await client.connect()
    await client.close()


async def test_who_comes_and_leaves_is_told(live):
    topic = room()
    present: set[str] = set()

    def take(change: PresenceChange) -> None:
        present.update(one["userId"] for one in change.joined)
        present.difference_update(change.left)

    async with client_of(live) as alice:
        await alice.subscribe(topic, on_presence=take)
        present.update(one["userId"] for one in await alice.presence(topic))
        before = set(present)
        async with client_of(live, "bob") as bob:
            await bob.subscribe(topic)
            await until(lambda: len(present) == 2, what="bob's coming")
            assert present - before == {bob.session.user_id}
        await until(lambda: present == before, what="bob's leaving")
