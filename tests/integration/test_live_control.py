"""Live control: what a backend changes takes effect on sockets that are open."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings as project
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from accounts.models import AccessRule, ApiToken
from accounts.tokens import issue_jwt
from realtime import commands, link
from realtime.broker import Broker, connected
from realtime.nats_client import Message
from tests.support.backend import backend, in_thread
from tests.support.client import Frame, TestClient
from tests.support.gateways import Cluster, Gateway
from tests.support.processes import ManageProcess
from tests.support.waiting import until

EFFECT = 30.0
"""Seconds within which a change must show; the contract says two, on a machine that is free."""
AT_ONCE = 0.3
"""Seconds within which a gateway asks, if it asks at once."""
HALL = "room.hall"
SETTINGS = "tests.integration.short_waits"

rooms = itertools.count()


class Person:
    """A user of one test, with nothing but the rights that the test gives."""

    def __init__(self, name: str) -> None:
        self.user = User.objects.create(username=name, password="!")
        self.id = str(self.user.pk)
        self.token = issue_jwt(self.user)

    def allow(self, topic: str, action: str = "subscribe") -> Any:
        return AccessRule.objects.create(user=self.user, topic=topic, action=action)

    def deny(self, topic: str) -> None:
        AccessRule.objects.create(user=self.user, topic=topic, effect="deny")


def changed(thing: Any, **values: Any) -> None:
    """Save a model's object with other values, as a form does."""
    for name, value in values.items():
        setattr(thing, name, value)
    thing.save()


class Browser:
    """A browser in which somebody has logged in."""

    def __init__(self, user: User) -> None:
        self.client = Client()
        self.client.force_login(user)
        self.session = self.client.cookies["sessionid"].value
        self.cookie = f"sessionid={self.session}"

    def socket(self, site: Gateway) -> TestClient:
        """Return a socket of a page in it."""
        return TestClient(site.ws_url(), headers={"Cookie": self.cookie}, origin=site.url())


@pytest.fixture(scope="module")
def gateway_process(
    tmp_path_factory: pytest.TempPathFactory, data_template: Path
) -> Iterator[Gateway]:
    """Run a gateway that takes the tokens and sessions of this process, for this module."""
    env = {"SECRET_KEY": project.SECRET_KEY, "AUTO_SUBSCRIBE": HALL}
    site = Gateway(tmp_path_factory.mktemp("gateway"), data_template, env)
    try:
        site.start()
        yield site
    finally:
        site.close()


@pytest.fixture
def site(gateway_process: Gateway, django_db_blocker: object) -> Iterator[Gateway]:
    """Return the gateway, with this process as its backend."""
    with backend(gateway_process.data_dir, gateway_process.nats_url, django_db_blocker):
        yield gateway_process


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)[-100:]


@pytest.fixture
async def person(site: Gateway, name: str) -> Person:
    return await in_thread(Person, name)


@pytest.fixture
async def other(site: Gateway, name: str) -> Person:
    return await in_thread(Person, f"other-{name}"[:100])


@pytest.fixture
def room() -> str:
    """Return a topic that no other test uses."""
    return f"room.{next(rooms)}"


class Questions:
    """What gateways asked about sockets, and what of it was answered.

    One that is answered late is put again, so only which there were counts, not how many.
    """

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self._answered: set[str] = set()
        self._open: dict[str, str] = {}

    async def ask(self, message: Message) -> None:
        question = message.data.decode()
        self.asked.add(question)
        self._open[message.reply] = question

    async def answer(self, message: Message) -> None:
        if message.subject in self._open:
            self._answered.add(self._open.pop(message.subject))

    async def until_answered(self, *credentials: str) -> None:
        """Return when it was answered who each of these is."""

        def all_of_them() -> bool:
            return all(any(one in it for it in self._answered) for one in credentials)

        await until(all_of_them, what="the answers about those who stay")


@asynccontextmanager
async def questions(url: str) -> AsyncIterator[Questions]:
    """Yield what gateways ask the auth workers."""
    found = Questions()
    async with connected(url, name="questions") as broker:
        await broker.subscribe("gateway.auth", found.ask)
        await broker.subscribe("_INBOX.>", found.answer)
        await broker.flush()
        yield found


async def publish(topic: str, data: Any = None) -> int:
    """Store an event and return its sequence."""

    async def store(broker: Broker) -> int:
        payload = json.dumps(data).encode()
        return (await broker.store(topic, payload, headers=None, timeout=30)).sequence

    return await link.arun(store)


async def stays_open(client: TestClient, topic: str) -> None:
    """Require that a socket lives on after what its gateway was told before.

    The event comes to the gateway behind that, on the same connection to NATS.
    """
    sequence = await publish(topic)
    await client.expect("message", topic=topic, seqNo=sequence)
    await client.ask("ping", "pong")


async def loses(client: TestClient, topic: str, change: Callable[[], object]) -> None:
    """Require that a change takes a held topic away, and that nothing of it comes after."""
    await in_thread(change)
    await client.expect("unsubscribed", topic=topic, reason="acl", timeout=EFFECT)
    await publish(topic, "not for you")
    error = await client.error("subscribe", topic=topic)
    assert error["code"] == "ACL_DENIED"
    await client.expect_nothing("message", topic=topic, data="not for you")


async def may_subscribe(client: TestClient, topic: str) -> None:
    """Return once the socket may subscribe to a topic that it was denied."""

    async def allowed() -> bool:
        with contextlib.suppress(AssertionError):  # an error answered
            await client.subscribe(topic)
            return True
        return False

    await until(allowed, EFFECT, what=f"the right to {topic}")


# Rules and groups.


async def test_deny_rule_mid_stream_ends_it_and_nothing_follows(
    site: Gateway, person: Person, other: Person, room: str
) -> None:
    for one in (person, other):
        await in_thread(one.allow, room)
    async with (
        site.client(other.token) as bystander,
        TestClient(site.ws_url(), token=person.token, read=False) as client,
    ):
        await bystander.subscribe(room)
        await client.send("subscribe", topic=room)
        seen: list[Frame] = []

        async def next_frame() -> Frame:
            seen.append(json.loads(await client.recv(EFFECT)))
            return seen[-1]

        stop = asyncio.Event()
        publishing = asyncio.create_task(publish_until(stop, room))
        while (await next_frame())["type"] != "message":
            pass
        await in_thread(person.deny, room)
        async with asyncio.timeout(EFFECT):
            while (await next_frame())["type"] != "unsubscribed":
                pass
        assert (seen[-1]["topic"], seen[-1]["reason"]) == (room, "acl")
        after = await publish(room)
        await bystander.expect("message", seqNo=after)
        stop.set()
        last = await publishing
        await bystander.expect("message", seqNo=last)
        await client.send("ping")
        assert (await next_frame())["type"] == "pong"


async def publish_until(stop: asyncio.Event, topic: str) -> int:
    """Publish one event after another; return the last sequence."""
    while True:
        sequence = await publish(topic)
        if stop.is_set():
            return sequence


async def test_deny_rule_while_history_is_sent_ends_it(
    site: Gateway, person: Person, other: Person, room: str
) -> None:
    for one in (person, other):
        await in_thread(one.allow, room)
    await link.arun(lambda broker: fill(broker, room, 300))
    async with (
        site.client(other.token) as bystander,
        TestClient(site.ws_url(), token=person.token, read=False, receive_buffer=4096) as client,
    ):
        await bystander.subscribe(room, presence=True)
        await client.send("subscribe", topic=room, since=0)
        while json.loads(await client.recv())["type"] != "message":
            pass
        # The rest waits for this reader, who reads on when the right to it is gone.
        await in_thread(person.deny, room)
        await until_just(other, bystander, room)
        received = 1
        while (frame := json.loads(await client.recv()))["type"] != "unsubscribed":
            received += frame["type"] == "message"
        assert received < 300
        await client.send("ping")
        assert json.loads(await client.recv())["type"] == "pong"


async def until_just(person: Person, client: TestClient, topic: str) -> None:
    """Return when nobody else is on a topic whose presence their socket watches."""

    async def alone() -> bool:
        present = (await client.ask("presence", "reply", topic=topic))["data"]
        return [one["userId"] for one in present] == [person.id]

    await until(alone, EFFECT, what=f"nobody else on {topic}")


async def fill(broker: Broker, topic: str, count: int) -> None:
    payload = json.dumps("x" * 50_000).encode()
    for _ in range(count):
        await broker.store(topic, payload, headers=None, timeout=30)


@pytest.mark.parametrize(
    "change",
    [
        lambda rule, to: rule.delete(),
        lambda rule, to: AccessRule.objects.filter(pk=rule.pk).delete(),
        lambda rule, to: changed(rule, enabled=False),
        lambda rule, to: changed(rule, effect="deny"),
        lambda rule, to: changed(rule, topic="room.nowhere"),
        lambda rule, to: changed(rule, user=to.user),
    ],
    ids=["deleted", "deleted with others", "disabled", "turned", "moved", "handed on"],
)
async def test_allow_rule_gone_ends_the_subscription(
    site: Gateway,
    person: Person,
    other: Person,
    room: str,
    change: Callable[[AccessRule, Person], object],
) -> None:
    rule = await in_thread(person.allow, room)
    async with site.client(person.token) as client:
        await client.subscribe(room)
        await loses(client, room, lambda: change(rule, other))


async def test_allow_rule_new_allows_what_was_denied(
    site: Gateway, person: Person, room: str
) -> None:
    async with site.client(person.token) as client:
        assert (await client.error("subscribe", topic=room))["code"] == "ACL_DENIED"
        await in_thread(person.allow, room)
        await may_subscribe(client, room)
        await stays_open(client, room)


async def test_publish_right_withdrawn_is_denied_and_subscriptions_stay(
    site: Gateway, person: Person, room: str
) -> None:
    await in_thread(person.allow, room)
    rule = await in_thread(person.allow, room, "publish")
    async with site.client(person.token) as client:
        await client.subscribe(room)
        await client.publish(room, 1)
        await in_thread(rule.delete)

        async def denied() -> bool:
            await client.send("publish", topic=room, messageId="x", payload=1)
            with contextlib.suppress(AssertionError):
                await client.expect("error", code="ACL_DENIED", timeout=0.2)
                return True
            return False

        await until(denied, EFFECT, what="the denial")
        await stays_open(client, room)


@pytest.fixture
async def team(site: Gateway, name: str, room: str) -> Group:
    """Return a group whose users may subscribe to the room."""

    def make() -> Group:
        group = Group.objects.create(name=f"team-{name}"[:150])
        AccessRule.objects.create(group=group, topic=room)
        return group

    return await in_thread(make)


async def test_group_joined_allows_what_was_denied(
    site: Gateway, person: Person, team: Group, room: str
) -> None:
    async with site.client(person.token) as client:
        assert (await client.error("subscribe", topic=room))["code"] == "ACL_DENIED"
        await in_thread(person.user.groups.add, team)
        await may_subscribe(client, room)
        await stays_open(client, room)


@pytest.mark.parametrize(
    "change",
    [
        lambda person, team: person.user.groups.remove(team),
        lambda person, team: team.user_set.clear(),
        lambda person, team: team.delete(),
    ],
    ids=["left", "emptied", "deleted"],
)
async def test_group_gone_ends_the_subscription(
    site: Gateway,
    person: Person,
    team: Group,
    room: str,
    change: Callable[[Person, Group], object],
) -> None:
    await in_thread(person.user.groups.add, team)
    async with site.client(person.token) as client:
        await client.subscribe(room)
        await loses(client, room, lambda: change(person, team))


async def test_rule_for_everyone_reaches_everyone(
    site: Gateway, person: Person, other: Person, room: str
) -> None:
    async with site.client(person.token) as one, site.client(other.token) as two:
        rule = await in_thread(lambda: AccessRule.objects.create(topic=room))
        for client in (one, two):
            await may_subscribe(client, room)
        await in_thread(rule.delete)
        for client in (one, two):
            await client.expect("unsubscribed", topic=room, reason="acl", timeout=EFFECT)


async def test_change_rolled_back_asks_nobody(
    site: Gateway, person: Person, other: Person, room: str
) -> None:
    await in_thread(person.allow, room)

    def rolled_back() -> None:
        with contextlib.suppress(LookupError), transaction.atomic():
            person.deny(room)
            raise LookupError

    told: list[str] = []

    async def hear(message: Message) -> None:
        told.append(message.subject)

    async with site.client(person.token) as client, connected(site.nats_url, name="spy") as spy:
        await client.subscribe(room)
        await spy.subscribe("gateway.control.acl", hear)
        await spy.subscribe("gateway.control.user.>", hear)
        await spy.flush()
        # All goes out in this order: a first word, so that what `allow` told is behind it.
        await in_thread(commands.reauthorize, person.id)
        await until(lambda: any(person.id in subject for subject in told), what="the first word")
        told.clear()
        await in_thread(rolled_back)
        await in_thread(commands.reauthorize, person.id)
        await until(lambda: told, what="the second word")
        assert told == [f"gateway.control.user.{person.id}"]
        await stays_open(client, room)


async def test_topic_newly_granted_is_joined_unasked(site: Gateway, person: Person) -> None:
    async with site.client(person.token) as client:
        assert client.ready["subscriptions"] == []
        await in_thread(person.allow, HALL)
        await client.expect("subscribed", topic=HALL, timeout=EFFECT)
        await stays_open(client, HALL)
    async with site.client(person.token) as client:
        assert client.ready["subscriptions"] == [HALL]


# Credentials.


@pytest.mark.parametrize(
    "change",
    [lambda user: changed(user, is_active=False), User.delete],
    ids=["deactivated", "deleted"],
)
async def test_user_gone_closes_every_socket_of_theirs_only(
    site: Gateway,
    person: Person,
    other: Person,
    room: str,
    change: Callable[[User], object],
) -> None:
    await in_thread(other.allow, room)
    browser = await in_thread(Browser, person.user)
    async with (
        site.client(person.token) as app,
        browser.socket(site) as page,
        site.client(other.token) as bystander,
    ):
        await bystander.subscribe(room)
        await in_thread(change, person.user)
        for client in (app, page):
            await client.expect_close(4502, EFFECT)
        await stays_open(bystander, room)
    async with TestClient(site.ws_url(), connect=False) as again:
        await again.send("connect", token=person.token)
        await again.expect_close(4500)


async def test_password_changed_closes_all_sockets_but_those_of_api_tokens(
    site: Gateway, person: Person, room: str
) -> None:
    await in_thread(person.allow, room)
    browser = await in_thread(Browser, person.user)
    _, key = await in_thread(ApiToken.objects.create_token, person.user, "program")
    async with (
        site.client(person.token) as app,
        browser.socket(site) as page,
        site.client(key) as program,
        questions(site.nats_url) as asked,
    ):
        await program.subscribe(room)
        # Sessions hang on the hash, whatever it is.
        await in_thread(lambda: changed(person.user, password="another"))
        for client in (app, page):
            await client.expect_close(4502, EFFECT)
        await asked.until_answered(key)
        await stays_open(program, room)


async def test_logout_closes_the_sockets_of_that_browser_only(
    site: Gateway, person: Person, room: str
) -> None:
    await in_thread(person.allow, room)
    laptop, phone = [await in_thread(Browser, person.user) for _ in range(2)]
    async with (
        laptop.socket(site) as first_tab,
        laptop.socket(site) as second_tab,
        phone.socket(site) as elsewhere,
        site.client(person.token) as app,
        questions(site.nats_url) as asked,
    ):
        for client in (elsewhere, app):
            await client.subscribe(room)
        await in_thread(laptop.client.logout)
        for client in (first_tab, second_tab):
            await client.expect_close(4502, EFFECT)
        await asked.until_answered(phone.session, person.token)
        for client in (elsewhere, app):
            await stays_open(client, room)


@pytest.mark.parametrize(
    "change",
    [lambda token: changed(token, enabled=False), ApiToken.delete],
    ids=["disabled", "deleted"],
)
async def test_api_token_gone_closes_its_sockets_only(
    site: Gateway, person: Person, room: str, change: Callable[[ApiToken], object]
) -> None:
    await in_thread(person.allow, room)
    tokens = ApiToken.objects
    token, key = await in_thread(tokens.create_token, person.user, "build")
    _, good_key = await in_thread(tokens.create_token, person.user, "other")
    async with (
        site.client(key) as client,
        site.client(good_key) as other_program,
        questions(site.nats_url) as asked,
    ):
        await other_program.subscribe(room)
        await in_thread(change, token)
        await client.expect_close(4502, EFFECT)
        await asked.until_answered(good_key)
        await stays_open(other_program, room)


# Commands.


async def test_kick_closes_every_socket_of_theirs_only(
    site: Gateway, person: Person, other: Person, room: str
) -> None:
    await in_thread(other.allow, room)
    async with (
        site.client(person.token) as one,
        site.client(person.token) as two,
        site.client(other.token) as bystander,
    ):
        await bystander.subscribe(room)
        await in_thread(lambda: call_command("kick", person.user.username, "--reason", "too loud"))
        for client in (one, two):
            await client.expect_close(4502, EFFECT)
            assert client.ws.close_reason == "too loud"
        await stays_open(bystander, room)
    async with site.client(person.token) as again:
        assert again.ready["userId"] == person.id


async def test_unsubscribe_takes_a_topic_away_and_leaves_the_right(
    site: Gateway, person: Person, other: Person, room: str
) -> None:
    await in_thread(person.allow, room)
    await in_thread(other.allow, room)
    async with (
        site.client(person.token) as client,
        site.client(other.token) as bystander,
    ):
        await client.subscribe(room)
        await bystander.subscribe(room)
        await in_thread(commands.unsubscribe, person.id, room)
        await client.expect("unsubscribed", topic=room, reason="server", timeout=EFFECT)
        missed = await publish(room)
        # Once a bystander has it, it is behind whoever subscribes now.
        await bystander.expect("message", seqNo=missed)
        await client.subscribe(room)
        await client.expect_nothing("message", seqNo=missed)
        await stays_open(client, room)


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("gateway.control.user.{id}", b"garbage"),
        ("gateway.control.user.{id}", b'{"action": "explode"}'),
        ("gateway.control.user.{id}", b'{"action": "unsubscribe"}'),
        ("gateway.control.user.{id}", b'{"action": "unsubscribe", "topic": "room.never"}'),
        ("gateway.control.user.none", b'{"action": "disconnect"}'),
        ("gateway.control.acl", b"garbage"),
        ("gateway.control.acl", b'{"users": "7"}'),
        ("gateway.control.acl", b'{"users": ["none"], "groups": null}'),
    ],
)
async def test_control_that_means_nothing_does_nothing(
    site: Gateway, person: Person, room: str, subject: str, body: bytes
) -> None:
    await in_thread(person.allow, room)
    # Behind the word of that rule, on the same connection: it finds no socket to ask about.
    await publish(room)
    async with site.client(person.token) as client, questions(site.nats_url) as asked:
        await client.subscribe(room)
        target = subject.format(id=person.id)
        await link.arun(lambda broker: broker.publish(target, body))
        await stays_open(client, room)
    assert asked.asked == set()


# A web process by itself: auth workers die, or the test answers in their place.


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Cluster]:
    """Run a web process without auth workers, for this module."""
    env = {
        "SECRET_KEY": project.SECRET_KEY,
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        # Longer than this process is ever late with an answer; three times it ends a session.
        "REALTIME_AUTH_TIMEOUT": "8",
        "REDIS_URL": "",
    }
    cluster = Cluster(tmp_path_factory.mktemp("alone"), data_template, env)
    try:
        cluster.start(web=1, bridges=0, auth_workers=0)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def web(alone: Cluster, django_db_blocker: object) -> Iterator[Cluster]:
    """Return the web process, with this process as its backend."""
    with backend(alone.data_dir, alone.nats.url, django_db_blocker):
        yield alone


@pytest.fixture
def auth_worker(web: Cluster) -> Iterator[ManageProcess]:
    """Run an auth worker for one test."""
    worker = web.run("auth_worker")
    worker.wait_for_line("auth worker ready")
    yield worker
    worker.kill()


@pytest.mark.parametrize("end", [ManageProcess.kill, ManageProcess.pause], ids=["dead", "frozen"])
async def test_reauthorize_without_auth_workers_closes_with_4002(
    web: Cluster,
    auth_worker: ManageProcess,
    name: str,
    room: str,
    end: Callable[[ManageProcess], None],
) -> None:
    person = await in_thread(Person, name)
    rule = await in_thread(person.allow, room)
    async with web.client(person.token) as client:
        await client.subscribe(room)
        end(auth_worker)
        await in_thread(rule.delete)
        await client.expect_close(4002, 60)


class Question(NamedTuple):
    """A gateway's question who a socket is."""

    reply: str
    token: str


class Answers:
    """The test in the auth worker's place: every question waits until it is answered here.

    Attributes:
        token: of this test's sockets. One of a test before may still be asked about.
    """

    user_id = "7"

    def __init__(self, broker: Broker) -> None:
        self.token = uuid.uuid4().hex
        self._broker = broker
        self._questions: asyncio.Queue[Question] = asyncio.Queue()

    async def take(self, message: Message) -> None:
        token = json.loads(message.data)["token"] or ""
        if token.startswith(self.token):
            await self._questions.put(Question(message.reply, token))

    async def question(self, timeout: float = EFFECT) -> Question:
        """Return the next question.

        Raises:
            TimeoutError: when none comes.
        """
        async with asyncio.timeout(timeout):
            return await self._questions.get()

    async def answer(self, question: Question, *topics: str, success: bool = True) -> None:
        """Let in user 7, who may subscribe to these topics; or deny."""
        rules = [{"effect": "allow", "action": "subscribe", "topic": one} for one in topics]
        body = {"success": success, "user_id": self.user_id, "rules": rules}
        await self._broker.publish(question.reply, json.dumps(body).encode())

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Answer within that no topic may be subscribed to, also where a question is put again."""

        async def refuse() -> None:
            while True:
                await self.answer(await self._questions.get())

        task = asyncio.create_task(refuse())
        try:
            yield
        finally:
            task.cancel()


@pytest.fixture
async def answers(web: Cluster) -> AsyncIterator[Answers]:
    async with connected(web.nats.url, name="stand-in") as broker:
        answers = Answers(broker)
        await broker.subscribe("gateway.auth", answers.take, queue="auth")
        await broker.flush()
        yield answers


@asynccontextmanager
async def socket_of(web: Cluster, answers: Answers, *topics: str) -> AsyncIterator[TestClient]:
    """Yield a socket that is let in with the right to topics."""
    async with TestClient(web.ws_url(), connect=False) as client:
        await client.send("connect", token=answers.token)
        await answers.answer(await answers.question(), *topics)
        await client.expect("ready")
        yield client


async def test_reauthorize_denied_closes_with_4502(web: Cluster, answers: Answers) -> None:
    async with socket_of(web, answers) as client:
        await in_thread(commands.reauthorize, answers.user_id)
        await answers.answer(await answers.question(), success=False)
        await client.expect_close(4502)


async def test_reauthorize_as_another_user_closes_with_4502(
    web: Cluster, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with socket_of(web, answers) as client:
        await in_thread(commands.reauthorize, answers.user_id)
        question = await answers.question()
        monkeypatch.setattr(answers, "user_id", "8")
        await answers.answer(question)
        await client.expect_close(4502)


async def test_reauthorize_first_question_unanswered_keeps_the_socket_when_the_next_is(
    web: Cluster, answers: Answers, room: str
) -> None:
    async with socket_of(web, answers, room) as client:
        await client.subscribe(room)
        await in_thread(commands.reauthorize, answers.user_id)
        await answers.question()
        await answers.answer(await answers.question(), room)
        await stays_open(client, room)


async def test_reauthorize_answers_out_of_order_leave_the_newest_rights(
    web: Cluster, answers: Answers, room: str
) -> None:
    async with socket_of(web, answers, room) as client:
        await client.subscribe(room)
        # The first change is still being asked about when the second one comes; the worker
        # that looked the first one up, before the second, is the slower one.
        await in_thread(commands.rules_changed, [answers.user_id])
        first = await answers.question()
        await in_thread(commands.rules_changed, [answers.user_id])
        try:
            second: Question | None = await answers.question(AT_ONCE)
        except TimeoutError:
            # It asks after the first answer: as good.
            second = None
            await answers.answer(first, room)
        else:
            await answers.answer(second)
        async with answers.refusing():
            await client.expect("unsubscribed", topic=room)
            if second is not None:
                await answers.answer(first, room)
            await publish(room)
            await client.expect_nothing("message")
            assert (await client.error("subscribe", topic=room))["code"] == "ACL_DENIED"


@pytest.mark.parametrize(
    "change",
    [
        lambda: commands.rules_changed([Answers.user_id]),
        lambda: commands.rules_changed(None),
        lambda: commands.reauthorize(Answers.user_id),
    ],
    ids=["rules of the user", "rules of all", "credentials"],
)
async def test_change_while_a_socket_connects_is_asked_about(
    web: Cluster, answers: Answers, room: str, change: Callable[[], None]
) -> None:
    async with TestClient(web.ws_url(), connect=False) as client:
        await client.send("connect", token=answers.token)
        question = await answers.question()
        # The answer was looked up before the change that is told here, and arrives after it.
        await in_thread(change)
        await link.arun(lambda broker: broker.flush())
        await answers.answer(question, room)
        await answers.answer(await answers.question())
        await client.expect("ready")
        assert (await client.error("subscribe", topic=room))["code"] == "ACL_DENIED"


async def test_refresh_refused_while_reauthorized_keeps_the_session(
    web: Cluster, answers: Answers, room: str
) -> None:
    async with socket_of(web, answers, room) as client:
        await client.subscribe(room)
        bad = f"{answers.token}-bad"
        await client.send("refresh", token=bad, id="r")
        refresh = await answers.question()
        assert refresh.token == bad
        await in_thread(commands.reauthorize, answers.user_id)
        try:
            again = await answers.question(AT_ONCE)
            await answers.answer(refresh, success=False)
        except TimeoutError:
            await answers.answer(refresh, success=False)
            again = await answers.question()
        error = await client.expect("error", id="r")
        assert error["code"] == "AUTH_FAILED"
        # The session stands on the token that was good, not on the one that is being tried.
        assert again.token == answers.token
        await answers.answer(again, room)
        await stays_open(client, room)
