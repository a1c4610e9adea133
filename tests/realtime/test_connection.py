"""A connection at moments that a client cannot choose: rules, streams and sockets that change."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from realtime.admission import Admission
from realtime.broker import Broker
from realtime.connection import Connection
from realtime.delivery import AckPolicy
from realtime.holders import Holders
from realtime.peer import Peer
from realtime.protocol.exceptions import (
    AuthFailed,
    AuthUnavailable,
    CloseCode,
    GatewayError,
)
from realtime.protocol.limits import Rates
from realtime.protocol.messages import AuthRequest, Identity
from realtime.protocol.rules import Rule, parse_rules
from realtime.protocol.session import Limits
from realtime.services import ConnectionOptions, Services
from tests.support.waiting import until

from .support import TOPIC, FakeSocket, World, nobody_watches, turns

OTHER = "room.other"
ALLOW = Rule("allow", "subscribe", "room.>")


class Backend:
    """Stands in for the authenticator: answers with what a test says.

    Attributes:
        answer: an identity, or what is raised.
        gate: what an answer waits for.
    """

    def __init__(self, *rules: Rule) -> None:
        self.answer: Identity | GatewayError = identity(*(rules or (ALLOW,)))
        self.gate: asyncio.Event | None = None
        self.asked: list[AuthRequest] = []

    async def authenticate(self, request: AuthRequest) -> Identity:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, GatewayError):
            raise self.answer
        return self.answer

    async def authenticate_again(self, request: AuthRequest) -> Identity:
        return await self.authenticate(request)


def identity(
    *rules: Rule,
    user_id: str = "7",
    subscriptions: tuple[str, ...] = (),
    expires_at: float | None = None,
) -> Identity:
    """Return a user with these rules."""
    return Identity(user_id, parse_rules(rules, user_id), expires_at, subscriptions, None)


PLENTY = Rates(1000.0, 1000, 1e9, 10**9)


def limits(max_subscriptions: int = 10) -> Limits:
    """Return limits that no test meets by accident."""
    return Limits(
        open_topics=frozenset({"room", "user"}),
        request_topics=frozenset({"rpc"}),
        max_subscriptions=max_subscriptions,
        max_patterns=10,
        max_payload=1000,
        rates=PLENTY,
        user_rates=PLENTY,
    )


class Client:
    """A connection over a fan-out in memory, as its client sees it."""

    def __init__(self, world: World, backend: Backend, **options: Any) -> None:
        self.socket = FakeSocket()
        self.connections: dict[str, set[Any]] = {}
        self.holders = Holders()
        given = {
            "limits": limits(),
            "ack": AckPolicy(60, 5, 100),
            "session_key": b"key",
            "session_max_age": 3600.0,
            "auth_deadline": 60.0,
            "heartbeat": 25.0,
            "store_timeout": 1.0,
            "request_timeout": 1.0,
            "publishes_in_flight": 4,
            **options,
        }
        services = Services(
            broker=cast(Broker, None),
            authenticator=cast(Any, backend),
            fanout=world.fanout,
            positions=cast(Any, None),
            options=ConnectionOptions(**given),
            holders=self.holders,
            presence=nobody_watches(),
            connections=self.connections,
            admission=Admission(world.fanout.metrics, total=0, per_address=0, per_user=0),
            metrics=world.fanout.metrics,
        )
        self.connection = Connection(services, self.socket, Peer("192.0.2.1", None, None, None))

    async def send(self, type: str, **fields: Any) -> None:
        """Hand a frame to the connection and return when it is handled."""
        await self.connection.receive(json.dumps({"type": type, **fields}))

    async def connect(self, **fields: Any) -> dict[str, Any]:
        """Connect and return `ready`."""
        await self.send("connect", token="t", **fields)
        return self.socket.of("ready")[-1]


@pytest.fixture
def backend() -> Backend:
    """Return a backend that lets user 7 into every room."""
    return Backend()


@pytest.fixture
async def client(world: World, backend: Backend) -> Client:
    """Return a client that has not connected."""
    return Client(world, backend)


# Rules that change while something is under way.


async def test_subscribe_denied_meanwhile_is_refused(
    world: World, backend: Backend, client: Client
) -> None:
    await client.connect()
    gate = world.history.gates["top"] = asyncio.Event()
    subscribing = asyncio.create_task(client.send("subscribe", topic=TOPIC))
    await until(lambda: "top" in world.history.asked)
    backend.answer = identity(Rule("deny", "subscribe", TOPIC), ALLOW)
    client.connection.reauthorize_soon(0)
    await until(lambda: len(backend.asked) == 2)
    gate.set()
    await subscribing
    await world.publish()
    await turns()
    assert [frame["code"] for frame in client.socket.of("error")] == ["ACL_DENIED"]
    assert client.socket.sequences == []


async def test_resume_denied_while_another_topic_is_read_leaks_nothing(
    world: World, backend: Backend, client: Client
) -> None:
    """One topic of the resume is ready and allowed; while the next is read, a deny comes."""
    ready = await client.connect()
    world.history.store(TOPIC)
    await world.fanout.join(TOPIC)
    world.history.store(OTHER)
    gate = world.history.gates["top"] = asyncio.Event()
    resuming = asyncio.create_task(
        client.send("resume", sessionId=ready["sessionId"], lastSeqPerTopic={TOPIC: 1, OTHER: 0})
    )
    asked = len(world.history.asked)
    await until(lambda: "top" in world.history.asked[asked:])
    backend.answer = identity(Rule("deny", "subscribe", TOPIC), ALLOW)
    client.connection.reauthorize_soon(0)
    await until(lambda: len(backend.asked) == 2)
    await turns()
    gate.set()
    await resuming
    await world.publish(topic=TOPIC)
    (last,) = await world.publish(topic=OTHER)
    await until(lambda: last.sequence in client.socket.sequences)
    assert not [one for one in client.socket.of("message") if one["topic"] == TOPIC]


async def test_connect_granted_topic_denied_meanwhile_leaks_nothing(
    world: World, backend: Backend, client: Client
) -> None:
    backend.answer = identity(ALLOW, subscriptions=(TOPIC, OTHER))
    gate = world.history.gates["top"] = asyncio.Event()
    connecting = asyncio.create_task(client.send("connect", token="t"))
    await until(lambda: "top" in world.history.asked)
    backend.answer = identity(Rule("deny", "subscribe", TOPIC), ALLOW)
    client.connection.reauthorize_soon(0)
    await until(lambda: len(backend.asked) == 2)
    await turns()
    gate.set()
    await connecting
    await world.publish(topic=TOPIC)
    await world.publish(topic=OTHER)
    await until(lambda: any(one["topic"] == OTHER for one in client.socket.of("message")))
    assert not [one for one in client.socket.of("message") if one["topic"] == TOPIC]


async def test_reauthorize_takes_away_what_is_denied_and_keeps_the_rest(
    world: World, backend: Backend, client: Client
) -> None:
    await client.connect()
    await client.send("subscribe", topic=TOPIC)
    await client.send("subscribe", topic=OTHER)
    backend.answer = identity(Rule("deny", "subscribe", TOPIC), ALLOW)
    client.connection.reauthorize_soon(0)
    await until(lambda: client.socket.of("unsubscribed"))
    assert client.socket.of("unsubscribed")[0]["reason"] == "acl"
    await world.publish(topic=TOPIC)
    await world.publish(topic=OTHER)
    await until(lambda: client.socket.of("message"))
    assert [one["topic"] for one in client.socket.of("message")] == [OTHER]
    assert client.connection.topics == {OTHER}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (AuthFailed("Gone."), CloseCode.REVOKED),
        (AuthUnavailable("No answer."), CloseCode.AUTH_UNAVAILABLE),
        (identity(ALLOW, user_id="8"), CloseCode.REVOKED),
    ],
)
async def test_reauthorize_no_good_answer_closes(
    backend: Backend, client: Client, answer: Identity | GatewayError, code: CloseCode
) -> None:
    """Never is the session left with rules that may be out of date."""
    await client.connect()
    backend.answer = answer
    client.connection.reauthorize_soon(0)
    await until(lambda: client.socket.closed is not None)
    assert client.socket.closed is not None
    assert client.socket.closed[0] == code


async def test_reauthorize_unavailable_once_is_asked_again(
    backend: Backend, client: Client
) -> None:
    await client.connect()
    good = backend.answer
    backend.answer = AuthUnavailable("No answer.")
    client.connection.reauthorize_soon(0)
    await until(lambda: len(backend.asked) == 2)
    backend.answer = good
    await until(lambda: len(backend.asked) == 3)
    await turns()
    assert client.socket.closed is None


async def test_reauthorize_asked_for_many_times_asks_once(backend: Backend, client: Client) -> None:
    await client.connect()
    for _ in range(10):
        client.connection.reauthorize_soon(0)
    await until(lambda: len(backend.asked) == 2)
    await turns()
    assert len(backend.asked) == 2


# What the backend grants.


async def test_connect_granted_topics_are_joined_and_named(
    world: World, backend: Backend, client: Client
) -> None:
    backend.answer = identity(ALLOW, subscriptions=(TOPIC, OTHER, "live.closed", "room.>"))
    ready = await client.connect()
    assert ready["subscriptions"] == [TOPIC, OTHER]
    await world.publish(topic=OTHER)
    await until(lambda: client.socket.sequences == [1])


async def test_connect_forged_session_still_has_what_is_granted(
    world: World, backend: Backend, client: Client
) -> None:
    """`ready` has named the topics already; a resume that fails must not take them away."""
    backend.answer = identity(ALLOW, subscriptions=(TOPIC,))
    await client.connect(sessionId="forged", lastSeqPerTopic={TOPIC: 0})
    assert [frame["code"] for frame in client.socket.of("error")] == ["SESSION_EXPIRED"]
    await world.publish()
    await until(lambda: client.socket.sequences == [1])
    client.connection.close()
    assert world.fanout.feeds[TOPIC].holders == 0


async def test_connect_resuming_a_granted_topic_sends_it_once(
    world: World, backend: Backend, client: Client
) -> None:
    backend.answer = identity(ALLOW, subscriptions=(TOPIC,))
    ready = await client.connect()
    client.connection.close()
    world.history.store(count=3)
    again = Client(world, backend)
    world.fanout.check_soon()
    await again.connect(sessionId=ready["sessionId"], lastSeqPerTopic={TOPIC: 1})
    await until(lambda: again.socket.sequences[-1:] == [3])
    await world.publish()
    await until(lambda: again.socket.sequences[-1:] == [4])
    assert again.socket.sequences == [2, 3, 4]
    again.connection.close()
    assert world.fanout.feeds[TOPIC].holders == 0


# Sockets that close at odd moments.


async def test_close_while_authenticating_leaves_nothing(backend: Backend, client: Client) -> None:
    backend.gate = asyncio.Event()
    connecting = asyncio.create_task(client.send("connect", token="t"))
    await until(lambda: backend.asked)
    client.connection.close()
    backend.gate.set()
    await connecting
    assert client.connections == {}
    assert client.socket.frames == []


async def test_close_while_subscribing_lets_go_of_the_topic(world: World, client: Client) -> None:
    await client.connect()
    gate = world.history.gates["top"] = asyncio.Event()
    subscribing = asyncio.create_task(client.send("subscribe", topic=TOPIC))
    await until(lambda: "top" in world.history.asked)
    client.connection.close()
    gate.set()
    await subscribing
    assert world.fanout.feeds[TOPIC].holders == 0
    assert not world.fanout.feeds[TOPIC].deliveries


async def test_close_connected_lets_go_of_everything(world: World, client: Client) -> None:
    await client.connect()
    await client.send("subscribe", topic=TOPIC)
    assert set(client.connections) == {"7"}
    client.connection.close()
    assert client.connections == {}
    assert world.fanout.feeds[TOPIC].holders == 0
    await world.publish()
    await turns()
    assert client.socket.sequences == []


@pytest.mark.parametrize("times", [1, 5])
async def test_subscribe_again_and_unsubscribe_lets_go_of_the_topic(
    world: World, client: Client, times: int
) -> None:
    await client.connect()
    for number in range(times):
        await client.send("subscribe", topic=TOPIC)
        await client.send("subscribe", topic=TOPIC, since=0)
        await client.send("subscribe", topic=TOPIC, qos=number % 2)
    await client.send("unsubscribe", topic=TOPIC)
    assert world.fanout.feeds[TOPIC].holders == 0
    assert client.connection.topics == set()


async def test_subscribe_stream_away_lets_go_of_the_topic(world: World, client: Client) -> None:
    await client.connect()
    world.history.store(count=3)
    await world.fanout.join(TOPIC)
    world.history.failing.add("page")
    await client.send("subscribe", topic=TOPIC, since=1, id=4)
    (error,) = client.socket.of("error")
    assert (error["code"], error["id"]) == ("UNAVAILABLE", 4)
    assert world.fanout.feeds[TOPIC].holders == 1
    assert client.connection.topics == set()


async def test_resume_one_topic_fails_the_others_go_on(world: World, client: Client) -> None:
    ready = await client.connect()
    world.history.store(OTHER, 2)
    await client.send(
        "resume",
        id=1,
        sessionId=ready["sessionId"],
        lastSeqPerTopic={"user.8.a": 0, "bad topic": 0, OTHER: 1},
    )
    (resumed,) = client.socket.of("resumed")
    assert resumed["topics"] == {OTHER: {"recovered": True, "from": 1, "to": 2}}
    codes = {(one["topic"], one["code"]) for one in client.socket.of("error")}
    assert codes == {("user.8.a", "ACL_DENIED"), ("bad topic", "BAD_TOPIC")}
    assert client.socket.sequences == [2]
    assert client.connection.topics == {OTHER}


async def test_resume_too_many_topics_takes_as_many_as_may(world: World, backend: Backend) -> None:
    client = Client(world, backend, limits=limits(max_subscriptions=3))
    ready = await client.connect()
    wanted = {f"room.{number}": 0 for number in range(5)}
    await client.send("resume", sessionId=ready["sessionId"], lastSeqPerTopic=wanted)
    assert len(client.socket.of("resumed")[0]["topics"]) == 3
    assert [one["code"] for one in client.socket.of("error")] == ["TOO_MANY_SUBSCRIPTIONS"] * 2
    assert len(client.connection.topics) == 3


# Time.


class Clock:
    """The time of day, which a test moves on; timers look at it every few milliseconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_700_000_000.0
        self.looks = 0
        clock = SimpleNamespace(time=self._look)
        monkeypatch.setattr("realtime.timers.time", clock)
        monkeypatch.setattr("realtime.authorization.time", clock)
        monkeypatch.setattr("realtime.timers.MAX_TIMER", 0.01)

    def _look(self) -> float:
        self.looks += 1
        return self.now

    async def looked_at(self) -> None:
        """Return when timers have looked at it, more than once."""
        before = self.looks
        await until(lambda: self.looks > before + 2, what="the timers")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_deadline_without_connect_closes(world: World, backend: Backend) -> None:
    client = Client(world, backend, auth_deadline=0.02)
    await until(lambda: client.socket.closed is not None)
    assert client.socket.closed is not None
    assert client.socket.closed[0] == CloseCode.AUTH_DEADLINE


async def test_deadline_is_over_once_connected(world: World, backend: Backend) -> None:
    late = Client(world, backend, auth_deadline=0.05)
    client = Client(world, backend, auth_deadline=0.02)
    await client.connect()
    await until(lambda: late.socket.closed is not None)
    assert client.socket.closed is None


async def test_deadline_passes_while_the_backend_is_slow_closes(
    world: World, backend: Backend
) -> None:
    backend.gate = asyncio.Event()
    client = Client(world, backend, auth_deadline=0.02)
    connecting = asyncio.create_task(client.send("connect", token="t"))
    await until(lambda: client.socket.closed is not None)
    client.connection.close()
    backend.gate.set()
    await connecting
    assert client.connections == {}


async def test_times_without_a_fraction_are_integers(world: World, backend: Backend) -> None:
    """Other languages do not read `25.0` into an integer."""
    expires_at = float(int(time.time()) + 3600)
    backend.answer = identity(ALLOW, expires_at=expires_at)
    ready = await Client(world, backend).connect()
    assert (ready["expiresAt"], ready["heartbeat"]) == (expires_at, 25)
    assert isinstance(ready["expiresAt"], int)
    assert isinstance(ready["heartbeat"], int)


async def test_expiry_is_announced_then_closes(
    world: World, backend: Backend, clock: Clock
) -> None:
    expires_at = clock.now + 20
    backend.answer = identity(ALLOW, expires_at=expires_at)
    client = Client(world, backend)
    await client.connect()
    clock.now = expires_at - 10
    await until(lambda: client.socket.of("expiring"))
    assert client.socket.closed is None
    clock.now = expires_at
    await until(lambda: client.socket.closed is not None)
    (expiring,) = client.socket.of("expiring")
    assert expiring["expiresAt"] == pytest.approx(expires_at)
    assert client.socket.closed is not None
    assert client.socket.closed[0] == CloseCode.TOKEN_EXPIRED


async def test_expiry_moved_by_refresh_does_not_close(
    world: World, backend: Backend, clock: Clock
) -> None:
    backend.answer = identity(ALLOW, expires_at=clock.now + 20)
    client, fence = Client(world, backend), Client(world, backend)
    await client.connect()
    await fence.connect()
    backend.answer = identity(ALLOW, expires_at=clock.now + 3600)
    await client.send("refresh", token="new", id=1)
    assert client.socket.of("ready")[-1]["id"] == 1
    clock.now += 20
    await until(lambda: fence.socket.closed is not None)
    assert client.socket.closed is None


@pytest.mark.parametrize("left", [0.0, -1.0, -1e9])
async def test_expired_already_is_refused(backend: Backend, client: Client, left: float) -> None:
    """Whatever the backend thinks of it."""
    backend.answer = identity(ALLOW, expires_at=time.time() + left)
    await client.send("connect", token="t")
    assert [frame["code"] for frame in client.socket.of("error")] == ["AUTH_FAILED"]
    assert client.socket.closed is not None
    assert client.socket.closed[0] == CloseCode.AUTH_FAILED


async def test_expiry_beyond_the_longest_timer_holds(
    world: World, backend: Backend, clock: Clock
) -> None:
    expires_at = clock.now + 20
    backend.answer = identity(ALLOW, expires_at=expires_at)
    client = Client(world, backend, expiry_notice=5)
    await client.connect()
    clock.now = expires_at - 5.1
    await clock.looked_at()
    assert client.socket.of("expiring") == []
    clock.now = expires_at - 5
    await until(lambda: client.socket.of("expiring"))
    clock.now = expires_at - 0.1
    await clock.looked_at()
    assert client.socket.closed is None
    clock.now = expires_at
    await until(lambda: client.socket.closed is not None)
    assert client.socket.closed == (CloseCode.TOKEN_EXPIRED, "the token expired")


@pytest.mark.parametrize("expires_at", [1e12, 1e18, 1e300])
async def test_expiry_far_away_is_taken(
    backend: Backend, client: Client, expires_at: float
) -> None:
    backend.answer = identity(ALLOW, expires_at=expires_at)
    assert (await client.connect())["expiresAt"] == expires_at
    await turns()
    assert client.socket.closed is None


# What no frame may do.


async def test_receive_bug_in_a_handler_is_told_and_the_socket_stays(
    world: World, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await client.connect()

    async def broken(topic: str) -> int:
        raise ZeroDivisionError("a bug")

    world.history.top = broken  # type: ignore[method-assign]
    await client.send("subscribe", topic=TOPIC, id=1)
    await client.send("ping", id=2)
    errors = client.socket.of("error")
    assert [frame["id"] for frame in errors] == [1]
    assert errors[0]["code"] in ("INTERNAL", "UNAVAILABLE")
    assert "bug" not in errors[0]["message"]
    assert client.socket.of("pong")[0]["id"] == 2
    assert "a bug" in caplog.text


async def test_receive_while_one_frame_waits_the_next_waits_too(
    world: World, client: Client
) -> None:
    """Frames are handled in order: `unsubscribe` cannot overtake its `subscribe`."""
    await client.connect()
    gate = world.history.gates["top"] = asyncio.Event()

    async def both() -> None:
        await client.send("subscribe", topic=TOPIC, id=1)
        await client.send("unsubscribe", topic=TOPIC, id=2)

    working = asyncio.create_task(both())
    await until(lambda: "top" in world.history.asked)
    gate.set()
    await working
    answers = [frame for frame in client.socket.frames if "id" in frame]
    assert [(frame["type"], frame["id"]) for frame in answers] == [
        ("subscribed", 1),
        ("unsubscribed", 2),
    ]
    assert client.connection.topics == set()


async def test_holders_of_a_topic_are_those_that_hold_it_now(client: Client) -> None:
    await client.connect()
    for topic in ("room.a", "room.b"):
        await client.send("subscribe", topic=topic)
    assert [*client.holders.of("room.a")] == [client.connection.session]
    await client.send("unsubscribe", topic="room.a")
    assert [*client.holders.of("room.a")] == []
    assert [*client.holders.of("room.b")] == [client.connection.session]
    client.connection.close()
    assert [*client.holders.of("room.b")] == []
