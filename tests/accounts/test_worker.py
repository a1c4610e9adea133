"""The auth worker: concurrency, bounds, and failing closed."""

from __future__ import annotations

import logging

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from pytest_django import Settings

from accounts.authentication import NO_CREDENTIAL, authenticate
from accounts.models import AccessRule
from accounts.tokens import issue_jwt
from accounts.worker import LOG_SECONDS, describe
from realtime.protocol.messages import (
    AuthReply,
    AuthRequest,
    Identity,
    encode_message,
    parse_auth_reply,
)

from .support import Clock, FakeBroker, SlowLookUp, auth_request, drained, reply_for, started

pytestmark = pytest.mark.asyncio


def limits(settings: Settings, *, threads: int, queue: int) -> None:
    settings.ACCOUNTS = {**settings.ACCOUNTS, "AUTH_THREADS": threads, "AUTH_QUEUE": queue}


def failing(request: AuthRequest) -> AuthReply:
    """Fail for tokens named "bad", pass the others."""
    if request.token == "bad":
        raise OperationalError("connection refused")
    return reply_for(request)


async def test_worker_listens_as_a_member_of_the_queue_group(settings: Settings) -> None:
    settings.REALTIME = {**settings.REALTIME, "PREFIX": "site"}
    broker = FakeBroker()
    worker = await started(broker, reply_for)
    (subscription,) = broker.subscriptions
    assert (subscription.subject, subscription.queue) == ("site.auth", "auth")
    await worker.stop()


async def test_worker_request_is_answered() -> None:
    broker = FakeBroker()
    worker = await started(broker, reply_for)
    await broker.ask("7")
    identity = parse_auth_reply(await broker.reply_to("7"))
    assert isinstance(identity, Identity)
    assert identity.user_id == "7"
    assert await worker.stop()


async def test_worker_slow_look_up_holds_nobody_up(slow: SlowLookUp) -> None:
    broker = FakeBroker()
    worker = await started(broker, slow)
    await broker.ask("slow")
    await slow.started()
    for number in range(50):
        await broker.ask(f"quick{number}")
    for number in range(50):
        await broker.reply_to(f"quick{number}")
    assert "slow" not in broker.replies
    slow.released.set()
    await broker.reply_to("slow")
    assert await worker.stop()


async def test_worker_runs_as_many_look_ups_at_once_as_it_has_threads(
    settings: Settings, slow: SlowLookUp
) -> None:
    limits(settings, threads=3, queue=10)
    broker = FakeBroker()
    worker = await started(broker, slow)
    for number in range(3):
        await broker.ask(f"slow{number}")
        await slow.started()
    await broker.ask("slow3")
    assert not slow.entered.acquire(blocking=False)
    slow.released.set()
    await broker.reply_to("slow3")
    assert await worker.stop()


async def test_worker_overloaded_drops_what_exceeds_the_queue(
    settings: Settings, slow: SlowLookUp, caplog: pytest.LogCaptureFixture
) -> None:
    limits(settings, threads=1, queue=2)
    broker = FakeBroker()
    worker = await started(broker, slow)
    for token in ("slow", "second", "third", "fourth", "fifth"):
        await broker.ask(token)
    slow.released.set()
    assert await worker.stop()
    assert set(broker.replies) == {"slow", "second", "third"}
    assert caplog.text.count("auth request dropped") == 1


async def test_worker_after_an_overload_answers_again(settings: Settings, slow: SlowLookUp) -> None:
    limits(settings, threads=1, queue=0)
    broker = FakeBroker()
    worker = await started(broker, slow)
    await broker.ask("slow")
    await broker.ask("dropped")
    slow.released.set()
    await drained(worker)
    await broker.ask("next")
    assert await worker.stop()
    assert set(broker.replies) == {"slow", "next"}


@pytest.mark.parametrize(("waited", "answered"), [(1.9, True), (2.1, False)])
async def test_worker_request_that_waited_past_the_timeout_is_dropped(
    settings: Settings, slow: SlowLookUp, waited: float, answered: bool
) -> None:
    limits(settings, threads=1, queue=10)
    settings.REALTIME = {**settings.REALTIME, "AUTH_TIMEOUT": 2.0}
    clock = Clock()
    broker = FakeBroker()
    worker = await started(broker, slow, clock)
    await broker.ask("slow")
    await slow.started()
    await broker.ask("waiting")
    clock.now += waited
    slow.released.set()
    assert await worker.stop()
    assert ("waiting" in broker.replies) is answered


async def test_worker_failed_look_up_is_left_unanswered(caplog: pytest.LogCaptureFixture) -> None:
    broker = FakeBroker()
    worker = await started(broker, failing)
    await broker.ask("bad")
    await broker.ask("good")
    assert await worker.stop()
    assert set(broker.replies) == {"good"}
    assert "OperationalError: connection refused" in caplog.text


async def test_worker_failures_are_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    broker = FakeBroker()
    worker = await started(broker, failing, clock)
    for _ in range(3):
        await broker.ask("bad")
    await drained(worker)
    assert caplog.text.count("auth look-up failed") == 1
    clock.now += LOG_SECONDS
    await broker.ask("bad")
    await drained(worker)
    assert caplog.text.count("auth look-up failed") == 2
    assert "more=2" in caplog.text
    await worker.stop()


async def test_worker_error_is_logged_without_the_token(caplog: pytest.LogCaptureFixture) -> None:
    def leaky(request: AuthRequest) -> AuthReply:
        raise ValueError(f"cannot digest {request.token}")

    caplog.set_level(logging.DEBUG)
    broker = FakeBroker()
    worker = await started(broker, leaky)
    await broker.ask("hush-hush")
    await worker.stop()
    assert "ValueError at " in caplog.text
    assert "hush-hush" not in caplog.text


async def test_worker_without_nats_survives_its_own_reply(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = FakeBroker()
    worker = await started(broker, reply_for)
    broker.away = True
    await broker.ask("lost")
    await drained(worker)
    broker.away = False
    await broker.ask("next")
    assert await worker.stop()
    assert set(broker.replies) == {"next"}
    assert "NATS is out of reach" in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'{"token": 7}',
        b'{"token": "\xff"}',
        b"[" * 100_000,
        encode_message(auth_request("x" * 300_000)),
    ],
    ids=lambda data: repr(data[:12]),
)
async def test_worker_malformed_request_is_logged_and_left(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    broker = FakeBroker()
    worker = await started(broker, reply_for)
    await broker.deliver(data, "garbage")
    await broker.ask("good")
    assert await worker.stop()
    assert set(broker.replies) == {"good"}
    assert "auth request malformed" in caplog.text


async def test_worker_request_without_reply_subject_is_left() -> None:
    asked = []

    def recording(request: AuthRequest) -> AuthReply:
        asked.append(request.token)
        return reply_for(request)

    broker = FakeBroker()
    worker = await started(broker, recording)
    await broker.deliver(encode_message(auth_request("7")), "")
    await worker.stop()
    assert asked == []


async def test_describe_database_error_is_one_line() -> None:
    assert describe(OperationalError("refused\n  is it running?")) == (
        "OperationalError: refused is it running?"
    )


@pytest.mark.django_db(transaction=True)
async def test_worker_with_the_database_answers_from_it() -> None:
    alice = await User.objects.acreate(username="alice")
    await AccessRule.objects.acreate(user=alice, action="publish", topic="room.1")
    token = issue_jwt(alice)
    broker = FakeBroker()
    worker = await started(broker, authenticate)
    await broker.ask(token)
    await broker.deliver(encode_message(auth_request()), "nothing")
    identity = parse_auth_reply(await broker.reply_to(token))
    assert isinstance(identity, Identity)
    assert identity.rules.decide("publish", "room.1").allowed
    assert not identity.rules.decide("publish", "room.2").allowed
    assert parse_auth_reply(await broker.reply_to("nothing")) == NO_CREDENTIAL
    assert await worker.stop()
