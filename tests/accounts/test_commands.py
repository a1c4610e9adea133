"""Management commands; the auth worker's runs as a process, against a real nats-server."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import jwt
import pytest
from django.conf import settings as project
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.authentication import NO_CREDENTIAL, authenticate
from accounts.models import ApiToken
from realtime.broker import connected
from realtime.embedded import NatsServer
from realtime.protocol.exceptions import RequestTimeout
from realtime.protocol.messages import encode_message, parse_auth_reply

from .support import auth_request, public_pem, rsa_key

DEADLINE = 120.0


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    call_command(*command)
    return capsys.readouterr().out


@pytest.mark.parametrize("attribute", ["username", "pk"])
def test_token_by_name_or_id_prints_a_good_token_only(
    alice: User, capsys: pytest.CaptureFixture[str], attribute: str
) -> None:
    out = printed(capsys, "token", str(getattr(alice, attribute)))
    assert out.count("\n") == 1
    assert authenticate(auth_request(out.strip())).user_id == str(alice.pk)


def test_token_username_counts_before_id(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    named = User.objects.create_user(str(alice.pk))
    out = printed(capsys, "token", str(alice.pk))
    assert authenticate(auth_request(out.strip())).user_id == str(named.pk)


@pytest.mark.parametrize(("options", "seconds"), [((), 3600), (("--lifetime", "60"), 60)])
def test_token_lifetime_is_as_asked(
    alice: User, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], seconds: int
) -> None:
    out = printed(capsys, "token", "alice", *options)
    claims = jwt.decode(out.strip(), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == seconds


def test_token_with_negative_lifetime_is_denied(
    alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "token", "alice", "--lifetime", "-3600")
    assert not authenticate(auth_request(out.strip())).success


@pytest.mark.parametrize("command", [("token",), ("api_token", "--name", "x")])
@pytest.mark.parametrize("user", ["nobody", "0", "99999999999999999999", ""])
def test_commands_unknown_user_is_one_sentence(
    db: None, command: tuple[str, ...], user: str
) -> None:
    with pytest.raises(CommandError, match="There is no user with the username or id"):
        call_command(*command[:1], user, *command[1:])


@pytest.mark.parametrize("command", [("token",), ("api_token", "--name", "x")])
def test_commands_inactive_user_is_refused(alice: User, command: tuple[str, ...]) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    with pytest.raises(CommandError, match="'alice' is inactive"):
        call_command(*command[:1], "alice", *command[1:])


def test_token_where_only_a_public_key_is_set_is_refused(alice: User, settings: Settings) -> None:
    settings.ACCOUNTS = {"JWT_KEY": public_pem(rsa_key()), "JWT_ALGORITHMS": ["RS256"]}
    with pytest.raises(CommandError, match="JWT_KEY is a public key"):
        call_command("token", "alice")


def test_api_token_prints_a_good_key_only(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "api_token", "alice", "--name", "build")
    assert out.count("\n") == 1
    assert authenticate(auth_request(out.strip())).user_id == str(alice.pk)
    assert ApiToken.objects.get().name == "build"


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_api_token_bad_name_is_refused(alice: User, name: str) -> None:
    with pytest.raises(CommandError, match="--name"):
        call_command("api_token", "alice", "--name", name)
    assert not ApiToken.objects.exists()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """Return a nats-server that is not started yet."""
    server = NatsServer(tmp_path / "nats")
    yield server
    server.kill()


async def logged(process: asyncio.subprocess.Process, text: str) -> None:
    """Return once the process has logged a line with `text`."""
    assert process.stderr is not None
    lines = []
    while line := (await process.stderr.readline()).decode():
        if text in line:
            return
        lines.append(line)
    pytest.fail(f"ended without logging {text!r}:\n{''.join(lines)}")


@asynccontextmanager
async def auth_worker(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Yield a running auth worker, and end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "manage.py", "auth_worker"),
        stderr=asyncio.subprocess.PIPE,
        cwd=project.BASE_DIR,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_auth_worker_waits_for_nats_answers_and_exits_0_on_a_signal(
    tmp_path: Path, nats: NatsServer, number: signal.Signals
) -> None:
    environment = {"DATA_DIR": str(tmp_path), "NATS_URL": nats.url}
    async with asyncio.timeout(DEADLINE), auth_worker(environment) as worker:
        await logged(worker, "nats unreachable, trying again")
        nats.start()
        await logged(worker, "auth worker ready subject=gateway.auth")
        async with connected(nats.url, name="test") as broker:
            question = encode_message(auth_request())
            reply = await broker.request("gateway.auth", question, timeout=DEADLINE)
        assert parse_auth_reply(reply.data) == NO_CREDENTIAL
        worker.send_signal(number)
        assert await worker.wait() == 0


@pytest.mark.asyncio
async def test_auth_worker_stopped_without_nats_exits_0(tmp_path: Path, nats: NatsServer) -> None:
    environment = {"DATA_DIR": str(tmp_path), "NATS_URL": nats.url}
    async with asyncio.timeout(DEADLINE), auth_worker(environment) as worker:
        await logged(worker, "nats unreachable, trying again")
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0


@pytest.mark.asyncio
async def test_auth_worker_with_a_hanging_look_up_exits_0_all_the_same(
    tmp_path: Path, nats: NatsServer
) -> None:
    environment = {"DATA_DIR": str(tmp_path), "NATS_URL": nats.url}
    key = prepared_database(environment)
    nats.start()
    with closing(sqlite3.connect(tmp_path / "db.sqlite3", isolation_level=None)) as database:
        # Noting the token's use waits for this lock for longer than a drain may take.
        database.execute("BEGIN IMMEDIATE")
        async with (
            asyncio.timeout(DEADLINE),
            auth_worker(environment) as worker,
            connected(nats.url, name="test") as broker,
        ):
            await logged(worker, "auth worker ready")
            with pytest.raises(RequestTimeout):
                await broker.request("gateway.auth", encode_message(auth_request(key)), timeout=2)
            worker.send_signal(signal.SIGTERM)
            await logged(worker, "auth worker stopped unanswered=1")
            # The look-up itself waits 20 s for the lock.
            async with asyncio.timeout(10):
                assert await worker.wait() == 0


def prepared_database(environment: dict[str, str]) -> str:
    """Make a database file with a user, and return the user's API key."""
    script = (
        "from accounts.models import ApiToken; from django.contrib.auth.models import User;"
        "print(ApiToken.objects.create_token(User.objects.create(username='a'), 'x')[1])"
    )
    for command in (("migrate", "-v0"), ("shell", "-v0", "-c", script)):
        out = subprocess.check_output(
            (sys.executable, "manage.py", *command),
            cwd=project.BASE_DIR,
            env={**os.environ, **environment},
            text=True,
        )
    return out.strip()
