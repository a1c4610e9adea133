"""What an open session may while the backend is asked again, and does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from realtime import authentication, reauthorization
from realtime.authentication import Authenticator
from realtime.broker import Broker, connected
from realtime.delivery import AckPolicy
from realtime.embedded import NatsServer
from realtime.metrics import Metrics
from realtime.nats_client import Message
from realtime.protocol.exceptions import AuthFailed, AuthUnavailable, CloseCode
from realtime.protocol.messages import AuthReply, AuthRequest, encode_message
from tests.support.waiting import DEADLINE, until

from .support import TOPIC, World, settled, turns
from .test_connection import ALLOW, OTHER, Backend, Client, identity

LONG = 3600.0


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
async def client(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """Return a client on two topics that has been suspended: the backend does not answer."""
    monkeypatch.setattr(reauthorization, "DEADLINE", 0.01)
    client = Client(world, backend)
    await client.connect()
    for topic in (TOPIC, OTHER):
        await client.send("subscribe", topic=topic)
    backend.gate = asyncio.Event()
    client.connection.reauthorize_soon(0)
    await until(lambda: client.connection.session.suspended)
    yield client
    client.connection.close()


def answer(backend: Backend) -> None:
    assert backend.gate is not None
    backend.gate.set()


def went_on(client: Client) -> bool:
    return not client.connection.session.suspended


async def test_suspended_session_is_delivered_nothing_and_later_everything(
    world: World, backend: Backend, client: Client
) -> None:
    await world.publish(3)
    await turns()
    assert client.socket.of("message") == []
    answer(backend)
    await until(lambda: went_on(client))
    await world.publish(1)
    await until(lambda: len(client.socket.sequences) == 4)
    assert client.socket.sequences == [1, 2, 3, 4]
    assert client.socket.of("unsubscribed") == []


async def test_suspended_session_that_lost_a_topic_gets_nothing_of_it(
    world: World, backend: Backend, client: Client
) -> None:
    await world.publish(3)
    await world.publish(1, OTHER)
    backend.answer = identity(ALLOW, parse("deny", TOPIC))
    answer(backend)
    await until(lambda: client.socket.of("message"))
    assert [one["topic"] for one in client.socket.of("message")] == [OTHER]
    assert [one["topic"] for one in client.socket.of("unsubscribed")] == [TOPIC]


def parse(effect: Any, topic: str) -> Any:
    return type(ALLOW)(effect, "subscribe", topic)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("subscribe", {"topic": "room.third"}),
        ("history", {"topic": TOPIC}),
        ("presence", {"topic": TOPIC}),
        ("publish", {"topic": TOPIC, "messageId": "m", "payload": 1}),
        ("request", {"topic": "rpc.x", "payload": 1}),
    ],
)
async def test_suspended_session_is_taken_nothing_from(
    client: Client, kind: str, fields: dict[str, Any]
) -> None:
    await client.send(kind, id=1, **fields)
    await until(lambda: client.socket.of("error"))
    assert [one["code"] for one in client.socket.of("error")] == ["UNAVAILABLE"]


async def test_suspended_session_replays_only_afterwards(
    world: World, backend: Backend, client: Client
) -> None:
    await world.publish(2)
    await client.send("replay", topic=TOPIC, fromSeq=1)
    await turns()
    assert client.socket.of("message") == []
    answer(backend)
    await until(lambda: client.socket.sequences == [1, 2])


async def test_session_suspended_in_the_turn_of_an_event_gets_it_once(
    world: World, backend: Backend
) -> None:
    client = Client(world, backend)
    await client.connect()
    await client.send("subscribe", topic=TOPIC)
    feed = await world.fanout.join(TOPIC)
    (event,) = world.history.store()
    feed.chain.last = event.sequence
    feed.push(event)
    client.connection.authorization.suspend()
    await client.connection.authorization.become(identity(ALLOW))
    await turns()
    assert client.socket.sequences == [1]


async def test_session_suspended_with_unacknowledged_events_repeats_them_afterwards(
    world: World, backend: Backend
) -> None:
    client = Client(world, backend, ack=AckPolicy(0.05, 100, 10))
    await client.connect()
    await client.send("subscribe", topic=TOPIC, qos=1)
    await world.publish(2)
    await until(lambda: client.socket.sequences == [1, 2])
    client.connection.authorization.suspend()
    before = len(client.socket.repeats)
    await client.send("ack", topic=TOPIC, seqNo=1)
    await world.publish(1)
    fence = Client(world, Backend(), ack=AckPolicy(0.05, 100, 10))
    await fence.connect()
    await fence.send("subscribe", topic=TOPIC, qos=1, since=0)
    await until(lambda: fence.socket.repeats)
    assert len(client.socket.repeats) == before
    await client.connection.authorization.become(identity(ALLOW))
    await until(lambda: client.socket.sequences == [1, 2, 3] and 2 in client.socket.repeats)


async def test_session_with_an_answer_in_time_is_not_suspended(
    world: World, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reauthorization, "DEADLINE", 0.01)
    client, late = Client(world, backend), Client(world, Backend())
    for one in (client, late):
        await one.connect()
    client.connection.reauthorize_soon(0)
    await until(lambda: len(backend.asked) == 2)
    late.connection.authorization._reauthorization.asking = held = asyncio.Lock()
    async with held:
        late.connection.reauthorize_soon(0)
        await until(lambda: late.connection.session.suspended)
        assert went_on(client)
    await until(lambda: went_on(late))


async def test_change_during_the_question_keeps_the_session_suspended(
    backend: Backend, client: Client
) -> None:
    client.connection.reauthorize_soon(0)
    await until(lambda: client.connection.authorization._reauthorization.overdue)
    first, backend.gate = backend.gate, asyncio.Event()
    assert first is not None
    first.set()
    await until(lambda: len(backend.asked) == 3)
    # The first answer is there, but it was asked for before the second change.
    assert client.connection.session.suspended
    answer(backend)
    await until(lambda: went_on(client))


async def test_change_without_hurry_suspends_nobody(
    world: World, backend: Backend, client: Client
) -> None:
    calm = Client(world, backend)
    calm.connection.session.authenticate(identity(ALLOW))
    calm.connection.reauthorize_soon(LONG, urgent=False)
    assert calm.connection.authorization._reauthorization._waiting is not None
    assert calm.connection.authorization._reauthorization._waiting.deadline is None
    # One that is urgent does not wait for it.
    calm.connection.reauthorize_soon(0)
    await until(lambda: not went_on(calm))
    answer(backend)
    await until(lambda: went_on(calm))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_changes_one_upon_the_other_are_asked_about_on_each_event_loop(run: Any) -> None:
    """A handle of uvloop's does not say for when it was, as asyncio's do."""

    async def change() -> int:
        world, backend = World(), Backend()
        await world.fanout.start()
        client = Client(world, backend)
        await client.connect()
        for spread in (LONG, 0, 0, 1.5, 0):
            client.connection.reauthorize_soon(spread)
        await until(lambda: len(backend.asked) == 2)
        client.connection.close()
        await world.fanout.stop()
        return len(backend.asked)

    assert run(change()) == 2


async def test_suspended_session_denied_is_closed_for_good(
    backend: Backend, client: Client
) -> None:
    backend.answer = AuthFailed("gone")
    answer(backend)
    await until(lambda: client.socket.closed is not None)
    assert client.socket.closed == (CloseCode.REVOKED, "gone")
    assert client.connection.session.suspended


async def test_suspended_session_without_any_answer_is_sent_away(
    backend: Backend, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reauthorization, "TRIES", 1)
    backend.answer = AuthUnavailable("nobody")
    client.connection.reauthorize_soon(0)
    answer(backend)
    await until(lambda: client.socket.closed is not None)
    assert client.socket.closed is not None
    assert client.socket.closed[0] == CloseCode.AUTH_UNAVAILABLE


async def test_closed_while_asked_about_stays_closed(backend: Backend, client: Client) -> None:
    client.connection.close()
    backend.answer = identity(ALLOW, expires_at=1e12)
    answer(backend)
    await until(lambda: client.connection.authorization._reauthorization._working is None)
    assert client.connection.authorization._timer._handle is None


# The question itself.


class Workers:
    """Auth workers in one queue group, each with a connection of its own."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: list[AuthReply | None] = []
        self.unanswered: list[Message] = []

    async def take(self, broker: Broker, message: Message) -> None:
        """Answer with the next of `answers`; None leaves it unanswered."""
        self.asked += 1
        reply = self.answers.pop(0)
        if reply is None:
            self.unanswered.append(message)
        else:
            await broker.publish(message.reply, encode_message(reply))


REQUEST = AuthRequest(token="t", session_key=None, origin=None, ip="", user_agent=None)
YES = AuthReply(success=True, user_id="7")


@pytest.fixture
async def asking(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Authenticator, Workers, Broker]]:
    """Return who asks, who answers, and their connection; nothing is asked again by itself."""
    monkeypatch.setattr(authentication, "PATIENCE", (LONG, LONG))
    workers = Workers()
    async with connected(nats_server.url, name="asking") as broker:

        async def take(message: Message) -> None:
            await workers.take(broker, message)

        await broker.subscribe("auth", take, queue="auth")
        await settled(broker)
        yield Authenticator(broker, "auth", LONG, Metrics()), workers, broker


Asking = tuple[Authenticator, Workers, Broker]


async def test_question_unanswered_is_put_again(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator, workers, _ = asking
    monkeypatch.setattr(authentication, "PATIENCE", (0.05, LONG))
    workers.answers = [None, YES]
    assert (await authenticator.authenticate_again(REQUEST)).user_id == "7"
    assert workers.asked == 2


async def test_question_never_answered_is_put_three_times(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator, workers, broker = asking
    monkeypatch.setattr(authentication, "PATIENCE", (0.05, 0.05))
    # All three are put in a tenth of a second of these.
    authenticator._timeout = 3.0
    workers.answers = [None] * 10
    with pytest.raises(AuthUnavailable):
        await authenticator.authenticate_again(REQUEST)
    await settled(broker)
    assert workers.asked == 3


async def test_question_denied_is_put_once(asking: Asking) -> None:
    authenticator, workers, broker = asking
    workers.answers = [AuthReply(success=False, error="gone")]
    with pytest.raises(AuthFailed, match="gone"):
        await authenticator.authenticate_again(REQUEST)
    await settled(broker)
    assert workers.asked == 1


async def test_question_without_workers_fails_at_once(nats_server: NatsServer) -> None:
    async with connected(nats_server.url, name="asking") as broker:
        with pytest.raises(AuthUnavailable):
            await asyncio.wait_for(
                Authenticator(broker, "auth", LONG, Metrics()).authenticate_again(REQUEST),
                DEADLINE,
            )


async def test_questions_beyond_the_bound_wait(
    asking: Asking,
) -> None:
    authenticator, workers, broker = asking
    authenticator._again = asyncio.Semaphore(2)
    workers.answers = [None, None, *[YES] * 4]
    questions = [asyncio.create_task(authenticator.authenticate_again(REQUEST)) for _ in range(6)]
    await until(lambda: workers.asked == 2)
    await settled(broker)
    assert workers.asked == 2
    for message in workers.unanswered:
        await broker.publish(message.reply, encode_message(YES))
    assert [one.user_id for one in await asyncio.gather(*questions)] == ["7"] * 6
