"""The log tells the life of every connection, a line each time, and no credential in any."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from realtime.broker import connected
from realtime.lifecycle import without_credential
from realtime.nats_client import Message
from realtime.protocol.messages import AuthRequest
from tests.support.client import TestClient
from tests.support.gateways import Gateway
from tests.support.processes import manage
from tests.support.waiting import until

from .support import ALICE, handshake, log_in
from .test_sse import Stream


class Logged(Gateway):
    """A gateway whose log is JSON."""

    def text(self) -> str:
        """Return all that it has written."""
        return self.processes[0].text()

    def lines(self) -> list[dict[str, Any]]:
        """Return what it logged of connections, as objects."""
        # The last line may be half written.
        whole = self.text().split("\n")[:-1]
        entries = [json.loads(line) for line in whole if line.startswith("{")]
        return [entry for entry in entries if entry["logger"] == "realtime.lifecycle"]

    async def life(self, last: str = "closed", **fields: Any) -> list[dict[str, Any]]:
        """Return the lines of the one session whose line `last` has these fields, once it has."""

        def found() -> list[dict[str, Any]]:
            lines = self.lines()
            for line in lines:
                if line["message"].startswith(last) and fields.items() <= line.items():
                    return [one for one in lines if one["session"] == line["session"]]
            return []

        return await until(found, what=f"a connection that {last} with {fields}")


def words(lines: list[dict[str, Any]]) -> list[str]:
    """Return the first word of each line."""
    return [line["message"].partition(" ")[0] for line in lines]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Logged]:
    """Run a gateway that logs all it can say, for the tests of this file."""
    env = {
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        "REALTIME_AUTH_DEADLINE": "8",
        "REALTIME_MAX_CONNECTIONS_PER_ADDRESS": "3",
        "FORWARDED_HEADER": "X-Forwarded-For",
    }
    gateway = Logged(tmp_path_factory.mktemp("lifecycle") / "data", data_template, env)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """Return an address that no other test of this file comes from."""
    number = sum(map(ord, request.node.name)) % 60_000
    return f"2001:db8::{number:x}"


@pytest.fixture
def client(site: Logged, address: str) -> Callable[..., TestClient]:
    """Return a function that makes a client with an address of the test's own."""

    def make(token: str | None = None, **options: Any) -> TestClient:
        headers = {"X-Forwarded-For": address, **options.pop("headers", {})}
        return TestClient(site.ws_url(), token=token, headers=headers, **options)

    return make


async def test_life_of_a_socket_is_told_with_session_user_and_address(
    site: Logged, client: Callable[..., TestClient], address: str
) -> None:
    async with client(site.token("alice")) as alice:
        await alice.close(1000)
    lines = await site.life(ip=address)
    assert words(lines) == ["opened", "authenticated", "closed"]
    assert {line["ip"] for line in lines} == {address}
    assert [line["user"] for line in lines] == [None, ALICE, ALICE]
    assert lines[0]["transport"] == "websocket"
    end = lines[-1]
    assert (end["code"], end["by"], end["reason"]) == (1000, "client", None)
    assert end["seconds"] >= 0


async def test_socket_that_vanishes_is_told_as_such(
    site: Logged, client: Callable[..., TestClient], address: str
) -> None:
    async with client(site.token("alice")) as alice:
        alice.abort()
        end = (await site.life(ip=address))[-1]
    assert (end["code"], end["by"], end["reason"]) == (1006, "client", None)


async def test_kick_is_told_with_its_reason(
    site: Logged, client: Callable[..., TestClient], address: str
) -> None:
    async with client(site.token("bob")) as bob:
        await asyncio.to_thread(manage, "kick", "bob", "--reason", "too\nloud", env=site.env)
        await bob.expect_close(4502)
    end = (await site.life(ip=address))[-1]
    assert (end["code"], end["by"], end["reason"]) == (4502, "gateway", "too\nloud")
    assert "\n" not in end["message"]


async def test_refused_token_is_told_without_the_token(
    site: Logged, client: Callable[..., TestClient], address: str
) -> None:
    async with client(connect=False) as nobody:
        await nobody.send("connect", token="rt_not-a-token-of-ours")
        await nobody.expect_close(4500)
    lines = await site.life(ip=address)
    assert words(lines) == ["opened", "refused", "closed"]
    assert lines[1]["code"] == "AUTH_FAILED"
    assert lines[1]["reason"]
    assert (lines[2]["code"], lines[2]["by"]) == (4500, "gateway")


async def test_socket_that_says_nothing_is_told(
    site: Logged, client: Callable[..., TestClient], address: str
) -> None:
    async with client(connect=False) as nobody:
        await nobody.expect_close(4501)
    lines = await site.life(ip=address)
    assert words(lines) == ["opened", "closed"]
    assert (lines[1]["code"], lines[1]["user"]) == (4501, None)


async def test_connection_over_a_limit_is_told_as_refused(
    site: Logged, client: Callable[..., TestClient], address: str
) -> None:
    async with client(connect=False), client(connect=False), client(connect=False):
        with pytest.raises(Exception, match="429"):
            async with client(connect=False):
                pass
        lines = await site.life("refused", ip=address)
    assert (lines[0]["code"], lines[0]["session"]) == ("429", None)


async def test_cookie_of_a_foreign_page_is_told_as_refused(site: Logged, address: str) -> None:
    cookie = await asyncio.to_thread(log_in, site, "alice")
    headers = [
        ("Cookie", cookie),
        ("Origin", "https://evil.example"),
        ("X-Forwarded-For", address),
    ]
    assert await handshake(site.ports[0], headers) == 403
    await until(lambda: any(one["ip"] == address for one in site.lines()), what="the line")
    (line,) = [one for one in site.lines() if one["ip"] == address]
    assert words([line]) == ["refused"]
    assert "https://evil.example" in line["reason"]
    assert cookie.partition("=")[2] not in site.text()


async def test_life_of_an_event_stream_is_told(site: Logged, address: str) -> None:
    headers = {"Authorization": f"Bearer {site.token('alice')}", "X_Forwarded_For": address}
    stream = await asyncio.to_thread(Stream, site, "topic=room.lobby", **headers)
    stream.close()
    lines = await site.life(ip=address)
    assert words(lines) == ["opened", "authenticated", "closed"]
    assert lines[0]["transport"] == "sse"
    assert (lines[2]["by"], lines[2]["user"]) == ("client", ALICE)


async def test_event_stream_of_denied_topics_is_told_as_refused(site: Logged, address: str) -> None:
    headers = {"Authorization": f"Bearer {site.token('alice')}", "X_Forwarded_For": address}
    stream = await asyncio.to_thread(Stream, site, "topic=user.999.notifications", **headers)
    assert stream.status == 403
    lines = await site.life(ip=address)
    assert words(lines) == ["opened", "authenticated", "refused", "closed"]
    assert (lines[2]["code"], lines[2]["user"]) == ("ACL_DENIED", ALICE)
    assert (lines[3]["by"], lines[3]["code"]) == ("gateway", 403)


async def test_backend_that_repeats_the_token_does_not_get_it_into_the_log(
    site: Logged, client: Callable[..., TestClient], address: str
) -> None:
    """Two workers answer from the same queue group; ours may have to be asked a few times."""
    token = "rt_a-token-that-is-repeated"

    async with connected(site.nats_url, name="chatty") as chatty:

        async def deny(message: Message) -> None:
            answer = {"success": False, "error": f"no such token: {json.loads(message.data)}"}
            await chatty.publish(message.reply, json.dumps(answer).encode())

        await chatty.subscribe("gateway.auth", deny, queue="auth")
        await chatty.flush()

        async def withheld() -> bool:
            async with client(connect=False) as nobody:
                await nobody.send("connect", token=token)
                await nobody.expect_close(4500)
            mine = [one for one in site.lines() if one["ip"] == address and "reason" in one]
            return any("withheld" in (one["reason"] or "") for one in mine)

        await until(withheld, what="a denial by the chatty backend")
    assert token not in site.text()


def test_reason_is_withheld_only_where_it_repeats_the_credential() -> None:
    request = AuthRequest("secret", "cookie", None, "", None)
    assert without_credential("It has expired.", request) == "It has expired."
    for reason in ("no secret here", "a cookie"):
        assert "withheld" in without_credential(reason, request)


# Last: what all of the above has left behind.


async def test_log_at_its_most_talkative_has_no_credential(
    site: Logged, client: Callable[..., TestClient]
) -> None:
    cookie = await asyncio.to_thread(log_in, site, "alice")
    headers = {"Cookie": cookie}
    async with client(headers=headers, origin=site.url()) as alice:
        await alice.ask("refresh", "ready", token=site.token("alice"))
    secrets = [site.token("alice"), site.token("bob"), cookie.partition("=")[2], "rt_not-a-token"]
    assert [one for one in secrets if one in site.text()] == []
