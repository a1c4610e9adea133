"""Auth requests answered together: as one by one, and none suffers for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from django.contrib.auth.models import Group, User
from pytest_django import DjangoAssertNumQueries

from accounts.authentication import authenticate, authenticate_all
from accounts.models import AccessRule, ApiToken
from accounts.tokens import issue_jwt
from accounts.worker import AuthWorker
from realtime.broker import Broker
from realtime.protocol.messages import AuthReply, AuthRequest, encode_message

from .support import FakeBroker, auth_request, reply_for


@pytest.mark.django_db
def test_authenticate_all_answers_as_authenticate_does(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    ann, bea, gone, idle = (
        User.objects.create(username=name, is_active=name != "idle")
        for name in ("ann", "bea", "gone", "idle")
    )
    team = Group.objects.create(name="team")
    team.user_set.add(bea)
    AccessRule.objects.create(topic="room.all")
    AccessRule.objects.create(topic="room.ann", user=ann)
    AccessRule.objects.create(topic="room.team", group=team)
    AccessRule.objects.create(topic="room.off", enabled=False)
    tokens = [issue_jwt(user) for user in (ann, bea, gone, idle, ann)]
    gone.delete()
    requests = [auth_request(token) for token in (*tokens, "no token", "\xe9", None)]
    with django_assert_max_num_queries(3):
        together = authenticate_all(requests)
    assert together == [authenticate(request) for request in requests]
    assert [reply.success for reply in together] == [True, True, False, False, True, *[False] * 3]


@pytest.mark.django_db
def test_authenticate_all_takes_other_credentials_too() -> None:
    ann = User.objects.create(username="ann")
    _, key = ApiToken.objects.create_token(ann, "script")
    replies = authenticate_all([auth_request(key), auth_request(issue_jwt(ann))])
    assert [reply.user_id for reply in replies] == [str(ann.pk)] * 2


async def started(sizes: list[int]) -> tuple[FakeBroker, AuthWorker]:
    """Return a worker that notes how many requests each of its look-ups answers."""

    def verify(asked: Sequence[AuthRequest]) -> list[AuthReply]:
        sizes.append(len(asked))
        return [reply_for(one) for one in asked]

    broker = FakeBroker()
    worker = AuthWorker(cast(Broker, broker), verify)
    await worker.start()
    return broker, worker


@pytest.mark.asyncio
async def test_worker_answers_what_waits_with_one_look_up() -> None:
    sizes: list[int] = []
    broker, worker = await started(sizes)
    for number in range(100):
        await broker.ask(str(number))
    assert await worker.stop()
    assert sizes == [64, 36]
    assert set(broker.replies) == {str(number) for number in range(100)}


@pytest.mark.asyncio
async def test_worker_what_comes_soon_after_a_look_up_gathers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Long enough for a slow machine.
    monkeypatch.setattr("accounts.worker._GATHER", 2.0)
    sizes: list[int] = []
    broker, worker = await started(sizes)
    await broker.ask("alone")
    await broker.reply_to("alone")
    for token in ("one", "two", "three"):
        await broker.ask(token)
        await asyncio.sleep(0)
    await broker.reply_to("three")
    assert await worker.stop()
    assert sizes == [1, 3]


@pytest.mark.asyncio
async def test_worker_bad_request_spoils_no_other() -> None:
    def verify(asked: Sequence[AuthRequest]) -> list[AuthReply]:
        if any(one.token == "bad" for one in asked):
            raise OverflowError("too large to convert")
        return [reply_for(one) for one in asked]

    broker = FakeBroker()
    worker = AuthWorker(cast(Broker, broker), verify)
    await worker.start()
    for token in ("one", "bad", "two"):
        await broker.deliver(encode_message(auth_request(token)), token)
    assert await worker.stop()
    assert set(broker.replies) == {"one", "two"}
