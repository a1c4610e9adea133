"""Event streams, by raw HTTP, on a running gateway."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.gateways import Gateway
from tests.support.processes import manage
from tests.support.waiting import until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Gateway]:
    """Run a gateway for the tests of this file."""
    gateway = Gateway(tmp_path_factory.mktemp("sse") / "data", data_template, {})
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


class Stream:
    """One event stream; iterating yields (id, event, data)."""

    def __init__(self, site: Gateway, query: str, **headers: str) -> None:
        host = site.url().removeprefix("http://")
        self.http = http.client.HTTPConnection(host, timeout=30)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.http.request("GET", f"/sse/?{query}", headers=names)
        self.response = self.http.getresponse()
        self.id = ""

    @property
    def status(self) -> int:
        return self.response.status

    def body(self) -> dict[str, Any]:
        return json.loads(self.response.read())

    def next(self, event: str = "message") -> Any:
        """Return the data of the next event of a name."""
        name, data = "message", ""
        while line := self.response.readline().decode():
            field, _, value = line.rstrip("\n").partition(": ")
            if field == "id":
                self.id = value
            elif field == "event":
                name = value
            elif field == "data":
                data += value
            elif not line.strip() and data:
                if name == event:
                    return json.loads(data)
                name, data = "message", ""
        raise AssertionError("the stream ended")

    def frame(self, type_: str) -> dict[str, Any]:
        """Return the next frame of a type."""
        while (frame := self.next())["type"] != type_:
            pass
        return frame

    def close(self) -> None:
        self.response.close()
        self.http.close()


@pytest.fixture
def open_stream(site: Gateway) -> Iterator[Any]:
    """Return a function that opens a stream; it is closed after the test."""
    opened: list[Stream] = []

    def open_(*topics: str, user: str | None = "alice", since: str = "", **headers: str) -> Stream:
        query = "&".join(f"topic={quote(topic)}" for topic in topics)
        if since:
            query += f"&since={quote(since)}"
        if user is not None:
            headers["Authorization"] = f"Bearer {site.token(user)}"
        opened.append(Stream(site, query, **headers))
        return opened[-1]

    yield open_
    for stream in opened:
        stream.close()


async def say(site: Gateway, topic: str, *payloads: Any) -> list[int]:
    """Publish as alice and return the sequences."""
    async with site.client(site.token("alice")) as client:
        return [(await client.publish(topic, payload))["seqNo"] for payload in payloads]


async def test_stream_brings_what_is_published_with_its_sequence_as_id(site, open_stream):
    stream = open_stream("room.sse")
    assert stream.status == 200
    assert stream.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.frame("ready")["userId"]
    stream.frame("subscribed")
    (sequence,) = await say(site, "room.sse", {"text": "hello"})
    message = stream.frame("message")
    assert (message["data"], message["seqNo"]) == ({"text": "hello"}, sequence)
    assert stream.id.partition("@")[0] == str(sequence)


async def test_stream_resumes_by_its_last_id_without_loss_or_repeat(site, open_stream):
    first = open_stream("room.one", "room.two")
    first.frame("subscribed")
    first.frame("subscribed")
    await say(site, "room.one", 1)
    await say(site, "room.two", 2)
    assert [first.frame("message")["data"] for _ in range(2)] == [1, 2]
    first.close()
    await say(site, "room.one", 3)
    await say(site, "room.two", 4)
    again = open_stream("room.one", "room.two", Last_Event_ID=first.id)
    assert sorted(again.frame("message")["data"] for _ in range(2)) == [3, 4]
    await say(site, "room.two", 5)
    assert again.frame("message")["data"] == 5


async def test_stream_of_a_pattern_resumes_by_its_last_id(site, open_stream):
    first = open_stream("room.many.*", "room.many.a")
    for _ in range(2):
        first.frame("subscribed")
    (sequence,) = await say(site, "room.many.b", 1)
    message = first.frame("message")
    assert (message["topic"], message["pattern"]) == ("room.many.b", "room.many.*")
    assert first.id.partition("@")[0] == f"{sequence},0"
    first.close()
    await say(site, "room.many.c", 2)
    again = open_stream("room.many.*", "room.many.a", Last_Event_ID=first.id)
    assert again.frame("message")["data"] == 2


async def test_stream_goes_on_from_a_plain_sequence(site, open_stream):
    sequences = await say(site, "room.plain", 1, 2, 3)
    stream = open_stream("room.plain", since=str(sequences[0]))
    assert [stream.frame("message")["data"] for _ in range(2)] == [2, 3]


async def test_stream_of_another_epoch_starts_anew_and_says_so(site, open_stream):
    await say(site, "room.epoch", 1)
    stream = open_stream("room.epoch", since="1@2001-01-01T00:00:00Z")
    assert stream.frame("reset")["topic"] == "room.epoch"
    assert stream.frame("message")["data"] == 1


@pytest.mark.parametrize(
    ("topics", "options", "status", "code"),
    [
        (["room.x"], {"user": None}, 401, "AUTH_FAILED"),
        (["room.x"], {"user": None, "Authorization": "Bearer nonsense"}, 401, "AUTH_FAILED"),
        (["user.999.notifications"], {}, 403, "ACL_DENIED"),
        (["room..x"], {}, 400, "BAD_TOPIC"),
        ([""], {}, 400, "BAD_TOPIC"),
        (["gateway.auth"], {}, 400, "BAD_TOPIC"),
        (["room.x"], {"since": "1,2"}, 400, "BAD_FRAME"),
        (["room.x"], {"since": "-1"}, 400, "BAD_FRAME"),
        (["room.x"], {"user": None, "Cookie": "sessionid=x"}, 403, "AUTH_FAILED"),
        (
            ["room.x"],
            {"user": None, "Cookie": "sessionid=x", "Origin": "https://evil.example"},
            403,
            "AUTH_FAILED",
        ),
        (
            ["room.x"],
            {"user": None, "Cookie": "sessionid=x", "Sec_Fetch_Site": "cross-site"},
            403,
            "AUTH_FAILED",
        ),
        (
            ["room.x"],
            {"user": None, "Cookie": "sessionid=x", "Sec_Fetch_Site": "same-origin"},
            401,
            "AUTH_FAILED",
        ),
        ([f"room.n{n}" for n in range(101)], {}, 400, "TOO_MANY_SUBSCRIPTIONS"),
    ],
)
def test_stream_that_may_not_be_is_refused_with_a_reason(
    open_stream, topics, options, status, code
):
    stream = open_stream(*topics, **options)
    assert stream.status == status
    body = stream.body()
    assert body["code"] == code
    assert body["message"]


def test_stream_with_one_topic_denied_brings_the_others(open_stream):
    stream = open_stream("user.999.notifications", "room.allowed")
    assert stream.frame("error")["code"] == "ACL_DENIED"
    assert stream.frame("subscribed")["topic"] == "room.allowed"


async def test_stream_ends_when_its_user_is_kicked(site, open_stream):
    stream = open_stream("room.kick", user="bob")
    stream.frame("subscribed")
    manage("kick", "bob", env=site.env)
    assert stream.next("close")["code"] == 4502
    assert stream.response.read() == b""


async def test_stream_of_a_reader_who_does_not_read_is_ended(site):
    """What waits for it is bounded, and it finds the rest by its last id."""
    host, _, port = site.url().removeprefix("http://").partition(":")
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((host, int(port)))
    try:
        token = site.token("alice")
        reader.sendall(
            f"GET /sse/?topic=room.slow HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        reader.settimeout(30)
        came = b""
        while b"subscribed" not in came:
            came += reader.recv(4096)
        async with site.client(token) as client:
            for _ in range(150):
                await client.publish("room.slow", "x" * 50_000)
        log = site.data_dir / "0-gateway.log"
        await until(lambda: "event stream ended" in log.read_text(), what="the end")
    finally:
        reader.close()
