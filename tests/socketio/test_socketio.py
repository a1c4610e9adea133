"""The real socket.io-client on a running gateway, by both of its transports."""

from __future__ import annotations

import asyncio
import json
import os
import re
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from realtime.broker import connected
from realtime.nats_client import Message

from ..support.processes import manage
from ..support.waiting import until
from .support import NodeClient

DOC = Path(__file__).resolve().parents[2] / "docs" / "socketio.md"


def a_room() -> str:
    return f"room.{uuid.uuid4().hex}"


@asynccontextmanager
async def service(nats_url: str, subject: str, reply: bytes | None) -> AsyncIterator[list[Message]]:
    """Listen on a subject; answer requests with `reply`, None: with nothing."""
    got: list[Message] = []
    async with connected(nats_url, name="service") as broker:

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


async def test_client_authenticates_and_hears_inbound_names(client, site):
    async with client() as alice:
        await alice.expect("connect")
        ready = await alice.frame("ready")
        assert ready["userId"]
        await alice.frame("subscribed", topic="IN")
        await alice.frame("subscribed", topic="both")
        async with connected(site.nats_url, name="service") as broker:
            await broker.publish("IN", b'{"n": 1}')
            await broker.publish("IN", b"\xff")
        data, meta = await alice.expect("IN")
        assert data == {"n": 1}
        assert isinstance(meta["ts"], int)
        data, meta = await alice.expect("IN")
        assert (data, meta["encoding"]) == ("/w==", "base64")


async def test_emit_on_an_outbound_name_reaches_the_service_and_is_answered(client, site):
    async with client() as alice, service(site.nats_url, "OUT", None) as got:
        user = (await alice.frame("ready"))["userId"]
        answer = await alice.ask("OUT", {"n": [1, "ü", None]})
        assert (answer["type"], answer["status"]) == ("ack", "ok")
        await until(lambda: got)
        assert json.loads(got[0].data) == {"n": [1, "ü", None]}
        assert got[0].headers["Gateway-User"] == user
        await alice.emit("OUT")
        await alice.emit("OUT", 1, 2)
        await until(lambda: len(got) == 3)
        assert [json.loads(one.data) for one in got[1:]] == [None, [1, 2]]


async def test_request_brings_the_reply_and_tells_failures_apart(client, site):
    async with client() as alice:
        answer = await alice.ask("request", "OUT", {"n": 1})
        assert answer["code"] == "NO_RESPONDER"
        async with service(site.nats_url, "OUT", None):
            answer = await alice.ask("request", {"topic": "OUT", "payload": 1, "timeout": 0.2})
            assert answer["code"] == "TIMEOUT"
        async with service(site.nats_url, "OUT", b'{"ok": true}'):
            answer = await alice.ask("request", "OUT", 1)
            assert answer == {"type": "reply", "data": {"ok": True}}


async def test_topics_are_those_of_every_other_client(client, site):
    room = a_room()
    async with client() as alice, site.client(site.token("bob")) as bob:
        subscribed = await alice.ask("subscribe", room)
        assert (subscribed["type"], subscribed["seqNo"]) == ("subscribed", 0)
        await bob.subscribe(room)
        sequence = (await bob.publish(room, {"from": "bob"}, message_id=f"{room}.1"))["seqNo"]
        data, meta = await alice.expect(room)
        assert data == {"from": "bob"}
        assert (meta["seqNo"], meta["messageId"]) == (sequence, f"{room}.1")
        answer = await alice.ask(room, "from alice")
        assert answer["status"] == "ok"
        message = await bob.expect("message", messageId=answer["messageId"])
        assert message["data"] == "from alice"
        assert len((await alice.ask("history", room))["data"]) == 2
        assert (await alice.ask("unsubscribe", room))["type"] == "unsubscribed"


async def test_many_events_come_in_order_and_once(client, site):
    room = a_room()
    async with client() as alice, site.client(site.token("bob")) as bob:
        await alice.ask("subscribe", room)
        await asyncio.gather(*(bob.publish(room, number) for number in range(300)))
        await until(lambda: len(alice.all(room)) >= 300)
        sequences = [meta["seqNo"] for _, meta in alice.all(room)]
        assert sequences == sorted(set(sequences))
        for number in range(100):
            await alice.emit(room, ["from alice", number])
        await until(lambda: len(alice.all(room)) == 400)
        sent = [data[1] for data, _ in alice.all(room)[300:]]
        assert sent == list(range(100))


async def test_client_that_comes_back_gets_what_it_missed(client, site):
    room = a_room()
    async with client() as alice, site.client(site.token("bob")) as bob:
        session = (await alice.frame("ready"))["sessionId"]
        await alice.ask("subscribe", room)
        await bob.publish(room, 1)
        _, meta = await alice.expect(room)
        await bob.publish(room, 2)
    auth = {"token": site.token(), "sessionId": session, "lastSeqPerTopic": {room: meta["seqNo"]}}
    async with client(auth=auth) as again:
        assert (await again.frame("resumed"))["topics"][room]["recovered"]
        assert (await again.expect(room))[0] == 2


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("subscribe", "user.999.notifications"), "ACL_DENIED"),
        (("subscribe", "room..x"), "BAD_TOPIC"),
        (("subscribe", "gateway.auth"), "BAD_TOPIC"),
        (("subscribe", "OUT"), "BAD_TOPIC"),
        (("subscribe",), "BAD_FRAME"),
        (("subscribe", {"topic": ["room.x"]}), "BAD_FRAME"),
        (("IN", 1), "BAD_TOPIC"),
        (("OUT.more", 1), "BAD_TOPIC"),
        (("gateway", {"type": "connect"}), "BAD_TOPIC"),
        (("room.x", "x" * 62_000), "TOO_LARGE"),
    ],
)
async def test_what_is_not_allowed_is_told_in_the_answer(client, args, code):
    async with client() as alice:
        answer = await alice.ask(*args)
        assert (answer["type"], answer["code"]) == ("error", code)


@pytest.mark.parametrize("auth", [{}, {"token": "nonsense"}, {"token": 5}])
async def test_bad_credential_is_refused_for_good(client, auth):
    async with client(auth=auth, reconnection=True) as stranger:
        message, data, active = await stranger.expect("connect_error")
        assert message
        assert data["code"] in ("AUTH_FAILED", "BAD_FRAME")
        assert not active  # it does not try again by itself
        assert not stranger.all("connect")


async def test_kicked_client_is_told_why_and_stays_away(client, site):
    async with client("bob", reconnection=True) as bob:
        await bob.expect("connect")
        await asyncio.to_thread(manage, "kick", "bob", env=site.env)
        told = await bob.frame("close")
        assert told["code"] == 4502
        assert told["reason"]
        reason, active = await bob.expect("disconnect")
        assert (reason, active) == ("io server disconnect", False)


async def test_changed_rules_hold_for_open_sessions(client, site):
    room = a_room()
    async with client() as alice, site.client(site.token("bob")) as bob:
        await alice.ask("subscribe", room)
        await asyncio.to_thread(site.add_rule, "subscribe", room, "deny")
        assert (await alice.frame("unsubscribed", topic=room))["reason"] == "acl"
        await bob.publish(room, "secret")
        assert (await alice.ask("subscribe", room))["code"] == "ACL_DENIED"
        assert not alice.all(room)


async def test_client_that_leaves_is_forgotten(client, site):
    room = a_room()
    async with client() as alice, site.client(site.token("bob")) as bob:
        await alice.ask("subscribe", room)
        await bob.ask("presence", "reply", topic=room)
        await alice.tell(call="disconnect")
        assert (await alice.expect("disconnect"))[0] == "io client disconnect"

        async def alone() -> bool:
            return (await bob.ask("presence", "reply", topic=room))["data"] == []

        await until(alone, what="an empty room")


async def test_binary_data_is_refused_and_the_session_goes_on(client):
    async with client() as alice:
        await alice.expect("connect")
        await alice.tell(emit=["room.binary"], bytes=1000)
        assert (await alice.frame("error"))["code"] == "BAD_FRAME"
        assert (await alice.ask("ping"))["type"] == "pong"


async def test_other_namespace_is_refused(client, site, modules, transport):
    options = {"transports": [transport], "auth": {"token": site.token()}}
    async with NodeClient(modules, f"{site.url()}/admin", **options) as stranger:
        message, _, _ = await stranger.expect("connect_error")
        assert message.startswith("There is one namespace here")


async def test_client_that_does_not_read_is_closed_and_resumes(client, site):
    room = a_room()
    async with client() as alice, site.client(site.token("bob")) as bob:
        session = (await alice.frame("ready"))["sessionId"]
        await alice.ask("subscribe", room)
        before = await metric(site, "gateway_slow_readers_total")
        alice.freeze()
        for _ in range(6):
            await asyncio.gather(*(bob.publish(room, "x" * 50_000) for _ in range(20)))
            if await metric(site, "gateway_slow_readers_total") > before:
                break

        async def closed() -> bool:
            return await metric(site, "gateway_slow_readers_total") == before + 1

        await until(closed, what="a slow reader that is closed")
        total = (await bob.ask("history", "reply", topic=room, limit=1))["data"][0]["seqNo"]
        alice.go_on()
        await alice.expect("disconnect")
        last = max((meta["seqNo"] for _, meta in alice.all(room)), default=0)
    auth = {"token": site.token(), "sessionId": session, "lastSeqPerTopic": {room: last}}
    async with client(auth=auth) as again:
        await until(lambda: again.all(room) and again.all(room)[-1][1]["seqNo"] == total)


async def metric(site, name: str) -> float:
    """Return a value of /metrics."""

    def read() -> str:
        with urllib.request.urlopen(f"{site.url()}/metrics", timeout=30) as answer:
            return answer.read().decode()

    text = await asyncio.to_thread(read)
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def test_program_in_the_documentation_runs(modules, site):
    shown = re.findall(r"```js\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)[0]
    (modules / "shown.mjs").write_text(shown.replace("http://127.0.0.1:8000", site.url()))
    async with service(site.nats_url, "OUT", b"1"), connected(site.nats_url, name="in") as broker:
        process = await asyncio.create_subprocess_exec(
            *("node", "shown.mjs"),
            cwd=modules,
            env={**os.environ, "GATEWAY_TOKEN": site.token()},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        said: list[str] = []
        try:
            async with asyncio.timeout(90):
                while not {"IN { n: 1 }", "room.lobby hello", "answered reply"} <= set(said):
                    line = (await process.stdout.readline()).decode().strip()
                    assert line, said
                    said.append(line)
                    if said.count("gateway subscribed") == 2 and "published" not in said:
                        said.append("published")
                        await broker.publish("IN", b'{"n": 1}')
        except TimeoutError:
            pytest.fail(f"it said just {said}")
        finally:
            process.kill()
            await process.wait()
        assert "stored or sent ok" in said
        assert "gateway ready" in said
