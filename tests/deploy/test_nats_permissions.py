"""deploy/nats/nats.conf lets every user do its work, and nothing else: on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from realtime.broker import Broker
from realtime.positions import Position, Positions
from realtime.protocol.exceptions import NoResponder
from realtime.protocol.messages import Member, Roster
from realtime.rosters import Note, Rosters
from tests.support.waiting import until

from .nats_server import DEADLINE, Server, connected

pytestmark = pytest.mark.asyncio

STREAM: dict[str, Any] = {
    "name": "GATEWAY",
    "subjects": ["user.>", "room.>"],
    "storage": "file",
    "allow_direct": True,
    "duplicate_window": 300 * 10**9,
    "republish": {"src": ">", "dest": "gateway.relay.>"},
}

TOPICS = {"user.7.notifications", "room.1", "live.1"}
CONTROL = {"gateway.control.user.7", "gateway.control.acl"}
KEEP_STREAM = {f"$JS.API.STREAM.{verb}.GATEWAY" for verb in ("INFO", "CREATE", "UPDATE")}
READ = {
    "$JS.API.DIRECT.GET.GATEWAY",
    "$JS.API.DIRECT.GET.GATEWAY.user.7.notifications",
    "$JS.API.DIRECT.GET.KV_GATEWAY_POSITIONS",
    "$JS.API.DIRECT.GET.KV_GATEWAY_POSITIONS.$KV.GATEWAY_POSITIONS.7",
    "$JS.API.DIRECT.GET.KV_GATEWAY_PRESENCE",
    "$JS.API.INFO",
}
KEEP_POSITIONS = {
    "$JS.API.STREAM.INFO.KV_GATEWAY_POSITIONS",
    "$JS.API.STREAM.CREATE.KV_GATEWAY_POSITIONS",
    "$JS.API.STREAM.UPDATE.KV_GATEWAY_POSITIONS",
}
KEEP_PRESENCE = {
    "$JS.API.STREAM.INFO.KV_GATEWAY_PRESENCE",
    "$JS.API.STREAM.CREATE.KV_GATEWAY_PRESENCE",
    "$JS.API.STREAM.UPDATE.KV_GATEWAY_PRESENCE",
}
LOOK_AFTER = {
    "$JS.API.CONSUMER.CREATE.GATEWAY",
    "$JS.API.STREAM.CREATE.OTHER",
    "$JS.API.STREAM.DELETE.GATEWAY",
    "$JS.API.STREAM.MSG.DELETE.GATEWAY",
    "$JS.API.STREAM.MSG.GET.GATEWAY",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.PURGE.GATEWAY",
    "$JS.API.STREAM.SNAPSHOT.GATEWAY",
}
MAY_PUBLISH = {
    "gateway": {
        *TOPICS,
        *CONTROL,
        *KEEP_STREAM,
        *KEEP_POSITIONS,
        *KEEP_PRESENCE,
        *READ,
        "gateway.auth",
        "rpc.orders.get",
        "$KV.GATEWAY_POSITIONS.7",
        "$KV.GATEWAY_PRESENCE.process.room.1",
    },
    "bridge": KEEP_STREAM,
    "auth": CONTROL,
    "backend": TOPICS | CONTROL,
    "admin": KEEP_STREAM | KEEP_POSITIONS | KEEP_PRESENCE | READ | LOOK_AFTER,
}
USERS = tuple(MAY_PUBLISH)
NOBODY_MAY_PUBLISH = {
    "gateway.relay.user.7.notifications",
    "other.topic",
    "$SYS.REQ.SERVER.PING",
    "_INBOX.x",
    # An inbox takes an answer from whoever was asked, and from nobody else.
    *(f"_INBOX_{user}.x" for user in USERS),
}
PUBLISH = NOBODY_MAY_PUBLISH.union(*MAY_PUBLISH.values())

# Subjects, each with a queue group or "".
RELAYED = {("gateway.relay.>", ""), ("gateway.relay.>", "bridge"), ("gateway.relay.user.7.a", "")}
LIVE = {("live.>", ""), ("live.>", "bridge")}
MAY_SUBSCRIBE = {
    "gateway": {
        *RELAYED,
        *LIVE,
        ("gateway.control.>", ""),
        ("_INBOX_gateway.>", ""),
        ("$KV.GATEWAY_PRESENCE.>", ""),
    },
    "bridge": {*RELAYED, *LIVE, ("_INBOX_bridge.>", "")},
    "auth": {("gateway.auth", "auth"), ("_INBOX_auth.>", "")},
    "backend": {("rpc.>", ""), ("rpc.>", "backend"), ("_INBOX_backend.>", "")},
    "admin": {("$JS.EVENT.>", ""), ("_INBOX_admin.>", "")},
}
NOBODY_MAY_SUBSCRIBE = {
    *((subject, "") for subject in (">", "*.>", "*.*", "_INBOX.>", "gateway.>", "gateway.*")),
    *((subject, "") for subject in ("user.>", "user.7.notifications", "$SYS.>", "$JS.>", "$KV.>")),
    ("gateway.auth", ""),
    ("gateway.auth", "other"),
}
SUBSCRIBE = NOBODY_MAY_SUBSCRIBE.union(*MAY_SUBSCRIBE.values())


@asynccontextmanager
async def broker_of(server: Server, user: str) -> AsyncIterator[Broker]:
    """Yield the project's own connection, as its process makes it."""
    inbox = f"_INBOX_{user}"
    broker = Broker(server.url(user), name=user, inbox_prefix=inbox, connect_timeout=DEADLINE)
    await broker.connect()
    try:
        yield broker
    finally:
        await broker.close()


@pytest.mark.parametrize("user", USERS)
async def test_publish_by_each_user_only_where_it_may(server: Server, user: str) -> None:
    async with connected(server, user) as peer:
        for subject in PUBLISH:
            await peer.client.publish(subject, b"{}")
        refused = {subject for subject, _ in await peer.refused()}
        assert {s for s in PUBLISH if s.lower() not in refused} == MAY_PUBLISH[user]


@pytest.mark.parametrize("user", USERS)
async def test_subscribe_by_each_user_only_where_it_may(server: Server, user: str) -> None:
    async with connected(server, user) as peer:
        for subject, queue in SUBSCRIBE:
            await peer.client.subscribe(subject, queue=queue)
        refused = await peer.refused()
        assert {(s, q) for s, q in SUBSCRIBE if (s.lower(), q) not in refused} == (
            MAY_SUBSCRIBE[user]
        )


@pytest.mark.parametrize("credentials", ["", "gateway:wrong@", "gateway:@", "nobody:x@"])
async def test_connect_without_the_right_password_is_refused(
    server: Server, credentials: str
) -> None:
    # Not by the project's own connection: that tries again until its time is over.
    intruder, url = Client(), f"nats://{credentials}{server.address}"
    with pytest.raises(Error, match="Authorization Violation"):
        await intruder.connect(url, allow_reconnect=False, connect_timeout=DEADLINE)


async def test_auth_request_gets_one_answer_of_one_worker(server: Server) -> None:
    async with (
        connected(server, "auth") as one,
        connected(server, "auth") as two,
        broker_of(server, "gateway") as gateway,
    ):
        answered = asyncio.Event()

        async def answer(request: Msg) -> None:
            await request.respond(b"first")
            await request.respond(b"second")
            answered.set()

        for worker in (one, two):
            await worker.client.subscribe("gateway.auth", queue="auth", cb=answer)
            await worker.settle()
        reply = await gateway.request("gateway.auth", b"{}", timeout=DEADLINE)
        assert reply.data == b"first"
        await asyncio.wait_for(answered.wait(), DEADLINE)
        assert await one.refused() | await two.refused() == {(reply.subject.lower(), "")}


async def test_auth_request_without_a_worker_says_so(server: Server) -> None:
    async with broker_of(server, "gateway") as gateway:
        with pytest.raises(NoResponder):
            await gateway.request("gateway.auth", b"{}", timeout=DEADLINE)


async def test_rpc_request_is_answered_by_the_backend(server: Server) -> None:
    async with connected(server, "backend") as backend, broker_of(server, "gateway") as gateway:

        async def answer(request: Msg) -> None:
            await request.respond(b"42")

        await backend.client.subscribe("rpc.>", queue="backend", cb=answer)
        await backend.settle()
        reply = await gateway.request("rpc.orders.get", b"{}", timeout=DEADLINE)
        assert reply.data == b"42"
        assert await backend.refused() == set()


async def test_presence_is_answered_by_every_other_gateway(server: Server) -> None:
    async with (
        broker_of(server, "gateway") as asking,
        connected(server, "gateway") as one,
        connected(server, "gateway") as two,
    ):

        async def answer(request: Msg) -> None:
            await request.respond(b"[]")

        for peer in (one, two):
            await peer.client.subscribe("gateway.control.presence", cb=answer)
            await peer.settle()

        async def both() -> bool:
            replies = await asking.gather("gateway.control.presence", b"room.1", wait=1.0)
            return [reply.data for reply in replies] == [b"[]", b"[]"]

        await until(both, DEADLINE, what="two answers within a second")


@pytest.mark.parametrize("user", ["gateway", "bridge"])
async def test_stream_is_made_and_kept_by_gateway_and_bridge(server: Server, user: str) -> None:
    async with broker_of(server, user) as broker:
        for age in (3600, 7200):
            info = await broker.ensure_stream({**STREAM, "max_age": age * 10**9}, timeout=DEADLINE)
            assert info.config["max_age"] == age * 10**9


async def test_event_of_the_backend_is_confirmed_once_relayed_and_read_back(
    server: Server,
) -> None:
    async with (
        broker_of(server, "gateway") as gateway,
        connected(server, "backend") as backend,
        connected(server, "bridge") as bridge,
    ):
        await gateway.ensure_stream(STREAM, timeout=DEADLINE)
        relayed = await bridge.client.subscribe("gateway.relay.>", queue="bridge")
        await bridge.settle()
        jetstream = backend.client.jetstream(timeout=DEADLINE)
        headers = {"Nats-Msg-Id": "orders/1/user.9"}
        first = await jetstream.publish("user.9.orders", b"{}", headers=headers)
        second = await jetstream.publish("user.9.orders", b"{}", headers=headers)
        assert (second.seq, second.duplicate) == (first.seq, True)
        event = await relayed.next_msg(timeout=DEADLINE)
        assert event.subject == "gateway.relay.user.9.orders"
        query = {"seq": 1, "next_by_subj": "user.9.orders", "batch": 10}
        stored = await gateway.direct_get("GATEWAY", query, timeout=DEADLINE)
        assert [message.headers["Nats-Sequence"] for message in stored] == [str(first.seq)]


async def test_event_of_a_client_is_stored_by_the_gateway(server: Server) -> None:
    async with broker_of(server, "gateway") as gateway:
        await gateway.ensure_stream(STREAM, timeout=DEADLINE)
        stored = await gateway.store("room.9", b"{}", headers=None, timeout=DEADLINE)
        assert stored.sequence > 0


async def test_positions_are_kept_by_the_gateway(server: Server) -> None:
    async with broker_of(server, "gateway") as gateway:
        for days in (90, 30):  # the bucket is made, then its settings change
            positions = Positions(
                gateway,
                "GATEWAY_POSITIONS",
                replicas=1,
                max_age=days * 86400.0,
                timeout=DEADLINE,
            )
            positions.note("7", "phone", "room.1", 100 - days, "epoch")
            await positions.flush()
            assert await positions.read("7", "phone", "room.1") == Position(100 - days, "epoch")


async def test_rosters_are_kept_and_heard_by_gateways(server: Server) -> None:
    async with broker_of(server, "gateway") as one, broker_of(server, "gateway") as two:
        wanted = Roster(watched=True, members=[Member("7", 1)])
        heard: list[Note] = []
        for age in (600.0, 1200.0):  # the bucket is made, then its settings change
            mine, theirs = (
                Rosters(broker, "GATEWAY_PRESENCE", replicas=1, max_age=age, timeout=DEADLINE)
                for broker in (one, two)
            )
            await theirs.load()
            await theirs.listen(heard.append)
            await two.flush()
            await mine.beat()
            await mine.put("room.1", wanted)
            await one.flush()
            told = {note[:2]: note.roster for note in await theirs.load()}
            assert told[mine.process, "room.1"] == wanted
            assert (mine.process, "") in told
            entry = (mine.process, "room.1")
            await until(lambda entry=entry: entry in {note[:2] for note in heard}, DEADLINE)


@pytest.mark.parametrize("sender", ["backend", "gateway"])
async def test_live_event_reaches_gateway_and_bridge(server: Server, sender: str) -> None:
    async with (
        connected(server, sender) as source,
        connected(server, "gateway") as gateway,
        connected(server, "bridge") as bridge,
    ):
        heard = [await peer.client.subscribe("live.>") for peer in (gateway, bridge)]
        for peer in (gateway, bridge):
            await peer.settle()
        await source.client.publish("live.score", b"1")
        for subscription in heard:
            assert (await subscription.next_msg(timeout=DEADLINE)).data == b"1"


@pytest.mark.parametrize("sender", ["backend", "auth", "gateway"])
async def test_control_message_reaches_every_gateway(server: Server, sender: str) -> None:
    async with (
        connected(server, sender) as source,
        connected(server, "gateway") as one,
        connected(server, "gateway") as two,
    ):
        heard = [await peer.client.subscribe("gateway.control.>") for peer in (one, two)]
        for peer in (one, two):
            await peer.settle()
        await source.client.publish("gateway.control.user.7", b"{}")
        for subscription in heard:
            message = await subscription.next_msg(timeout=DEADLINE)
            assert message.subject == "gateway.control.user.7"


async def test_stream_is_backed_up_deleted_and_restored_by_admin(server: Server) -> None:
    """The same messages as those of `nats stream backup` and `restore`."""
    async with broker_of(server, "gateway") as gateway, connected(server, "admin") as admin:
        await gateway.ensure_stream(STREAM, timeout=DEADLINE)
        await gateway.store("room.kept", b"{}", headers=None, timeout=DEADLINE)

        async def manage(verb: str, body: dict[str, Any]) -> dict[str, Any]:
            subject = f"$JS.API.STREAM.{verb}.GATEWAY"
            reply = await admin.client.request(subject, json.dumps(body).encode(), DEADLINE)
            answer: dict[str, Any] = json.loads(reply.data)
            assert "error" not in answer
            return answer

        inbox = admin.client.new_inbox()
        chunks = await admin.client.subscribe(inbox)
        backup = await manage("SNAPSHOT", {"deliver_subject": inbox, "no_consumers": True})
        pieces = []
        while (piece := await chunks.next_msg(DEADLINE)).data:
            pieces.append(piece.data)
            if piece.reply:
                await piece.respond(b"")
        await manage("DELETE", {})
        restore = await manage("RESTORE", {"config": backup["config"], "state": backup["state"]})
        for data in (*pieces, b""):
            await admin.client.request(restore["deliver_subject"], data, DEADLINE)
        info = await gateway.stream_info("GATEWAY", timeout=DEADLINE)
        assert info is not None
        assert info.state.last == backup["state"]["last_seq"]
        assert await admin.refused() == set()


async def test_servers_are_looked_after_by_sys_which_hears_no_event(server: Server) -> None:
    async with connected(server, "sys") as peer, connected(server, "backend") as backend:
        everything = await peer.client.subscribe("live.>")
        await peer.settle()
        await backend.client.publish("live.score", b"1")
        await backend.settle()
        reply = await peer.client.request("$SYS.REQ.SERVER.PING", b"", timeout=DEADLINE)
        assert json.loads(reply.data)["server"]["name"] == "nats"
        assert everything.pending_msgs == 0
