"""Rows about what rules forbid and topics cannot be: 18, 19, 23."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from realtime.nats_client import Message
from realtime.protocol.messages import AuthReply, AuthRequest
from realtime.protocol.rules import Rule
from tests.support.client import TestClient
from tests.support.processes import manage
from tests.support.waiting import until

from .backend import Publisher, allow_rooms
from .client import Follower
from .lab import Lab
from .measure import arrived, following
from .outcome import Outcome
from .rows import ACCOUNTS, ONE, PROXIED, Pace, fault

REFUSED = {"BAD_TOPIC", "ACL_DENIED", "BAD_FRAME"}
SYSTEM = (
    ">",
    "*",
    "*.>",
    "user.>",
    "user.*",
    "user.*.notifications",
    "user.2.>",
    "user.2.notifications",
    "room.*",
    "room.>",
    "$SYS.>",
    "$SYS.ACCOUNT.*.CONNECT",
    "$JS.API.>",
    "$JS.API.STREAM.DELETE.GATEWAY",
    "$KV.GATEWAY_POSITIONS.1",
    "_INBOX.>",
    "_INBOX.abc",
    "gateway.>",
    "gateway.auth",
    "gateway.relay.user.2.notifications",
    "gateway.control.acl",
    "gateway.control.user.2",
)
BROKEN = (
    "",
    ".",
    "..",
    "room",
    "room.",
    ".room.x",
    "room..x",
    "room.a b",
    "room.a\tb",
    "room.x\r\nPUB gateway.control.acl 2\r\n{}",
    "room.x\r\nSUB > 1",
    "room.x\n",
    "room.\0",
    "room.a\0b",
    "room.\u2028",
    "room.\u00e9",
    "room.\U0001f600",
    "room.{user_id}",
    "room/../user.2",
    "../room",
    "room.%2e",
    "room.x;y",
    "room.$x",
    "room." + "x" * 200,
    "room." + "x" * 10_000,
    "room" + ".x" * 5000,
)


async def refusals(client: TestClient, topics: tuple[str, ...]) -> list[str]:
    """Try every topic in every way; return what was not refused."""
    passed = []
    for topic in topics:
        tries: tuple[tuple[str, dict[str, object]], ...] = (
            ("subscribe", {}),
            ("subscribe", {"since": 0, "qos": 1, "durable": "x"}),
            ("publish", {"messageId": "m", "payload": {}}),
            ("request", {"payload": {}}),
            ("history", {}),
            ("presence", {}),
        )
        for kind, fields in tries:
            error = await client.error(kind, **{"topic": topic, **fields})
            if error["code"] not in REFUSED:
                passed.append(f"{kind} {topic[:40]!r}: {error['code']}")
        held: tuple[tuple[str, dict[str, object]], ...] = (
            ("replay", {"fromSeq": 0}),
            ("unsubscribe", {}),
        )
        for kind, fields in held:
            error = await client.error(kind, **{"topic": topic, **fields})
            if error["code"] not in REFUSED | {"NOT_SUBSCRIBED"}:
                passed.append(f"{kind} {topic[:40]!r}: {error['code']}")
    session = client.ready["sessionId"]
    await client.send("resume", sessionId=session, lastSeqPerTopic=dict.fromkeys(topics, 0))
    resumed = await client.expect("resumed")
    return [*passed, *(f"resume {topic[:40]!r}" for topic in resumed["topics"])]


@fault(18, "wildcards and system subjects", ONE)
async def wildcards(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    others = lab.publisher()
    heard = await _listen(lab, "gateway.control.>", "$SYS.>")

    def own_only(request: AuthRequest) -> AuthReply:
        reply = allow_rooms(request)
        rules = [Rule("allow", "subscribe", "user.{user_id}.>")]
        return AuthReply(success=True, user_id=reply.user_id, rules=rules)

    lab.stand_in.answer = own_only
    async with TestClient(lab.ws_url(), token=lab.token_of(1)) as client:
        passed = await refusals(client, SYSTEM)
        await others.burst(["user.2.notifications", "room.x"], 20)
        await client.ask("ping", "pong")
        outcome.figures["leaked"] = client.recorder.count()
    # A rule for everything opens no more than the topics that are open to clients at all.
    lab.stand_in.answer = lambda request: AuthReply(
        success=True,
        user_id="1",
        rules=[Rule("allow", action, ">") for action in ("subscribe", "publish", "request")],
    )
    closed = tuple(topic for topic in SYSTEM if not topic.startswith(("user.", "room.")))
    async with TestClient(lab.ws_url(), token=lab.token_of(1)) as client:
        passed += await refusals(client, closed)
        await client.subscribe("user.2.notifications")  # that one is covered now
    outcome.figures["reached NATS"] = len(heard)
    outcome.must("; ".join(["refused each", *passed]), not passed)
    outcome.must("leaked 0", outcome.figures["leaked"] == 0)
    outcome.must("nothing reached NATS", not heard)
    return outcome


@fault(19, "injection: space, CRLF, NUL, `..`, U+2028, 10 kB topics, messageIds too", ONE)
async def injection(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    heard = await _listen(lab, "gateway.control.>")
    async with TestClient(lab.ws_url(), token=lab.token_of(1)) as client:
        passed = await refusals(client, BROKEN)
        for message_id in (
            "a\r\nNats-Rollup: all",
            "a\nb",
            "\0",
            " a",
            "a ",
            "",
            "x" * 129,
            "\x7f",
        ):
            error = await client.error(
                "publish", topic="room.x", messageId=message_id, payload={"a": 1}
            )
            if error["code"] != "BAD_FRAME":
                passed.append(f"messageId {message_id!r}: {error}")
        # What is odd but allowed arrives unharmed.
        await client.subscribe("room.odd")
        odd = "\u00e9 \u2028 \U0001f600: x"
        await client.publish("room.odd", odd, message_id=odd)
        event = await client.expect("message", topic="room.odd")
        outcome.must("odd text arrives unharmed", event["messageId"] == event["data"] == odd)
    log = lab.nats.log.read_text(errors="replace")
    outcome.figures["-ERR"] = sum("rror" in line and "[ERR]" in line for line in log.splitlines())
    web = lab.web[0].text()
    outcome.must("no -ERR", outcome.figures["-ERR"] == 0 and "nats disconnected" not in web)
    outcome.must("; ".join(["refused each", *passed]), not passed)
    outcome.must("nothing reached NATS", not heard)
    return outcome


async def _listen(lab: Lab, *subjects: str) -> list[str]:
    """Hear what travels on subjects; return the list it is noted in."""
    heard: list[str] = []

    async def hear(message: Message) -> None:
        heard.append(message.subject)

    for subject in subjects:
        await lab.broker.subscribe(subject, hear)
    await lab.broker.flush()
    return heard


_DENY = """
import time
from django.contrib.auth import get_user_model
from accounts.models import AccessRule
user = get_user_model().objects.get(pk=1)
AccessRule.objects.create(user=user, effect="deny", action="subscribe", topic="room.>")
print("at", time.time())
"""


@fault(23, "ACL change: deny mid-stream, one client live, one in a long replay", ACCOUNTS)
async def denied(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.secret-{publisher.run.id}"
    await publisher.burst([topic], 5000)
    bob = Follower(lab.urls, lab.token_of(2), [topic])
    done = asyncio.Event()
    async with (
        following([bob]),
        TestClient(lab.ws_url(), token=lab.token_of(1)) as live,
        TestClient(lab.ws_url(), token=lab.token_of(1)) as replaying,
    ):
        await live.subscribe(topic)
        await replaying.subscribe(topic)
        traffic = asyncio.create_task(_traffic(publisher, topic, done))
        rewinding = asyncio.create_task(_rewind(replaying, topic, done))
        denying = asyncio.to_thread(manage, "shell", "-v", "0", "-c", _DENY, env=lab.env)
        committed = float((await denying).split("at ")[1])
        limit = time.monotonic() + 2 - (time.time() - committed)
        for client in (live, replaying):
            await client.expect("unsubscribed", topic=topic, timeout=10)
        outcome.figures["s"] = round(max(time.time() - committed, 0), 2)
        # Nothing may come now, though it goes on for the others.
        before = bob.app.count()
        await until(lambda: bob.app.count() > before + 100, 10)
        await asyncio.sleep(max(limit + 1 - time.monotonic(), 0))
        done.set()
        await asyncio.gather(traffic, rewinding, return_exceptions=True)
        for client in (live, replaying):
            await client.ask("ping", "pong")
            error = await client.error("replay", topic=topic, fromSeq=0)
            outcome.must("replay refused", error["code"] == "NOT_SUBSCRIBED")
            error = await client.error("subscribe", topic=topic, since=0)
            outcome.must("subscribe refused", error["code"] == "ACL_DENIED")
        outcome.figures["leaked"] = sum(
            receipt.at > limit
            for client in (live, replaying)
            for receipt in client.recorder.receipts[topic]
        )
        await arrived([bob], {topic: publisher.published[topic][5000:]})
        outcome.must("others go on", not bob.closes and bob.app.count() > 0)
    outcome.must("leaked 0 after 2 s", outcome.figures["leaked"] == 0)
    return outcome


async def _traffic(publisher: Publisher, topic: str, done: asyncio.Event) -> None:
    while not done.is_set():
        await publisher.steady([topic], rate=200, seconds=0.25)


async def _rewind(client: TestClient, topic: str, done: asyncio.Event) -> None:
    """Ask for everything again and again."""
    while not done.is_set():
        await client.send("replay", topic=topic, fromSeq=0)
        await asyncio.sleep(0.2)


@fault(23, "ACL change: deny while one of two auth workers is frozen (SIGSTOP)", ACCOUNTS)
async def denied_with_a_frozen_worker(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.secret-{publisher.run.id}"
    second = lab.run("auth_worker")
    await lab.ready(second)
    done = asyncio.Event()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(TestClient(lab.ws_url(), token=lab.token_of(1)))
            for _ in range(int(pace.of(50, 10)))
        ]
        for client in clients:
            await client.subscribe(topic)
        traffic = asyncio.create_task(_traffic(publisher, topic, done))
        second.pause()
        denying = asyncio.to_thread(manage, "shell", "-v", "0", "-c", _DENY, env=lab.env)
        committed = float((await denying).split("at ")[1])
        limit = time.monotonic() + 2 - (time.time() - committed)
        for client in clients:
            await client.expect("unsubscribed", topic=topic, timeout=10)
        outcome.figures["all told s"] = round(time.time() - committed, 2)
        await asyncio.sleep(max(limit + 1 - time.monotonic(), 0))
        done.set()
        await traffic
        for client in clients:
            await client.ask("ping", "pong")
        receipts = [one for client in clients for one in client.recorder.receipts[topic]]
        outcome.figures["last event s"] = round(max(one.at for one in receipts) - limit + 2, 2)
        outcome.figures["leaked"] = sum(one.at > limit for one in receipts)
    second.kill()
    lab.processes.remove(second)
    outcome.must("leaked 0 after 2 s", outcome.figures["leaked"] == 0)
    return outcome


@fault(23, "ACL change: deny while the web process is cut off from NATS", PROXIED)
async def denied_while_away(lab: Lab, pace: Pace) -> Outcome:
    assert lab.proxy is not None
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.secret-{publisher.run.id}"
    async with TestClient(lab.ws_url(), token=lab.token_of(1)) as client:
        await client.subscribe(topic)
        await publisher.burst([topic], 5)
        await client.expect("message", topic=topic)
        await lab.proxy.refuse()
        lab.stand_in.answer = lambda request: AuthReply(success=True, user_id="1", rules=[])
        await lab.broker.publish("gateway.control.acl", b'{"users":["1"]}')
        await lab.broker.flush()
        await lab.proxy.forward()
        back = time.monotonic()
        await until(lambda: lab.web[0].find("nats reconnected"), 20)
        await publisher.steady([topic], rate=50, seconds=back + 4 - time.monotonic())
        await client.ask("ping", "pong")
        late = [one for one in client.recorder.receipts[topic] if one.at > back + 3]
        outcome.figures["leaked"] = len(late)
    outcome.must("leaked 0 from 3 s after the reconnect on", not late)
    return outcome
