"""The auth workers of docs/backend.md: run as processes, against a real nats-server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from realtime.broker import Broker, connected
from realtime.embedded import end, spawn
from realtime.protocol.exceptions import NoResponder, RequestTimeout
from realtime.protocol.messages import AuthRequest, Identity, encode_message, parse_auth_reply
from tests.deploy.nats_server import Server
from tests.support.processes import START
from tests.support.waiting import DEADLINE, until

from .languages import LANGUAGES, command

pytestmark = pytest.mark.asyncio

KEY = "a key that only the backend and this test know"
EXPIRES = int(time.time()) + 3600


@pytest.fixture(params=LANGUAGES)
def worker(request: pytest.FixtureRequest, tmp_path: Path, server: Server) -> Iterator[None]:
    """A worker in one of the languages, with the rights of the NATS user `auth`."""
    env = {**os.environ, "NATS_URL": server.url("auth"), "JWT_KEY": KEY}
    process = spawn(
        command(request.param, "plain_worker", tmp_path), tmp_path / "worker.log", env=env
    )
    yield
    assert process.poll() is None, (tmp_path / "worker.log").read_text()
    end(process, 5)


def token_of(key: str = KEY, *, algorithm: str = "HS256", **claims: object) -> str:
    """Return a token for user 7 that is good but for what the arguments say."""
    claims = {"sub": "7", "exp": EXPIRES, **claims}
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, "" if algorithm == "none" else key, algorithm=algorithm)


def request_with(token: str | None) -> bytes:
    """Return what the gateway asks about a socket."""
    asked = AuthRequest(
        token=token,
        session_key=None,
        origin="https://page.example",
        ip="192.0.2.7",
        user_agent="Mozilla/5.0",
    )
    return encode_message(asked)


async def ask(broker: Broker, request: bytes) -> Identity | str:
    """Return the answer of the worker, as the gateway reads it."""

    async def answered() -> bytes | None:
        try:
            return (await broker.request("gateway.auth", request, timeout=DEADLINE)).data
        except NoResponder:  # it is still starting
            return None

    data = await until(answered, START, what="a worker on gateway.auth")
    assert data is not None
    return parse_auth_reply(data)


async def test_worker_asked_about_a_good_token_says_who_it_is(server: Server, worker: None) -> None:
    async with connected(server.url("gateway"), name="t", inbox_prefix="_INBOX_gateway") as broker:
        identity = await ask(broker, request_with(token_of()))
        assert isinstance(identity, Identity)
        assert (identity.user_id, identity.expires_at) == ("7", EXPIRES)


async def test_worker_asked_about_a_bad_token_denies_it(server: Server, worker: None) -> None:
    bad = {
        "none at all": None,
        "empty": "",
        "no token": "a.b.c",
        "another key": token_of("another key that is long enough too, it is"),
        "expired": token_of(exp=EXPIRES - 7200),
        "without an end": token_of(exp=None),
        "of nobody": token_of(sub=None),
        "unsigned": token_of(algorithm="none"),
        "other algorithm": token_of(KEY * 2, algorithm="HS512"),
    }
    async with connected(server.url("gateway"), name="t", inbox_prefix="_INBOX_gateway") as broker:
        answers = {name: await ask(broker, request_with(token)) for name, token in bad.items()}
    assert {name for name, answer in answers.items() if not isinstance(answer, str)} == set()


async def test_worker_asked_what_it_cannot_read_says_nothing_and_goes_on(
    server: Server, worker: None
) -> None:
    async with connected(server.url("gateway"), name="t", inbox_prefix="_INBOX_gateway") as broker:
        await ask(broker, request_with(token_of()))
        with pytest.raises(RequestTimeout):
            await broker.request("gateway.auth", b"{", timeout=0.5)
        assert isinstance(await ask(broker, request_with(token_of())), Identity)


async def test_worker_without_a_key_does_not_start(tmp_path: Path, server: Server) -> None:
    env = {**os.environ, "NATS_URL": server.url("auth"), "JWT_KEY": ""}
    process = spawn(command("python", "plain_worker", tmp_path), tmp_path / "worker.log", env=env)
    await until(lambda: process.poll() is not None, START, what="the end of the worker")
    assert process.returncode != 0
