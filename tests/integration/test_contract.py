"""The wire contract, frame by frame, against `manage.py gateway --demo`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from realtime.broker import Broker, connected
from realtime.nats_client import Message
from tests.faults.wire import text as text_frame
from tests.support.client import Frame, TestClient
from tests.support.gateways import Gateway
from tests.support.processes import manage
from tests.support.waiting import until

from .support import ALICE, BOB, SETTINGS, add_rules, handshake, log_in, new_topic, without

MAX_FRAME = 64 * 1024
MAX_PAYLOAD = 60 * 1024
PER_TOPIC = 50
LISTED = "https://app.example"
MAX_SUBSCRIPTIONS = 20
MAX_PATTERNS = 5
WINDOW = 5
GRACE = 2.0
"""Seconds; less than the three that a user may be away without having left."""


class Running(Gateway):
    """The gateway of this module, with its users' tokens."""

    tokens: dict[str, str]
    cookie: str

    def as_user(self, user: str = "alice", **options: Any) -> TestClient:
        """Return a client of a demo user."""
        return TestClient(self.ws_url(), token=self.tokens[user], **options)

    def anyone(self, **options: Any) -> TestClient:
        """Return a client that has not sent `connect`."""
        return TestClient(self.ws_url(), connect=False, **options)

    @property
    def log(self) -> str:
        """What the gateway has logged."""
        return self.processes[0].text()


@pytest.fixture(scope="module")
def site(data_template: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one gateway for all tests of this module."""
    site = Running(
        tmp_path_factory.mktemp("contract"), data_template, {**SETTINGS, "ALLOWED_ORIGINS": LISTED}
    )
    add_rules(
        site,
        [
            ("allow", "subscribe", "live.>"),
            ("allow", "publish", "live.>"),
            ("allow", "request", "rpc.>"),
            ("deny", "request", "rpc.secret.>"),
            ("deny", "subscribe", "room.secret.>"),
            ("deny", "publish", "room.readonly.>"),
        ],
    )
    try:
        site.start()
        site.tokens = {user: site.token(user) for user in ("alice", "bob")}
        site.cookie = log_in(site, "alice")
        yield site
    finally:
        site.close()


@pytest.fixture(scope="module")
def hasty(data_template: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run one that repeats soon what is not acknowledged, and gives up after some seconds."""
    env = {**SETTINGS, "REALTIME_ACK_WAIT": "0.3", "REALTIME_ACK_TRIES": "30"}
    hasty = Gateway(tmp_path_factory.mktemp("hasty"), data_template, env)
    try:
        hasty.start()
        yield hasty
    finally:
        hasty.close()


@pytest.fixture
async def impatient(hasty: Gateway) -> AsyncIterator[Broker]:
    """Return a backend's connection to the NATS of the hasty one."""
    async with connected(hasty.nats_url, name="backend") as broker:
        yield broker


@pytest.fixture(autouse=True)
def no_traceback(site: Running) -> Iterator[None]:
    """Hold every test to it: whatever a client does, nothing breaks in the gateway."""
    before = len(site.log)
    yield
    assert "Traceback" not in site.log[before:]
    assert site.processes[0].is_alive()


@pytest.fixture
async def alice(site: Running) -> AsyncIterator[TestClient]:
    """Return a connected client of alice."""
    async with site.as_user() as client:
        yield client


@pytest.fixture
async def bob(site: Running) -> AsyncIterator[TestClient]:
    """Return a connected client of bob."""
    async with site.as_user("bob") as client:
        yield client


@pytest.fixture
async def backend(site: Running) -> AsyncIterator[Broker]:
    """Return a backend's connection to NATS."""
    async with connected(site.nats_url, name="backend") as broker:
        yield broker


@pytest.fixture
def room() -> str:
    """Return a room that is empty."""
    return new_topic()


async def store(backend: Broker, topic: str, count: int, start: int = 1) -> list[int]:
    """Store events with rising numbers as data; return their sequences."""
    return [
        (await backend.store(topic, str(number).encode(), headers=None, timeout=30)).sequence
        for number in range(start, start + count)
    ]


async def data_of(client: TestClient, topic: str, count: int) -> list[Any]:
    """Return the data of the next messages of a topic."""
    return [(await client.expect("message", topic=topic))["data"] for _ in range(count)]


async def until_serves(client: TestClient) -> None:
    """Return when the gateway has answered a ping: it has handled all that was sent before."""
    await client.ask("ping", "pong")


# Opening.


async def test_connect_token_is_ready(site: Running) -> None:
    async with site.anyone() as client:
        ready = await client.ask("connect", "ready", token=site.tokens["alice"], id="c-1")
    assert set(ready) == {
        "type",
        "id",
        "sessionId",
        "userId",
        "expiresAt",
        "heartbeat",
        "epoch",
        "subscriptions",
    }
    assert ready["id"] == "c-1"
    assert ready["userId"] == ALICE
    assert ready["expiresAt"] > time.time()
    assert ready["heartbeat"] > 0
    assert ready["subscriptions"] == []
    assert ready["epoch"]
    assert ready["sessionId"]


async def test_setup_is_an_alias_of_connect(site: Running) -> None:
    async with site.anyone() as client:
        ready = await client.ask("setup", "ready", token=site.tokens["bob"])
    assert ready["userId"] == BOB


async def test_connect_each_socket_has_its_own_session(site: Running) -> None:
    async with site.as_user() as one, site.as_user() as two:
        assert one.ready["sessionId"] != two.ready["sessionId"]
        assert one.ready["epoch"] == two.ready["epoch"]


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "rt_nobody", "é", "\x00", "x" * 5000])
async def test_connect_bad_token_fails_and_closes(site: Running, token: str) -> None:
    async with site.anyone() as client:
        error = await client.error("connect", token=token)
        assert error["code"] == "AUTH_FAILED"
        assert token == "" or token not in error["message"]
        await client.expect_close(4500)


async def test_connect_expired_token_fails_and_closes(site: Running) -> None:
    token = manage("token", "alice", "--lifetime=-100", env=site.env).strip().splitlines()[-1]
    async with site.anyone() as client:
        assert (await client.error("connect", token=token))["code"] == "AUTH_FAILED"
        await client.expect_close(4500)


async def test_connect_nothing_to_show_fails_and_closes(site: Running) -> None:
    async with site.anyone() as client:
        assert (await client.error("connect"))["code"] == "AUTH_FAILED"
        await client.expect_close(4500)


async def test_connect_not_in_time_closes(site: Running) -> None:
    started = time.monotonic()
    async with site.anyone() as client:
        await client.expect_close(4501)
        assert time.monotonic() - started > 4


async def test_connect_not_in_time_but_busy_closes_too(site: Running) -> None:
    """Frames that are refused do not count as `connect`."""
    async with site.anyone() as client:

        async def chat() -> None:
            while client.close_code is None:
                await client.send("ping")
                await client.expect("error")

        chatting = asyncio.ensure_future(chat())
        await client.expect_close(4501)
        chatting.cancel()
        await asyncio.gather(chatting, return_exceptions=True)


async def test_connect_in_time_is_not_closed_later(site: Running) -> None:
    # In this order: the one that is closed came later.
    async with site.as_user() as client, site.anyone() as fence:
        await fence.expect_close(4501)
        await until_serves(client)


async def test_connect_again_is_refused_and_the_session_stays(alice: TestClient) -> None:
    error = await alice.error("connect", token="nonsense")
    assert error["code"] == "BAD_FRAME"
    assert (await alice.error("setup"))["code"] == "BAD_FRAME"
    await until_serves(alice)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "ping"},
        {"type": "subscribe", "topic": "room.a"},
        {"type": "unsubscribe", "topic": "room.a"},
        {"type": "publish", "topic": "room.a", "messageId": "m", "payload": 1},
        {"type": "ack", "messageId": "m"},
        {"type": "resume", "sessionId": "s", "lastSeqPerTopic": {}},
        {"type": "replay", "topic": "room.a", "fromSeq": 1},
        {"type": "history", "topic": "room.a"},
        {"type": "request", "topic": "rpc.a", "payload": 1},
        {"type": "presence", "topic": "room.a"},
        {"type": "refresh", "token": "t"},
    ],
    ids=lambda frame: frame["type"],
)
async def test_any_frame_before_connect_is_refused_and_the_socket_stays(
    site: Running, frame: Frame
) -> None:
    async with site.anyone() as client:
        error = await client.error(**frame)
        assert error["code"] == "AUTH_REQUIRED"
        assert "sessionId" not in error
        await client.ask("connect", "ready", token=site.tokens["alice"])


# Frames that are none.


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hello",
        "null",
        "true",
        "7",
        '"ping"',
        "[]",
        '[{"type":"ping"}]',
        "{}",
        "{",
        '{"type":"ping"',
        '{"type":"ping"}}',
        '{"type":"ping"}{"type":"ping"}',
        "{'type':'ping'}",
        '{"type":"ping",}',
        '{"type":"ping","x":NaN}',
        '{"type":"ping","x":Infinity}',
        '{"type":"ping","x":"\\ud800"}',
        "[" * 30_000,
        '{"type":"ping","x":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"type":null}',
        '{"type":7}',
        '{"type":["ping"]}',
        '{"type":"Ping"}',
        '{"type":"ready"}',
        '{"type":"message","topic":"room.a"}',
        '{"type":"websocket.receive"}',
        '{"type":"gateway.event"}',
        '{"type":"__class__"}',
    ],
    ids=lambda text: text[:40] or "empty",
)
async def test_text_that_is_no_frame_is_bad_and_the_socket_stays(
    alice: TestClient, text: str
) -> None:
    await alice.send_text(text)
    await until_serves(alice)
    errors = [frame for frame in alice.frames if frame["type"] == "error"]
    assert [error["code"] for error in errors] == ["BAD_FRAME"]


@pytest.mark.parametrize("value", ["1e999", "9" * 5000, '{"id":7}', '"\\u0000"'])
async def test_unknown_field_of_any_json_is_ignored(alice: TestClient, value: str) -> None:
    await alice.send_text(f'{{"type":"ping","id":"odd","x":{value}}}')
    assert await alice.expect("pong", id="odd") == {"type": "pong", "id": "odd"}


BAD_FIELDS = [
    ("subscribe", {}),
    ("subscribe", {"topic": 7}),
    ("subscribe", {"topic": None}),
    ("subscribe", {"topic": ["room.a"]}),
    ("subscribe", {"topic": "room.a", "since": "1"}),
    ("subscribe", {"topic": "room.a", "since": -1}),
    ("subscribe", {"topic": "room.a", "since": 1.5}),
    ("subscribe", {"topic": "room.a", "since": 2**54}),
    ("subscribe", {"topic": "room.a", "since": True}),
    ("subscribe", {"topic": "room.a", "epoch": 7}),
    ("subscribe", {"topic": "room.a", "qos": 2}),
    ("subscribe", {"topic": "room.a", "qos": "1"}),
    ("subscribe", {"topic": "room.a", "durable": "a b"}),
    ("subscribe", {"topic": "room.a", "durable": ""}),
    ("subscribe", {"topic": "room.a", "presence": 1}),
    ("subscribe", {"topic": "room.*", "presence": "yes"}),
    ("unsubscribe", {}),
    ("publish", {"topic": "room.a", "payload": 1}),
    ("publish", {"topic": "room.a", "messageId": "m"}),
    ("publish", {"messageId": "m", "payload": 1}),
    ("publish", {"topic": "room.a", "messageId": "", "payload": 1}),
    ("publish", {"topic": "room.a", "messageId": 7, "payload": 1}),
    ("publish", {"topic": "room.a", "messageId": "x" * 129, "payload": 1}),
    ("publish", {"topic": "room.a", "messageId": "a\r\nb", "payload": 1}),
    ("publish", {"topic": "room.a", "messageId": " a", "payload": 1}),
    ("ack", {}),
    ("ack", {"topic": "room.a"}),
    ("ack", {"seqNo": 1}),
    ("ack", {"topic": "room.a", "seqNo": "1"}),
    ("resume", {"sessionId": "s"}),
    ("resume", {"lastSeqPerTopic": {}}),
    ("resume", {"sessionId": "s", "lastSeqPerTopic": []}),
    ("resume", {"sessionId": "s", "lastSeqPerTopic": {"room.a": "1"}}),
    ("resume", {"sessionId": "s", "lastSeqPerTopic": {"room.a": -1}}),
    ("replay", {"topic": "room.a"}),
    ("replay", {"topic": "room.a", "fromSeq": -1}),
    ("history", {}),
    ("history", {"topic": "room.a", "limit": 0}),
    ("history", {"topic": "room.a", "limit": 1001}),
    ("history", {"topic": "room.a", "limit": "5"}),
    ("history", {"topic": "room.a", "before": -1}),
    ("request", {"topic": "rpc.a"}),
    ("request", {"payload": 1}),
    ("request", {"topic": "rpc.a", "payload": 1, "timeout": 0}),
    ("request", {"topic": "rpc.a", "payload": 1, "timeout": -1}),
    ("request", {"topic": "rpc.a", "payload": 1, "timeout": 61}),
    ("presence", {}),
    ("refresh", {}),
    ("refresh", {"token": None}),
    ("refresh", {"token": 7}),
]


@pytest.mark.parametrize(("type", "fields"), BAD_FIELDS)
async def test_frame_with_a_missing_or_wrong_field_is_bad_and_the_socket_stays(
    alice: TestClient, type: str, fields: Frame
) -> None:
    await alice.send(type, id="x", **fields)
    error = await alice.expect("error", id="x")
    assert error["code"] == "BAD_FRAME"
    assert error["message"]
    await until_serves(alice)


@pytest.mark.parametrize("frame_id", [1.5, True, None, [], {}, "x" * 129, 2**60])
async def test_frame_with_an_odd_id_is_bad_or_has_none(alice: TestClient, frame_id: Any) -> None:
    await alice.send("ping", id=frame_id)
    await alice.send("ping", id="fence")
    await alice.expect("pong", id="fence")
    before = [frame for frame in alice.frames if frame.get("id") != "fence"][1:]
    if frame_id is None:
        assert before == [{"type": "pong"}]
    else:
        assert [frame.get("code") for frame in before] == ["BAD_FRAME"]
        assert "id" not in before[0]


@pytest.mark.parametrize("frame_id", [0, 1, -1, 2**53, "", "a", "é", "x" * 128])
async def test_id_is_echoed_as_it_is(alice: TestClient, frame_id: int | str) -> None:
    assert await alice.ask("ping", "pong", id=frame_id) == {"type": "pong", "id": frame_id}
    assert (await alice.error("subscribe", id=frame_id))["id"] == frame_id


async def test_unknown_type_is_bad_and_echoes_its_id(alice: TestClient) -> None:
    assert (await alice.error("launch", id=9))["code"] == "BAD_FRAME"
    await until_serves(alice)


async def test_unknown_fields_are_ignored(alice: TestClient) -> None:
    await alice.ask("ping", "pong", whatever={"nested": [1, 2]}, topic=7)


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b'{"type":"ping"}', b"x" * 10_000])
async def test_binary_frame_is_bad_and_the_socket_stays(alice: TestClient, data: bytes) -> None:
    await alice.send_binary(data)
    assert (await alice.expect("error"))["code"] == "BAD_FRAME"
    await until_serves(alice)


@pytest.mark.parametrize("size", [MAX_FRAME - 1, MAX_FRAME])
async def test_frame_up_to_the_limit_is_handled(alice: TestClient, size: int) -> None:
    frame = '{"type":"ping","id":"big","pad":""}'
    await alice.send_text(frame.replace('""', f'"{"x" * (size - len(frame))}"'))
    await alice.expect("pong", id="big")


@pytest.mark.parametrize("size", [MAX_FRAME + 1, 1024**2])
async def test_frame_over_the_limit_closes_1009(site: Running, size: int) -> None:
    async with site.as_user() as client:
        await client.send_text("x" * size)
        await client.expect_close(1009)


async def test_text_that_is_no_utf8_closes_1007_and_only_that_socket(
    site: Running, alice: TestClient
) -> None:
    async with site.as_user() as client:
        await client.send_text(b'{"type":"ping","id":"\xff"}')
        await client.expect_close(1007)
    await until_serves(alice)


async def test_rate_too_many_frames_are_refused_then_taken_again(site: Running) -> None:
    async with site.as_user() as client:
        # At once: while a busy machine sends one by one, as many more would be allowed.
        client.send_raw(b"".join(text_frame(type="ping", id=number) for number in range(3_000)))
        error = await client.expect("error")
        assert error["code"] == "RATE_LIMITED"
        assert isinstance(error["id"], int)

        async def taken() -> bool:
            await client.send("ping", id="again")
            return any(one == {"type": "pong", "id": "again"} for one in client.frames)

        await until(taken)


# Topics.

MALFORMED = [
    "",
    ".",
    "room",
    "room.",
    ".room",
    "room..a",
    "room.a b",
    "room.a\x00",
    "room.a\r\nPUB x 1",
    "room.a\n",
    "room.\u2028",
    "room.é",
    "room.a/b",
    "*",
    ">",
    "*.a",
    "room.>.a",
    "room.a*",
    "room.{user_id}.*",
    "room.{user_id}",
    "room." + "x" * 200,
    "room." + "x" * 10_000,
]
CLOSED = [
    "gateway.auth",
    "gateway.relay.room.a",
    "gateway.control.acl",
    "$SYS.REQ.SERVER.PING",
    "$JS.API.STREAM.DELETE.GATEWAY",
    "$KV.GATEWAY_POSITIONS.1",
    "_INBOX.a.b",
    "other.a",
    "Room.a",
    "gateway.>",
    "$SYS.>",
    "$JS.API.>",
    "_INBOX.>",
    "other.*",
]
WITH_TOPIC: list[tuple[str, Frame]] = [
    ("subscribe", {}),
    ("publish", {"messageId": "m", "payload": 1}),
    ("history", {}),
    ("presence", {}),
    ("request", {"payload": 1}),
]


@pytest.mark.parametrize("topic", [topic for topic in [*MALFORMED, *CLOSED] if topic != "room"])
async def test_topic_malformed_or_closed_is_bad_in_every_frame(
    alice: TestClient, topic: str
) -> None:
    for type, fields in WITH_TOPIC:
        error = await alice.error(type, topic=topic, **fields)
        assert error["code"] == "BAD_TOPIC", type
        assert "\n" not in error["message"]
    await until_serves(alice)


async def test_topic_of_one_open_token_is_just_denied(alice: TestClient) -> None:
    assert (await alice.error("subscribe", topic="room"))["code"] == "ACL_DENIED"


@pytest.mark.parametrize("topic", MALFORMED + CLOSED)
async def test_topic_malformed_or_closed_is_not_subscribed(alice: TestClient, topic: str) -> None:
    assert (await alice.error("unsubscribe", topic=topic))["code"] == "NOT_SUBSCRIBED"
    assert (await alice.error("replay", topic=topic, fromSeq=1))["code"] == "NOT_SUBSCRIBED"
    assert (await alice.error("ack", topic=topic, seqNo=1))["code"] == "NOT_SUBSCRIBED"


async def test_topic_200_bytes_is_taken(alice: TestClient, backend: Broker) -> None:
    topic = new_topic()
    topic += "x" * (200 - len(topic))
    await alice.subscribe(topic)
    await store(backend, topic, 1)
    assert await data_of(alice, topic, 1) == [1]


async def test_topic_space_of_requests_is_not_that_of_events(alice: TestClient) -> None:
    for type, fields in WITH_TOPIC[:4]:
        assert (await alice.error(type, topic="rpc.a", **fields))["code"] == "BAD_TOPIC"
    assert (await alice.error("request", topic="room.a", payload=1))["code"] == "BAD_TOPIC"


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        ("subscribe", {"topic": "user.2.notifications"}),
        ("subscribe", {"topic": "user.11.notifications"}),
        ("subscribe", {"topic": "room.secret.a"}),
        ("history", {"topic": "user.2.notifications"}),
        ("history", {"topic": "room.secret.a"}),
        ("presence", {"topic": "user.2.notifications"}),
        ("publish", {"topic": "user.1.notifications", "messageId": "m", "payload": 1}),
        ("publish", {"topic": "user.2.notifications", "messageId": "m", "payload": 1}),
        ("publish", {"topic": "room.readonly.a", "messageId": "m", "payload": 1}),
        ("request", {"topic": "rpc.secret.a", "payload": 1}),
    ],
)
async def test_topic_no_rule_allows_is_denied_and_named(
    alice: TestClient, type: str, fields: Frame
) -> None:
    error = await alice.error(type, **fields)
    assert error["code"] == "ACL_DENIED"
    assert error["topic"] == fields["topic"]
    assert error.get("messageId") == fields.get("messageId")


# Patterns: room.secret.> is denied to everyone here.


async def test_pattern_is_subscribed_like_a_topic(
    alice: TestClient, backend: Broker, room: str
) -> None:
    (top,) = await store(backend, f"{room}.a", 1)
    subscribed = await alice.subscribe(f"{room}.*")
    assert without(subscribed, "id") == {
        "type": "subscribed",
        "topic": f"{room}.*",
        "seqNo": top,
        "epoch": alice.ready["epoch"],
        "recovered": True,
    }


async def test_pattern_brings_events_with_their_topic_in_stream_order(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(f"{room}.*")
    topics = [f"{room}.{name}" for name in "abacba"]
    for topic in [*topics, room, f"{room}.a.deep"]:
        await store(backend, topic, 1)
    last: dict[str, int] = {}
    for topic in topics:
        message = await alice.expect("message")
        assert (message["topic"], message["pattern"]) == (topic, f"{room}.*")
        # It names the event before it on its own topic.
        assert message["prevSeqNo"] == last.get(topic, 0)
        last[topic] = message["seqNo"]
    await alice.expect_nothing("message")


async def test_pattern_of_ephemeral_topics_brings_what_passes(
    alice: TestClient, backend: Broker
) -> None:
    topic = new_topic("live")
    assert (await alice.subscribe(f"{topic}.>", since=5))["recovered"] is False
    await backend.publish(f"{topic}.a.b", b"1")
    message = await alice.expect("message")
    assert without(message, "ts", "messageId") == {
        "type": "message",
        "topic": f"{topic}.a.b",
        "pattern": f"{topic}.>",
        "data": 1,
    }


async def test_pattern_resumed_brings_what_every_topic_missed(
    site: Running, backend: Broker, room: str
) -> None:
    pattern, one, two = f"{room}.*", f"{room}.one", f"{room}.two"
    async with site.as_user() as client:
        await client.subscribe(pattern)
        await store(backend, one, 1)
        last = (await client.expect("message"))["seqNo"]
    await store(backend, one, 1, start=2)
    await store(backend, two, 1, start=3)
    async with site.as_user() as again:
        resumed = await again.ask(
            "resume",
            "resumed",
            sessionId=client.ready["sessionId"],
            lastSeqPerTopic={pattern: last},
        )
        assert resumed["topics"][pattern]["recovered"] is True
        got = [await again.expect("message") for _ in range(2)]
        assert [(each["topic"], each["data"]) for each in got] == [(one, 2), (two, 3)]
        await store(backend, two, 1, start=4)
        assert await data_of(again, two, 1) == [4]
    async with site.as_user() as by_topic:
        await by_topic.send(
            "resume", sessionId=client.ready["sessionId"], lastSeqPerTopic={one: last, two: 0}
        )
        assert await data_of(by_topic, one, 1) == [2]
        assert await data_of(by_topic, two, 2) == [3, 4]


async def test_pattern_left_brings_nothing_more(
    alice: TestClient, bob: TestClient, backend: Broker, room: str
) -> None:
    for client in (alice, bob):
        await client.subscribe(f"{room}.*")
    assert (await alice.unsubscribe(f"{room}.*"))["topic"] == f"{room}.*"
    await store(backend, f"{room}.a", 1)
    assert await data_of(bob, f"{room}.a", 1) == [1]
    await alice.expect_nothing("message")


async def test_pattern_beside_one_of_its_topics_are_two_subscriptions(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(f"{room}.a")
    await alice.subscribe(f"{room}.*")
    await store(backend, f"{room}.a", 1)
    got = [await alice.expect("message", topic=f"{room}.a") for _ in range(2)]
    assert {each.get("pattern") for each in got} == {None, f"{room}.*"}
    assert len({each["seqNo"] for each in got}) == 1
    await alice.unsubscribe(f"{room}.*")
    await store(backend, f"{room}.a", 1, start=2)
    assert "pattern" not in await alice.expect("message", topic=f"{room}.a")
    await alice.expect_nothing("message")


@pytest.mark.parametrize(
    "pattern", ["room.>", "room.*.a", "room.secret.*", "user.>", "user.*.notifications", "user.2.>"]
)
async def test_pattern_of_which_a_part_is_not_allowed_is_denied(
    alice: TestClient, pattern: str
) -> None:
    for type in ("subscribe", "history"):
        error = await alice.error(type, topic=pattern)
        assert (error["code"], error["topic"]) == ("ACL_DENIED", pattern)


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        ("publish", {"messageId": "m", "payload": 1}),
        ("presence", {}),
        ("request", {"payload": 1}),
    ],
)
async def test_pattern_anywhere_but_in_a_subscription_is_bad(
    alice: TestClient, type: str, fields: Frame
) -> None:
    assert (await alice.error(type, topic="room.*", **fields))["code"] == "BAD_TOPIC"


async def test_pattern_history_is_that_of_all_its_topics(
    alice: TestClient, backend: Broker, room: str
) -> None:
    for number, name in enumerate("abab"):
        await store(backend, f"{room}.{name}", 1, start=number)
    reply = await alice.ask("history", "reply", topic=f"{room}.*", limit=3)
    assert [(each["topic"], each["data"]) for each in reply["data"]] == [
        (f"{room}.b", 1),
        (f"{room}.a", 2),
        (f"{room}.b", 3),
    ]


async def test_pattern_too_many_are_refused_though_topics_are_not(site: Running, room: str) -> None:
    async with site.as_user() as client:
        for number in range(MAX_PATTERNS):
            await client.subscribe(f"{room}.{number}.*")
        error = await client.error("subscribe", topic=f"{room}.*")
        assert error["code"] == "TOO_MANY_SUBSCRIPTIONS"
        await client.subscribe(room)
        await client.unsubscribe(f"{room}.0.*")
        await client.subscribe(f"{room}.*")


async def test_pattern_unacknowledged_is_redelivered(
    hasty: Gateway, impatient: Broker, room: str
) -> None:
    async with hasty.client(hasty.token()) as client:
        await client.subscribe(f"{room}.*", qos=1)
        await store(impatient, f"{room}.a", 1)
        await client.expect("message", topic=f"{room}.a")
        again = await client.expect("message", topic=f"{room}.a", redelivered=True)
        assert again["pattern"] == f"{room}.*"
        await client.send("ack", topic=f"{room}.*", seqNo=again["seqNo"])
        await until_serves(client)
        await store(impatient, f"{room}.b", 1)
        assert (await client.expect("message", topic=f"{room}.b"))["data"] == 1


async def test_pattern_durable_goes_on_after_what_was_acknowledged(
    site: Running, backend: Broker, room: str
) -> None:
    async with site.as_user() as client:
        await client.subscribe(f"{room}.*", durable="phone")
        await store(backend, f"{room}.a", 1)
        message = await client.expect("message")
        await client.send("ack", topic=f"{room}.*", seqNo=message["seqNo"])
        await until_serves(client)
    await store(backend, f"{room}.b", 1, start=2)

    async def goes_on() -> bool:
        async with site.as_user() as again:
            await again.subscribe(f"{room}.*", durable="phone")
            return (await again.expect("message"))["data"] == 2

    await until(goes_on)


# Subscribe and unsubscribe.


async def test_subscribe_empty_topic_has_no_top(alice: TestClient, room: str) -> None:
    subscribed = await alice.subscribe(room)
    assert without(subscribed, "id") == {
        "type": "subscribed",
        "topic": room,
        "seqNo": 0,
        "epoch": alice.ready["epoch"],
        "recovered": True,
    }


async def test_subscribe_gets_what_follows_and_not_what_was(
    alice: TestClient, backend: Broker, room: str
) -> None:
    before = await store(backend, room, 3)
    assert (await alice.subscribe(room))["seqNo"] == before[-1]
    (sequence,) = await store(backend, room, 1, start=4)
    message = await alice.expect("message")
    assert without(message, "ts") == {
        "type": "message",
        "topic": room,
        "seqNo": sequence,
        "prevSeqNo": before[-1],
        "messageId": str(sequence),
        "data": 4,
    }
    assert abs(message["ts"] / 1000 - time.time()) < 60


async def test_subscribe_twice_answers_twice_and_delivers_once(
    alice: TestClient, backend: Broker, room: str
) -> None:
    assert (await alice.subscribe(room))["id"] != (await alice.subscribe(room))["id"]
    await store(backend, room, 2)
    assert await data_of(alice, room, 2) == [1, 2]
    await alice.expect_nothing("message")


async def test_subscribe_long_topic_is_delivered(alice: TestClient, backend: Broker) -> None:
    """Its group name is a hash."""
    topic = new_topic() + "." + "y" * 120
    await alice.subscribe(topic)
    await store(backend, topic, 1)
    assert await data_of(alice, topic, 1) == [1]


async def test_subscribe_own_notifications_by_the_default_rule(
    alice: TestClient, bob: TestClient, backend: Broker
) -> None:
    await alice.subscribe("user.1.notifications")
    await bob.subscribe("user.2.notifications")
    await store(backend, "user.1.notifications", 1, start=100)
    await store(backend, "user.2.notifications", 1, start=200)
    assert (await alice.expect("message"))["data"] == 100
    assert (await bob.expect("message"))["data"] == 200
    await alice.expect_nothing("message")
    await bob.expect_nothing("message")


async def test_subscribe_too_many_is_refused_until_one_is_left(site: Running) -> None:
    async with site.as_user() as client:
        topics = [new_topic() for _ in range(MAX_SUBSCRIPTIONS + 1)]
        for topic in topics[:-1]:
            await client.subscribe(topic)
        assert (await client.error("subscribe", topic=topics[-1]))[
            "code"
        ] == "TOO_MANY_SUBSCRIPTIONS"
        await client.subscribe(topics[0])
        await client.unsubscribe(topics[0])
        await client.subscribe(topics[-1])


async def test_unsubscribe_is_answered_and_ends_the_messages(
    alice: TestClient, bob: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(room)
    await bob.subscribe(room)
    assert without(await alice.unsubscribe(room), "id") == {
        "type": "unsubscribed",
        "topic": room,
        "reason": "client",
    }
    await store(backend, room, 1)
    assert await data_of(bob, room, 1) == [1]
    await alice.expect_nothing("message")


async def test_unsubscribe_not_held_is_told(alice: TestClient, room: str) -> None:
    error = await alice.error("unsubscribe", topic=room)
    assert (error["code"], error["topic"]) == ("NOT_SUBSCRIBED", room)
    await alice.subscribe(room)
    await alice.unsubscribe(room)
    assert (await alice.error("unsubscribe", topic=room))["code"] == "NOT_SUBSCRIBED"


async def test_subscribe_again_after_leaving_goes_on(
    alice: TestClient, backend: Broker, room: str
) -> None:
    for number in range(1, 4):
        await alice.subscribe(room)
        await store(backend, room, 1, start=number)
        assert await data_of(alice, room, 1) == [number]
        await alice.unsubscribe(room)


@pytest.mark.parametrize(
    ("payload", "encoding", "data"),
    [
        (b'{"a": [1, null]}', None, {"a": [1, None]}),
        (b'"text"', None, "text"),
        (b"null", None, None),
        ('"é\u2028"'.encode(), None, "é\u2028"),
        (b"NaN", "base64", "TmFO"),
        (b"\xff\x00", "base64", "/wA="),
        (b"", "base64", ""),
        (b'{"type":"websocket.close"}', None, {"type": "websocket.close"}),
        (b'{"type":"error","code":"INTERNAL"}', None, {"type": "error", "code": "INTERNAL"}),
    ],
)
async def test_message_payload_of_any_kind_is_passed_on(
    alice: TestClient,
    backend: Broker,
    room: str,
    payload: bytes,
    encoding: str | None,
    data: Any,
) -> None:
    await alice.subscribe(room)
    await backend.store(room, payload, headers=None, timeout=30)
    message = await alice.expect("message")
    assert message.get("encoding") == encoding
    assert message["data"] == data


async def test_message_id_is_the_publishers(alice: TestClient, backend: Broker, room: str) -> None:
    await alice.subscribe(room)
    await backend.store(room, b"1", headers={"Nats-Msg-Id": "mine"}, timeout=30)
    assert (await alice.expect("message"))["messageId"] == "mine"


async def test_message_on_an_ephemeral_topic_has_no_sequence(
    alice: TestClient, backend: Broker
) -> None:
    topic = new_topic("live")
    subscribed = await alice.subscribe(topic)
    assert (subscribed["seqNo"], subscribed["recovered"]) == (0, True)
    await backend.publish(topic, b"7")
    message = await alice.expect("message")
    assert set(message) == {"type", "topic", "messageId", "ts", "data"}
    assert message["data"] == 7


# Publish.


async def test_publish_is_stored_and_delivered(
    alice: TestClient, bob: TestClient, room: str
) -> None:
    await bob.subscribe(room)
    ack = await alice.publish(room, {"text": "hi"}, message_id="m1")
    assert without(ack, "id", "seqNo") == {"type": "ack", "messageId": "m1", "status": "ok"}
    message = await bob.expect("message")
    assert (message["seqNo"], message["messageId"]) == (ack["seqNo"], "m1")
    assert message["data"] == {"text": "hi"}


async def test_publish_same_message_id_is_stored_once(
    alice: TestClient, bob: TestClient, room: str
) -> None:
    await bob.subscribe(room)
    first = await alice.publish(room, 1, message_id="m2")
    again = await alice.publish(room, 2, message_id="m2")
    assert (again["status"], again["seqNo"]) == ("duplicate", first["seqNo"])
    await alice.publish(room, 3)
    assert await data_of(bob, room, 2) == [1, 3]


async def test_publish_same_message_id_of_two_users_is_stored_twice(
    alice: TestClient, bob: TestClient, room: str
) -> None:
    assert (await alice.publish(room, 1, message_id="same"))["status"] == "ok"
    assert (await bob.publish(room, 2, message_id="same"))["status"] == "ok"


async def test_publish_same_message_id_after_a_reconnect_is_stored_once(
    site: Running, room: str
) -> None:
    async with site.as_user() as client:
        first = await client.publish(room, 1, message_id="m3")
        client.abort()
    async with site.as_user() as client:
        again = await client.publish(room, 1, message_id="m3")
    assert (again["status"], again["seqNo"]) == ("duplicate", first["seqNo"])


async def test_publish_on_an_ephemeral_topic_is_delivered_unstored(
    alice: TestClient, bob: TestClient
) -> None:
    topic = new_topic("live")
    await bob.subscribe(topic)
    ack = await alice.publish(topic, 1, message_id="m4")
    assert without(ack, "id") == {"type": "ack", "messageId": "m4", "status": "ok"}
    message = await bob.expect("message")
    assert (message["messageId"], message["data"]) == ("m4", 1)
    assert "seqNo" not in message


async def test_publish_many_at_once_are_answered_and_stored_in_order(
    alice: TestClient, bob: TestClient, room: str
) -> None:
    """Refused ones among them keep their place too."""
    await bob.subscribe(room)
    for number in range(200):
        topic = "room.readonly.a" if number % 10 == 5 else room
        await alice.send("publish", topic=topic, messageId=f"n{number}", payload=number, id=number)
    await alice.expect("ack", id=199)
    answers = [frame for frame in alice.frames if isinstance(frame.get("id"), int)]
    assert [frame["id"] for frame in answers] == list(range(200))
    assert [one["id"] for one in answers if one["type"] == "error"] == list(range(5, 200, 10))
    sequences = [frame["seqNo"] for frame in answers if frame["type"] == "ack"]
    assert sequences == sorted(sequences)
    wanted = [number for number in range(200) if number % 10 != 5]
    assert await data_of(bob, room, len(wanted)) == wanted


@pytest.mark.parametrize(
    "payload", ['{"a":1e5}', "0", '"\\u2028"', "[]", '{"type":"websocket.receive"}', "-0.0"]
)
async def test_publish_payload_of_any_json_arrives_as_it_is(
    alice: TestClient, room: str, payload: str
) -> None:
    await alice.subscribe(room)
    await alice.send_text(
        f'{{"type":"publish","topic":"{room}","messageId":"{room}","payload":{payload}}}'
    )
    assert (await alice.expect("message"))["data"] == json.loads(payload)


@pytest.mark.parametrize(
    "payload", ["NaN", "1e999", "-Infinity", '"\\ud800"', "{'a':1}", "[1,]", "9" * 5000]
)
async def test_publish_payload_that_browsers_cannot_hold_is_bad(
    alice: TestClient, room: str, payload: str
) -> None:
    await alice.subscribe(room)
    await alice.send_text(
        f'{{"type":"publish","id":1,"topic":"{room}","messageId":"p","payload":{payload}}}'
    )
    assert (await alice.expect("error"))["code"] == "BAD_FRAME"
    await alice.expect_nothing("message")


async def test_publish_at_the_limit_passes_and_over_it_is_too_large(
    alice: TestClient, room: str
) -> None:
    await alice.publish(room, "x" * (MAX_PAYLOAD - 2))
    error = await alice.error(
        "publish", topic=room, messageId="big", payload="x" * (MAX_PAYLOAD - 1)
    )
    assert (error["code"], error["topic"], error["messageId"]) == ("TOO_LARGE", room, "big")
    error = await alice.error("request", topic="rpc.a", payload="x" * (MAX_PAYLOAD - 1))
    assert error["code"] == "TOO_LARGE"


# Since, replay, history.


@pytest.mark.parametrize("behind", [0, 1, 5, 10])
async def test_subscribe_since_sends_what_follows_it(
    alice: TestClient, backend: Broker, room: str, behind: int
) -> None:
    sequences = [0, *await store(backend, room, 10)]
    since = sequences[10 - behind]
    subscribed = await alice.subscribe(room, since=since, epoch=alice.ready["epoch"])
    assert subscribed["recovered"] is True
    assert subscribed["seqNo"] == sequences[-1]
    await store(backend, room, 1, start=11)
    wanted = list(range(11 - behind, 12))
    assert await data_of(alice, room, len(wanted)) == wanted
    await alice.expect_nothing("message")
    assert not [frame for frame in alice.frames if frame["type"] in ("gap", "reset")]


async def test_subscribe_since_answer_comes_before_the_messages(
    site: Running, backend: Broker, room: str
) -> None:
    await store(backend, room, 3)
    async with TestClient(site.ws_url(), connect=False, read=False) as client:
        await client.send("connect", token=site.tokens["alice"])
        await client.send("subscribe", topic=room, since=0)
        types = [json.loads(await client.recv())["type"] for _ in range(5)]
    assert types == ["ready", "subscribed", "message", "message", "message"]


async def test_subscribe_since_of_another_topic_sends_what_follows_it(
    alice: TestClient, backend: Broker, room: str
) -> None:
    """A client that never got anything there may count from any event it knows."""
    await store(backend, room, 2)
    (elsewhere,) = await store(backend, new_topic(), 1)
    await store(backend, room, 2, start=3)
    await alice.subscribe(room, since=elsewhere)
    assert await data_of(alice, room, 2) == [3, 4]


async def test_subscribe_since_beyond_the_end_is_reset(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await store(backend, room, 3)
    subscribed = await alice.subscribe(room, since=2**40)
    assert subscribed["recovered"] is False
    reset = await alice.expect("reset")
    assert (reset["topic"], reset["epoch"]) == (room, alice.ready["epoch"])
    assert await data_of(alice, room, 3) == [1, 2, 3]
    await store(backend, room, 1, start=4)
    assert await data_of(alice, room, 1) == [4]


async def test_subscribe_since_of_another_epoch_is_reset(
    alice: TestClient, backend: Broker, room: str
) -> None:
    sequences = await store(backend, room, 3)
    subscribed = await alice.subscribe(room, since=sequences[1], epoch="2020-01-01T00:00:00Z")
    assert subscribed["recovered"] is False
    await alice.expect("reset", topic=room)
    assert await data_of(alice, room, 3) == [1, 2, 3]


async def test_subscribe_since_before_the_limits_tells_the_gap(
    alice: TestClient, backend: Broker, room: str
) -> None:
    sequences = await store(backend, room, PER_TOPIC + 10)
    subscribed = await alice.subscribe(room, since=sequences[4])
    assert subscribed["recovered"] is False
    gap = await alice.expect("gap")
    assert gap["topic"] == room
    assert gap["fromSeq"] == sequences[4] + 1
    assert gap["toSeq"] == sequences[10] - 1
    assert await data_of(alice, room, PER_TOPIC) == list(range(11, PER_TOPIC + 11))
    await store(backend, room, 1, start=100)
    assert await data_of(alice, room, 1) == [100]


async def test_subscribe_since_on_a_held_topic_starts_again_from_there(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(room)
    sequences = await store(backend, room, 3)
    assert await data_of(alice, room, 3) == [1, 2, 3]
    await alice.subscribe(room, since=sequences[0])
    assert await data_of(alice, room, 2) == [2, 3]
    await store(backend, room, 1, start=4)
    assert await data_of(alice, room, 1) == [4]
    await alice.expect_nothing("message")


async def test_subscribe_since_while_published_has_no_seam(
    site: Running, backend: Broker, room: str
) -> None:
    publishing = asyncio.ensure_future(store(backend, room, PER_TOPIC))
    clients = []
    while not publishing.done():
        client = site.as_user()
        await client.__aenter__()
        clients.append(client)
        await client.subscribe(room, since=0)
    for client in clients:
        assert await data_of(client, room, PER_TOPIC) == list(range(1, PER_TOPIC + 1))
        assert not any(receipt.hole for receipt in client.recorder.receipts[room])
        await client.close()
    assert clients


async def test_replay_sends_again_and_goes_on(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(room)
    sequences = await store(backend, room, 5)
    assert await data_of(alice, room, 5) == [1, 2, 3, 4, 5]
    await alice.send("replay", topic=room, fromSeq=sequences[2])
    assert await data_of(alice, room, 3) == [3, 4, 5]
    await store(backend, room, 1, start=6)
    assert await data_of(alice, room, 1) == [6]


async def test_replay_from_zero_sends_everything(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await store(backend, room, 3)
    await alice.subscribe(room)
    await alice.send("replay", topic=room, fromSeq=0)
    assert await data_of(alice, room, 3) == [1, 2, 3]


async def test_replay_beyond_the_end_sends_nothing_and_hides_nothing(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(room)
    (sequence,) = await store(backend, room, 1)
    assert await data_of(alice, room, 1) == [1]
    await alice.send("replay", topic=room, fromSeq=sequence + 1000)
    await until_serves(alice)
    await store(backend, room, 2, start=2)
    assert await data_of(alice, room, 2) == [2, 3]


async def test_replay_discarded_is_told_as_a_gap(
    alice: TestClient, backend: Broker, room: str
) -> None:
    sequences = await store(backend, room, PER_TOPIC + 5)
    await alice.subscribe(room)
    await alice.send("replay", topic=room, fromSeq=sequences[0])
    gap = await alice.expect("gap", topic=room)
    assert gap["toSeq"] == sequences[5] - 1
    assert gap["fromSeq"] <= sequences[0]
    assert (await data_of(alice, room, PER_TOPIC))[0] == 6


async def test_history_empty_is_empty(alice: TestClient, room: str) -> None:
    reply = await alice.ask("history", "reply", topic=room, id="h")
    assert reply == {"type": "reply", "id": "h", "data": []}


async def test_history_pages_backwards_newest_last(
    alice: TestClient, backend: Broker, room: str
) -> None:
    sequences = await store(backend, room, 25)
    page = (await alice.ask("history", "reply", topic=room, limit=10))["data"]
    assert [one["data"] for one in page] == list(range(16, 26))
    assert [one["seqNo"] for one in page] == sequences[15:]
    assert all(one["type"] == "message" and one["topic"] == room for one in page)
    found = page
    while page:
        before = page[0]["seqNo"]
        page = (await alice.ask("history", "reply", topic=room, limit=10, before=before))["data"]
        found = page + found
    assert [one["data"] for one in found] == list(range(1, 26))


async def test_history_without_a_limit_is_the_latest(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await store(backend, room, 30)
    page = (await alice.ask("history", "reply", topic=room))["data"]
    assert [one["data"] for one in page] == list(range(1, 31))


async def test_history_on_an_ephemeral_topic_is_empty(alice: TestClient) -> None:
    assert (await alice.ask("history", "reply", topic=new_topic("live")))["data"] == []


async def test_history_does_not_subscribe(alice: TestClient, backend: Broker, room: str) -> None:
    await alice.ask("history", "reply", topic=room)
    assert (await alice.error("unsubscribe", topic=room))["code"] == "NOT_SUBSCRIBED"


# Resume.


async def left(site: Running, *topics: str) -> str:
    """Subscribe to topics, break the connection and return its sessionId."""
    async with site.as_user() as client:
        for topic in topics:
            await client.subscribe(topic)
        session_id: str = client.ready["sessionId"]
        client.abort()
    return session_id


async def test_resume_sends_what_was_missed_on_every_topic(site: Running, backend: Broker) -> None:
    one, two = new_topic(), new_topic()
    first = await store(backend, one, 2)
    session_id = await left(site, one, two)
    last = await store(backend, one, 2, start=3)
    (only,) = await store(backend, two, 1)
    async with site.as_user() as client:
        resumed = await client.ask(
            "resume",
            "resumed",
            id="r",
            sessionId=session_id,
            lastSeqPerTopic={one: first[-1], two: 0},
        )
        assert resumed == {
            "type": "resumed",
            "id": "r",
            "sessionId": session_id,
            "topics": {
                one: {"recovered": True, "from": first[-1], "to": last[-1]},
                two: {"recovered": True, "from": 0, "to": only},
            },
        }
        assert await data_of(client, one, 2) == [3, 4]
        assert await data_of(client, two, 1) == [1]
        await store(backend, one, 1, start=5)
        assert await data_of(client, one, 1) == [5]
        await client.expect_nothing("message")


async def test_connect_with_the_session_resumes_at_once(
    site: Running, backend: Broker, room: str
) -> None:
    session_id = await left(site, room)
    (sequence,) = await store(backend, room, 1)
    fields = {"sessionId": session_id, "lastSeqPerTopic": {room: 0}}
    async with site.as_user(connect_fields=fields) as client:
        resumed = await client.expect("resumed")
        assert resumed["topics"][room] == {"recovered": True, "from": 0, "to": sequence}
        assert await data_of(client, room, 1) == [1]
        types = [frame["type"] for frame in client.frames]
        assert types.index("ready") < types.index("resumed")


@pytest.mark.parametrize("session_id", ["", "forged", "é", "A" * 60, "x" * 5000, "====", "\x00"])
async def test_resume_forged_session_is_expired(alice: TestClient, session_id: str) -> None:
    error = await alice.error("resume", sessionId=session_id, lastSeqPerTopic={"room.a": 0})
    assert error["code"] == "SESSION_EXPIRED"
    assert (await alice.error("unsubscribe", topic="room.a"))["code"] == "NOT_SUBSCRIBED"


async def test_resume_changed_session_is_expired(alice: TestClient) -> None:
    session_id = alice.ready["sessionId"]
    changed = session_id[:-2] + ("A" if session_id[-2] != "A" else "B") + session_id[-1]
    error = await alice.error("resume", sessionId=changed, lastSeqPerTopic={})
    assert error["code"] == "SESSION_EXPIRED"


async def test_resume_session_of_another_user_is_expired_and_leaks_nothing(
    site: Running, bob: TestClient, backend: Broker
) -> None:
    topic = f"user.{ALICE}.{new_topic('x').partition('.')[2]}"
    session_id = await left(site, topic)
    await store(backend, topic, 1)
    error = await bob.error("resume", sessionId=session_id, lastSeqPerTopic={topic: 0})
    assert error["code"] == "SESSION_EXPIRED"
    await bob.expect_nothing("message")


async def test_connect_with_a_forged_session_is_connected_and_told(
    site: Running, backend: Broker, room: str
) -> None:
    fields = {"sessionId": "forged", "lastSeqPerTopic": {room: 0}}
    async with site.as_user(connect_fields=fields) as client:
        assert (await client.expect("error"))["code"] == "SESSION_EXPIRED"
        await client.subscribe(room)
        await store(backend, room, 1)
        assert await data_of(client, room, 1) == [1]


async def test_resume_topic_that_is_not_allowed_is_told_and_the_rest_resumed(
    site: Running, backend: Broker, room: str
) -> None:
    session_id = await left(site, room)
    await store(backend, room, 1)
    wanted = {room: 0, "user.2.notifications": 0, "gateway.auth": 0}
    async with site.as_user() as client:
        resumed = await client.ask(
            "resume", "resumed", sessionId=session_id, lastSeqPerTopic=wanted
        )
        assert set(resumed["topics"]) == {room}
        codes = {one["topic"]: one["code"] for one in client.frames if one["type"] == "error"}
        assert codes == {"user.2.notifications": "ACL_DENIED", "gateway.auth": "BAD_TOPIC"}


async def test_resume_before_the_limits_tells_the_gap(
    site: Running, backend: Broker, room: str
) -> None:
    # Nobody here holds the topic meanwhile, so it can only come from the stream.
    session_id = await left(site)
    sequences = await store(backend, room, PER_TOPIC + 5)
    async with site.as_user() as client:
        resumed = await client.ask(
            "resume", "resumed", sessionId=session_id, lastSeqPerTopic={room: sequences[0]}
        )
        assert resumed["topics"][room]["recovered"] is False
        gap = await client.expect("gap")
        assert (gap["fromSeq"], gap["toSeq"]) == (sequences[0] + 1, sequences[5] - 1)
        assert await data_of(client, room, 3) == [6, 7, 8]


async def test_resume_after_a_short_absence_loses_nothing_to_the_limits(
    site: Running, backend: Broker, room: str
) -> None:
    """This process has kept the last events of a topic that it held until just now."""
    session_id = await left(site, room)
    await store(backend, room, PER_TOPIC + 5)
    async with site.as_user() as client:
        resumed = await client.ask(
            "resume", "resumed", sessionId=session_id, lastSeqPerTopic={room: 0}
        )
        assert resumed["topics"][room]["recovered"] is True
        assert await data_of(client, room, PER_TOPIC + 5) == list(range(1, PER_TOPIC + 6))


# QoS 1 and durable positions.


async def test_qos1_acknowledged_is_not_redelivered(
    hasty: Gateway, impatient: Broker, room: str
) -> None:
    async with (
        hasty.client(hasty.token()) as alice,
        hasty.client(hasty.token("bob")) as bob,
    ):
        await alice.subscribe(room, qos=1)
        await bob.subscribe(room, qos=1)
        sequences = await store(impatient, room, 2)
        first = await alice.expect("message")
        await alice.expect("message", seqNo=sequences[1])
        await alice.send("ack", messageId=first["messageId"])
        await alice.send("ack", topic=room, seqNo=sequences[1])
        await until_serves(alice)
        # Repeats from before it had that, on a busy machine, are none.
        before = len(alice.recorder.ids(room))
        # The fence: whoever does not acknowledge is sent both again and again.
        repeats = len(bob.recorder.ids(room)) + 4
        await until(lambda: len(bob.recorder.ids(room)) >= repeats)
        await until_serves(alice)
        assert len(alice.recorder.ids(room)) == before


async def test_qos1_unacknowledged_is_redelivered_then_closed(
    hasty: Gateway, impatient: Broker, room: str
) -> None:
    async with hasty.client(hasty.token()) as client:
        await client.subscribe(room, qos=1)
        await store(impatient, room, 1)
        first = await client.expect("message")
        again = await client.expect("message")
        assert "redelivered" not in first
        assert again == {**first, "redelivered": True}
        await client.expect_close(4005)


async def test_qos1_window_holds_back_the_rest(
    alice: TestClient, backend: Broker, room: str
) -> None:
    sequences = await store(backend, room, WINDOW * 2)
    await alice.subscribe(room, qos=1, since=0)
    assert await data_of(alice, room, WINDOW) == list(range(1, WINDOW + 1))
    await alice.expect_nothing("message", seqNo=sequences[WINDOW])
    await alice.send("ack", topic=room, seqNo=sequences[WINDOW - 1])
    for sequence in sequences[WINDOW:]:
        await alice.expect("message", seqNo=sequence)
    await alice.send("ack", topic=room, seqNo=sequences[-1])


async def test_ack_not_held_is_told(alice: TestClient, room: str) -> None:
    assert (await alice.error("ack", topic=room, seqNo=1))["code"] == "NOT_SUBSCRIBED"


async def test_ack_of_what_is_unknown_is_ignored(alice: TestClient, room: str) -> None:
    await alice.subscribe(room, qos=1)
    await alice.send("ack", messageId="unknown")
    await alice.send("ack", topic=room, seqNo=2**40)
    await alice.expect_nothing("error")


async def test_durable_goes_on_after_what_was_acknowledged(
    site: Running, backend: Broker, room: str
) -> None:
    async with site.as_user() as client:
        await client.subscribe(room, durable="phone")
        sequences = await store(backend, room, 4)
        assert await data_of(client, room, 4) == [1, 2, 3, 4]
        await client.send("ack", topic=room, seqNo=sequences[1])
        await until_serves(client)
    await store(backend, room, 1, start=5)
    async with site.as_user() as client:
        await client.subscribe(room, durable="phone")
        assert await data_of(client, room, 3) == [3, 4, 5]
        await client.send("ack", topic=room, seqNo=2**40)
        # Another name has a position of its own.
        await client.unsubscribe(room)
        await client.subscribe(room, durable="tablet")
        await client.expect_nothing("message")


# Presence and requests.


async def present(client: TestClient, topic: str) -> list[Frame]:
    """Return who is on a topic."""
    members: list[Frame] = (await client.ask("presence", "reply", topic=topic))["data"]
    return members


async def test_presence_tells_users_and_their_sockets(
    site: Running, alice: TestClient, bob: TestClient, room: str
) -> None:
    assert await present(alice, room) == []
    await alice.subscribe(room)
    async with site.as_user() as second:
        await second.subscribe(room)
        await bob.subscribe(room)

        # Where nobody watches, gateways have a quarter of a second to answer who is there; a busy
        # one does so when it is asked again.
        async def counted() -> bool:
            return await present(bob, room) == [
                {"userId": ALICE, "connections": 2, "info": {"name": "alice"}},
                {"userId": BOB, "connections": 1, "info": {"name": "bob"}},
            ]

        await until(counted, what="three sockets")
    await bob.unsubscribe(room)

    async def alice_alone() -> bool:
        return await present(alice, room) == [
            {"userId": ALICE, "connections": 1, "info": {"name": "alice"}}
        ]

    await until(alice_alone)


JOINED = "joined"


async def changes(client: TestClient, topic: str, count: int) -> list[tuple[str, str]]:
    """Return the next joins and leaves of a topic: `joined` or `left`, and the user."""
    found: list[tuple[str, str]] = []
    while len(found) < count:
        frame = await client.expect("presence", topic=topic)
        assert set(frame) == {"type", "topic", "joined", "left"}
        found += [(JOINED, one["userId"]) for one in frame["joined"]]
        found += [("left", user_id) for user_id in frame["left"]]
    return found


async def test_presence_subscribed_tells_who_comes_and_goes(
    alice: TestClient, bob: TestClient, room: str
) -> None:
    await alice.subscribe(room, presence=True)
    assert [one["userId"] for one in await present(alice, room)] == [ALICE]
    await bob.subscribe(room)
    frame = await alice.expect("presence")
    assert frame == {
        "type": "presence",
        "topic": room,
        "joined": [{"userId": BOB, "info": {"name": "bob"}}],
        "left": [],
    }
    assert [one["userId"] for one in await present(alice, room)] == [ALICE, BOB]
    await bob.unsubscribe(room)
    assert await changes(alice, room, 1) == [("left", BOB)]
    assert [one["userId"] for one in await present(alice, room)] == [ALICE]


async def test_presence_closed_socket_leaves(site: Running, alice: TestClient, room: str) -> None:
    await alice.subscribe(room, presence=True)
    await present(alice, room)
    for end in (TestClient.close, lambda client: client.abort()):
        async with site.as_user("bob") as client:
            await client.subscribe(room)
            assert await changes(alice, room, 1) == [(JOINED, BOB)]
            if (ending := end(client)) is not None:
                await ending
            assert await changes(alice, room, 1) == [("left", BOB)]


async def test_presence_back_within_the_grace_is_not_told(site: Running, alice: TestClient) -> None:
    async def one_of_bob(room: str) -> bool:
        mine = [one["connections"] for one in await present(alice, room) if one["userId"] == BOB]
        return mine == [1]

    async def back_in_time() -> bool:
        room, fence = new_topic(), new_topic()
        for topic in (room, fence):
            await alice.subscribe(topic, presence=True)
            await present(alice, topic)
        async with site.as_user("bob") as client:
            await client.subscribe(room)
            assert await changes(alice, room, 1) == [(JOINED, BOB)]
            left = time.monotonic()
        async with site.as_user("bob") as client:
            # Told after whatever would be told of the close.
            await client.subscribe(fence)
            assert await changes(alice, fence, 1) == [(JOINED, BOB)]
            await client.subscribe(room)
            in_time = time.monotonic() - left < GRACE
            if in_time:
                await until(lambda: one_of_bob(room))
                await alice.expect_nothing("presence", topic=room)
        for topic in (room, fence):
            await alice.unsubscribe(topic)
        return in_time  # else this machine was too busy for it

    await until(back_in_time, 60)


async def test_presence_not_asked_for_is_not_told(
    alice: TestClient, bob: TestClient, room: str
) -> None:
    await alice.subscribe(room, presence=True)
    await present(alice, room)
    await bob.subscribe(room)
    assert await changes(alice, room, 1) == [(JOINED, BOB)]
    await bob.expect_nothing("presence")


async def test_presence_asked_for_later_and_given_up(
    site: Running, alice: TestClient, bob: TestClient, room: str
) -> None:
    """By subscribing again, which delivers nothing twice."""
    await alice.subscribe(room)
    await alice.subscribe(room, presence=True)
    async with site.as_user() as other:
        await other.subscribe(room, presence=True)
        await present(other, room)
        await bob.subscribe(room)
        assert await changes(alice, room, 1) == [(JOINED, BOB)]
        await alice.subscribe(room)
        await bob.unsubscribe(room)
        assert await changes(other, room, 2) == [(JOINED, BOB), ("left", BOB)]
    await alice.expect_nothing("presence")


async def test_presence_taken_away_with_the_topic(
    site: Running, alice: TestClient, bob: TestClient, room: str
) -> None:
    for client in (alice, bob):
        await client.subscribe(room, presence=True)
    await present(bob, room)
    await deny(site, room, told=True)
    await alice.expect("unsubscribed")
    assert await changes(bob, room, 1) == [("left", ALICE)]
    await alice.expect_nothing("presence")


async def test_presence_of_an_ephemeral_topic(alice: TestClient, bob: TestClient) -> None:
    topic = new_topic("live")
    await alice.subscribe(topic, presence=True)
    await present(alice, topic)
    await bob.subscribe(topic)
    assert await changes(alice, topic, 1) == [(JOINED, BOB)]


async def test_presence_of_a_pattern_is_bad(alice: TestClient, room: str) -> None:
    error = await alice.error("subscribe", topic=f"{room}.*", presence=True)
    assert (error["code"], error["topic"]) == ("BAD_TOPIC", f"{room}.*")
    assert (await alice.error("unsubscribe", topic=f"{room}.*"))["code"] == "NOT_SUBSCRIBED"


Respond = Callable[[Message], Awaitable[None]]


async def serve(backend: Broker, subject: str, reply: Callable[[Message], bytes | None]) -> None:
    """Answer requests on a subject with what `reply` returns; None: do not."""

    async def answer(message: Message) -> None:
        data = reply(message)
        if data is not None:
            await backend.publish(message.reply, data)

    await backend.subscribe(subject, answer)
    await backend.flush()


async def test_request_returns_the_backends_reply(alice: TestClient, backend: Broker) -> None:
    subject = new_topic("rpc")
    asked: list[Message] = []

    def reply(message: Message) -> bytes:
        asked.append(message)
        return b'{"echo":%b}' % message.data

    await serve(backend, subject, reply)
    answer = await alice.ask("request", "reply", topic=subject, payload={"a": 1}, id="q")
    assert answer == {"type": "reply", "id": "q", "data": {"echo": {"a": 1}}}
    assert json.loads(asked[0].data) == {"a": 1}
    assert asked[0].headers["Gateway-User"] == ALICE


async def test_request_reply_that_is_no_json_comes_as_base64(
    alice: TestClient, backend: Broker
) -> None:
    subject = new_topic("rpc")
    await serve(backend, subject, lambda message: b"\xff")
    answer = await alice.ask("request", "reply", topic=subject, payload=None)
    assert answer["data"] == {"encoding": "base64", "data": "/w=="}


async def test_request_nobody_there_is_no_responder_at_once(alice: TestClient) -> None:
    subject = new_topic("rpc")
    await alice.send("request", topic=subject, payload=1, timeout=30, id="q")
    error = await alice.expect("error", id="q", timeout=20)  # not only after its 30 s
    assert (error["code"], error["topic"]) == ("NO_RESPONDER", subject)


async def test_request_mute_backend_times_out_and_holds_up_nothing(
    alice: TestClient, backend: Broker
) -> None:
    subject = new_topic("rpc")
    await serve(backend, subject, lambda message: None)
    # In one piece: else the one may be over before the other is sent.
    slow = text_frame(type="request", topic=subject, payload=1, timeout=0.2, id="slow")
    alice.send_raw(slow + text_frame(type="ping", id="quick"))
    await alice.expect("pong", id="quick")
    error = await alice.expect("error", id="slow")
    assert error["code"] == "TIMEOUT"
    answered = [frame["id"] for frame in alice.frames if frame.get("id") in ("slow", "quick")]
    assert answered == ["quick", "slow"]


async def test_request_many_at_once_each_get_their_own_reply(
    alice: TestClient, backend: Broker
) -> None:
    subject = new_topic("rpc")
    await serve(backend, subject, lambda message: message.data)
    for number in range(100):
        await alice.send("request", topic=subject, payload=number, id=number)
    for number in range(100):
        assert (await alice.expect("reply", id=number))["data"] == number


# The session's time.


async def test_refresh_good_token_is_ready_again(site: Running, alice: TestClient) -> None:
    longer = manage("token", "alice", "--lifetime", "9000", env=site.env).strip().splitlines()[-1]
    ready = await alice.ask("refresh", "ready", token=longer, id="r")
    assert ready["id"] == "r"
    assert ready["expiresAt"] > alice.ready["expiresAt"] + 1000


async def test_refresh_keeps_what_is_held(
    site: Running, alice: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(room)
    ready = await alice.ask("refresh", "ready", token=site.tokens["alice"])
    assert ready["subscriptions"] == [room]
    await store(backend, room, 1)
    assert await data_of(alice, room, 1) == [1]


@pytest.mark.parametrize("whose", ["nobody", "bob"])
async def test_refresh_bad_token_is_refused_and_the_session_stays(
    site: Running, alice: TestClient, backend: Broker, room: str, whose: str
) -> None:
    await alice.subscribe(room)
    error = await alice.error("refresh", token=site.tokens.get(whose, "nonsense"))
    assert error["code"] == "AUTH_FAILED"
    await store(backend, room, 1)
    assert await data_of(alice, room, 1) == [1]


async def test_expiry_is_announced_then_closes(site: Running) -> None:
    # As many seconds as the command may take to end and this client to connect.
    token = manage("token", "alice", "--lifetime", "12", env=site.env).strip().splitlines()[-1]
    async with TestClient(site.ws_url(), token=token) as client:
        expiring = await client.expect("expiring")
        assert expiring["expiresAt"] == client.ready["expiresAt"]
        await client.expect_close(4003)
        assert time.time() >= client.ready["expiresAt"] - 0.5


# Control.


async def test_control_disconnect_closes_every_socket_of_the_user(
    site: Running, bob: TestClient, backend: Broker
) -> None:
    async with site.as_user() as one, site.as_user() as two:
        await backend.publish(f"gateway.control.user.{ALICE}", b'{"action":"disconnect"}')
        await one.expect_close(4502)
        await two.expect_close(4502)
    await until_serves(bob)


async def test_control_disconnect_tells_the_reason(site: Running, backend: Broker) -> None:
    async with site.as_user() as client:
        control = json.dumps({"action": "disconnect", "reason": "é" * 200}).encode()
        await backend.publish(f"gateway.control.user.{ALICE}", control)
        await client.expect_close(4502)
        assert client.ws.close_reason is not None
        assert client.ws.close_reason.startswith("é")


async def test_control_unsubscribe_takes_the_topic_away(
    alice: TestClient, bob: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(room)
    await bob.subscribe(room)
    control = json.dumps({"action": "unsubscribe", "topic": room}).encode()
    await backend.publish(f"gateway.control.user.{ALICE}", control)
    assert await alice.expect("unsubscribed") == {
        "type": "unsubscribed",
        "topic": room,
        "reason": "server",
    }
    await store(backend, room, 1)
    assert await data_of(bob, room, 1) == [1]
    await alice.expect_nothing("message")


@pytest.mark.parametrize("named", ["{}.a", "{}.*"])
async def test_control_unsubscribe_takes_patterns_that_bring_the_topic_away(
    alice: TestClient, backend: Broker, room: str, named: str
) -> None:
    for topic in (f"{room}.*", f"{room}.b", f"{room}.b.*"):
        await alice.subscribe(topic)
    control = json.dumps({"action": "unsubscribe", "topic": named.format(room)}).encode()
    await backend.publish(f"gateway.control.user.{ALICE}", control)
    assert (await alice.expect("unsubscribed"))["topic"] == f"{room}.*"
    await store(backend, f"{room}.a", 1)
    await store(backend, f"{room}.b", 1)
    assert await data_of(alice, f"{room}.b", 1) == [1]
    await alice.expect_nothing("message")
    await alice.expect_nothing("unsubscribed")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"\xff",
        b'"\xff"',
        b"[]",
        b"{}",
        b'{"action":"explode"}',
        b'{"action":"unsubscribe"}',
        b'{"action":"unsubscribe","topic":"room.never"}',
        b'{"users":7}',
        b"[" * 10_000,
    ],
)
async def test_control_malformed_is_ignored(
    alice: TestClient, backend: Broker, data: bytes
) -> None:
    for subject in (f"user.{ALICE}", "user.nobody", "acl", "presence"):
        await backend.publish(f"gateway.control.{subject}", data)
    await backend.flush()
    await until_serves(alice)
    await present(alice, "room.a")
    await alice.expect_nothing("unsubscribed")


async def deny(site: Running, topic: str, *, told: bool) -> None:
    """Store a rule that denies alice a topic; with or without the signals of a saved model."""
    rule = f"R(user_id={ALICE}, effect='deny', action='subscribe', topic='{topic}')"
    # The rules' own bulk_create tells of them, too.
    silently = f"from django.db.models import QuerySet; QuerySet(R).bulk_create([{rule}])"
    save = f"{rule}.save()" if told else silently
    code = f"from accounts.models import AccessRule as R; {save}"
    await asyncio.to_thread(manage, "shell", "-c", code, env=site.env)


async def test_rule_stored_by_another_process_reaches_open_sockets(
    site: Running, alice: TestClient, bob: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(room)
    await bob.subscribe(room)
    await deny(site, room, told=True)
    unsubscribed = await alice.expect("unsubscribed")
    assert unsubscribed == {"type": "unsubscribed", "topic": room, "reason": "acl"}
    await store(backend, room, 1)
    assert await data_of(bob, room, 1) == [1]
    await alice.expect_nothing("message")
    assert (await alice.error("subscribe", topic=room))["code"] == "ACL_DENIED"


async def test_rule_that_denies_a_part_takes_the_pattern_away(
    site: Running, alice: TestClient, bob: TestClient, backend: Broker, room: str
) -> None:
    for client in (alice, bob):
        await client.subscribe(f"{room}.*")
    await alice.subscribe(f"{room}.b")
    await deny(site, f"{room}.a", told=True)
    unsubscribed = await alice.expect("unsubscribed")
    assert unsubscribed == {"type": "unsubscribed", "topic": f"{room}.*", "reason": "acl"}
    await store(backend, f"{room}.a", 1)
    assert await data_of(bob, f"{room}.a", 1) == [1]
    await store(backend, f"{room}.b", 1)
    assert "pattern" not in await alice.expect("message")
    await alice.expect_nothing("message")
    assert (await alice.error("subscribe", topic=f"{room}.*"))["code"] == "ACL_DENIED"


@pytest.mark.parametrize(
    ("subject", "data"),
    [
        ("acl", {"users": [ALICE], "groups": None}),
        ("acl", {"users": [int(ALICE)], "groups": None}),
        ("acl", {"users": None, "groups": None}),
        ("acl", {"users": [], "groups": [1]}),
        (f"user.{ALICE}", {"action": "reauthorize"}),
    ],
)
async def test_control_told_of_new_rules_takes_away_what_is_denied(
    site: Running, alice: TestClient, backend: Broker, room: str, subject: str, data: Frame
) -> None:
    """What a backend of any language sends."""
    await alice.subscribe(room)
    await deny(site, room, told=False)
    await alice.expect_nothing("unsubscribed")
    await backend.publish(f"gateway.control.{subject}", json.dumps(data).encode())
    assert (await alice.expect("unsubscribed"))["reason"] == "acl"


async def test_control_reauthorize_nothing_changed_changes_nothing(
    alice: TestClient, backend: Broker, room: str
) -> None:
    await alice.subscribe(room)
    for _ in range(5):
        await backend.publish("gateway.control.acl", b'{"users":null}')
        await backend.publish(f"gateway.control.user.{ALICE}", b'{"action":"reauthorize"}')
    await store(backend, room, 1)
    assert await data_of(alice, room, 1) == [1]
    await alice.expect_nothing("unsubscribed")


# Cookies and origins.


def other_site(site: Running, scheme: str = "http", port: int | None = None) -> str:
    """Return an origin that differs from the site's own in one part."""
    return f"{scheme}://127.0.0.1:{port or site.ports[0]}"


async def test_cookie_with_the_own_origin_is_the_credential(site: Running) -> None:
    async with site.anyone(headers={"Cookie": site.cookie}, origin=site.url()) as client:
        assert (await client.ask("connect", "ready"))["userId"] == ALICE


async def test_cookie_and_token_the_token_counts(site: Running) -> None:
    async with site.anyone(headers={"Cookie": site.cookie}, origin=site.url()) as client:
        ready = await client.ask("connect", "ready", token=site.tokens["bob"])
        assert ready["userId"] == BOB


async def test_cookie_and_bad_token_fails(site: Running) -> None:
    async with site.anyone(headers={"Cookie": site.cookie}, origin=site.url()) as client:
        assert (await client.error("connect", token="nonsense"))["code"] == "AUTH_FAILED"
        await client.expect_close(4500)


@pytest.mark.parametrize("value", ["nonsense", "x" * 40, "'; DROP TABLE", '"\\073"'])
async def test_cookie_of_nobody_fails(site: Running, value: str) -> None:
    headers = {"Cookie": f"sessionid={value}"}
    async with site.anyone(headers=headers, origin=site.url()) as client:
        assert (await client.error("connect"))["code"] == "AUTH_FAILED"
        await client.expect_close(4500)


async def test_cookie_with_a_listed_origin_is_the_credential(site: Running) -> None:
    async with site.anyone(headers={"Cookie": site.cookie}, origin=LISTED) as client:
        assert (await client.ask("connect", "ready"))["userId"] == ALICE


EVIL = [
    f"{LISTED}:8443",
    LISTED.replace("https", "http"),
    f"{LISTED}.evil.example",
    "https://evil.example",
    "http://evil.example",
    "null",
    "",
    "{scheme}://user@{host}",
    "{scheme}://{host}@evil.example",
    "{scheme}://user:secret@{host}",
    "https://{host}",
    "ws://{host}",
    "file://",
    "{scheme}://127.0.0.1",
    "{scheme}://127.0.0.1:1",
    "{scheme}://localhost:{port}",
    "{scheme}://{host}.evil.example",
    "{scheme}://{host}/path",
    "https://[::1",
    "http://[::1",
    "http://127.0.0.1:port",
    "http://127.0.0.1:99999",
    "{scheme}://{host}, https://evil.example",
    "{scheme}://{host} https://evil.example",
]


@pytest.mark.parametrize("template", EVIL)
async def test_cookie_with_another_origin_is_refused(site: Running, template: str) -> None:
    port = site.ports[0]
    origin = template.format(scheme="http", host=f"127.0.0.1:{port}", port=port)
    status = await handshake(port, [("Cookie", site.cookie), ("Origin", origin)])
    assert status in (400, 403)


@pytest.mark.parametrize("order", [0, 1])
async def test_cookie_with_two_origins_is_refused(site: Running, order: int) -> None:
    origins = [("Origin", site.url()), ("Origin", "https://evil.example")]
    headers = [("Cookie", site.cookie), *origins[order:], *origins[:order]]
    assert await handshake(site.ports[0], headers) in (400, 403)


async def test_cookie_from_a_page_of_another_host_that_leads_here_is_refused(
    site: Running,
) -> None:
    """DNS rebinding: the Origin is that of the Host, but the Host is not this site."""
    host = f"evil.example:{site.ports[0]}"
    headers = [("Cookie", site.cookie), ("Origin", f"http://{host}")]
    assert await handshake(site.ports[0], headers, host=host) == 403


async def test_cookie_without_an_origin_is_refused(site: Running) -> None:
    assert await handshake(site.ports[0], [("Cookie", site.cookie)]) == 403


@pytest.mark.parametrize("first", [True, False])
async def test_cookie_in_two_headers_is_no_way_round_the_origin(site: Running, first: bool) -> None:
    """RFC 6265 §5.4 has one header; whatever two of them are taken for, alice is not let in."""
    cookies = [("Cookie", site.cookie), ("Cookie", "a=b")]
    headers = cookies if first else cookies[::-1]
    try:
        socket = await connect(
            site.ws_url(), origin=Origin("https://evil.example"), additional_headers=headers
        )
    except InvalidStatus as exc:
        assert exc.response.status_code in (400, 403)
        return
    async with socket:
        await socket.send('{"type":"connect"}')
        answer = json.loads(await asyncio.wait_for(socket.recv(), 30))
        assert (answer["type"], answer.get("code")) == ("error", "AUTH_FAILED")


async def test_cookie_the_own_origin_is_upgraded(site: Running) -> None:
    """Else the refusals above would prove nothing."""
    headers = [("Cookie", site.cookie), ("Origin", site.url())]
    assert await handshake(site.ports[0], headers) == 101


@pytest.mark.parametrize("template", ["https://evil.example", "null", "file://", None])
async def test_no_cookie_any_origin_may_bring_a_token(site: Running, template: str | None) -> None:
    async with site.as_user(origin=template) as client:
        assert client.ready["userId"] == ALICE


async def test_no_cookie_odd_origin_is_no_server_error(site: Running) -> None:
    for origin in ("https://[::1", "http://127.0.0.1:port", "\x7f", "a" * 5000):
        assert await handshake(site.ports[0], [("Origin", origin)]) < 500


@pytest.mark.parametrize("host", ["[::1", "a b", "127.0.0.1:port", "evil.example", "@"])
async def test_odd_host_is_no_server_error(site: Running, host: str) -> None:
    headers = [("Cookie", site.cookie), ("Origin", site.url())]
    assert await handshake(site.ports[0], headers, host=host) < 500


@pytest.mark.parametrize(
    "cookie", ["sessionid", "=;=;", 'sessionid="', "a b=c", "sessionid=\xff", ";" * 1000]
)
async def test_odd_cookie_is_no_server_error(site: Running, cookie: str) -> None:
    headers = [("Cookie", cookie), ("Origin", "https://evil.example")]
    assert await handshake(site.ports[0], headers) < 500


@pytest.mark.parametrize("path", ["/", "/ws", "/nowhere/", "/ws/more/", "/admin/"])
async def test_other_path_is_no_socket_and_no_server_error(site: Running, path: str) -> None:
    assert 400 <= await handshake(site.ports[0], [], path=path) < 500


async def test_token_in_the_query_is_not_read_and_not_logged(site: Running) -> None:
    token = site.tokens["alice"]
    async with TestClient(f"{site.ws_url()}?token={token}", connect=False) as client:
        assert (await client.error("connect"))["code"] == "AUTH_FAILED"
    assert token not in site.log


# Last: what all of the above has left behind.


async def test_log_has_no_traceback_and_no_secret(site: Running) -> None:
    assert "Traceback" not in site.log
    assert site.cookie.partition("=")[2] not in site.log
    assert not [token for token in site.tokens.values() if token in site.log]
