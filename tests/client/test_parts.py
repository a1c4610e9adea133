"""The parts of the client that can be looked at by themselves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from realtime.client import Backoff, LoginFailed, NoAnswer, fetch_token, log_in
from realtime.client.frames import encode_frame, parse_frame
from realtime.client.link import Ending
from realtime.client.options import address_of, origin_of
from realtime.protocol.exceptions import CloseCode

from ..support.ports import free_port


def test_backoff_ceiling_doubles_up_to_the_cap():
    backoff = Backoff(draw=lambda: 1.0)
    assert [backoff.next() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_backoff_full_jitter_covers_zero_to_the_ceiling():
    draws = [Backoff().next() for _ in range(2000)]
    assert 0 <= min(draws) < 0.025
    assert 0.475 < max(draws) <= 0.5


def test_backoff_starts_anew_only_after_a_stable_connection():
    backoff = Backoff(draw=lambda: 1.0)
    backoff.next()
    assert not backoff.ended(9.9)
    assert backoff.next() == 1
    assert backoff.ended(10)
    assert backoff.next() == 0.5


def test_backoff_many_failures_stay_at_the_cap():
    backoff = Backoff(draw=lambda: 1.0)
    backoff.failures = 100_000
    assert backoff.next() == 30


@pytest.mark.parametrize("code", [1000, 1006, 1009, 1011, 3000, 4000, 4003, 4499, 5000])
def test_ending_below_4500_comes_back(code):
    assert Ending(code, "").comes_back


@pytest.mark.parametrize("code", [4500, 4502, 4999])
def test_ending_from_4500_on_does_not(code):
    assert not Ending(code, "").comes_back


def test_ending_agrees_with_the_gateway_on_every_close_code():
    assert {code: Ending(code, "").comes_back for code in CloseCode} == {
        code: code.retry for code in CloseCode
    }


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("ws://h:8000/ws/", "ws://h:8000/ws/"),
        ("http://h:8000", "ws://h:8000/ws/"),
        ("https://h/", "wss://h/ws/"),
        ("wss://h/live/socket", "wss://h/live/socket"),
    ],
)
def test_address_is_a_websocket_s(given, address):
    assert address_of(given) == address


@pytest.mark.parametrize("url", ["", "h:8000", "nats://h", "ws://", "ws://u:p@h/", "ws://h/?t=x"])
def test_address_that_is_none_or_holds_a_credential_is_refused(url):
    with pytest.raises(ValueError, match="address"):
        address_of(url)


def test_origin_is_that_of_the_site():
    assert origin_of("wss://h:8443/ws/") == "https://h:8443"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '{"type": 1}', '{"type": "later"}', '{"type": "ready"}',
     '{"type": "message", "topic": "t", "messageId": "1", "ts": 0, "data": "@", '
     '"encoding": "base64"}', "[" * 100_000],
)  # fmt: skip
def test_frame_that_is_none_is_ignored(text):
    assert parse_frame(text) is None


def test_frame_base64_becomes_bytes():
    fields = {"topic": "t", "messageId": "1", "ts": 0, "data": "AP8=", "encoding": "base64"}
    assert parse_frame(json.dumps({"type": "message", **fields})).data == b"\x00\xff"


@pytest.mark.parametrize("payload", [float("nan"), float("inf"), object(), "\ud800"])
def test_frame_payload_that_json_cannot_say_is_refused(payload):
    with pytest.raises((ValueError, TypeError)):
        encode_frame("publish", {"topic": "t", "payload": payload})


def test_frame_null_payload_is_sent():
    assert json.loads(encode_frame("request", {"topic": "t", "payload": None, "id": 1})) == {
        "type": "request",
        "topic": "t",
        "payload": None,
        "id": 1,
    }


# The site


class Site:
    """What a site answers, path by path, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, tuple[int, dict[str, str], str]] = {}
        self.bodies: list[tuple[str, str]] = []


@contextmanager
def serving() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            site.bodies.append((self.path, self.rfile.read(length).decode()))
            status, headers, body = site.answers.get(f"{self.command} {self.path}", (404, {}, ""))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_fetch_token_returns_what_the_endpoint_gives():
    with serving() as site:
        site.answers["POST /api/token/"] = (200, {}, '{"token": "abc"}')
        assert await fetch_token(site.url, "alice", "secret") == "abc"
        assert json.loads(site.bodies[0][1]) == {"username": "alice", "password": "secret"}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, "{}", LoginFailed),
        (404, "", LoginFailed),
        (302, "", LoginFailed),
        (200, "{}", LoginFailed),
        (200, "<html>", LoginFailed),
        (503, "", NoAnswer),
    ],
)
async def test_fetch_token_that_fails_says_which_way(status, body, error):
    with serving() as site:
        site.answers["POST /api/token/"] = (status, {"Location": "/elsewhere"}, body)
        with pytest.raises(error, match="api/token"):
            await fetch_token(site.url, "alice", "secret")
        assert [path for path, _ in site.bodies] == ["/api/token/"]  # no redirect was followed


async def test_log_in_on_a_page_that_is_no_form_is_refused():
    with serving() as site, pytest.raises(LoginFailed, match="no log-in page"):
        await log_in(site.url, "alice", "secret")


async def test_log_in_where_nothing_listens_is_no_answer():
    with pytest.raises(NoAnswer, match="out of reach"):
        await log_in(f"http://127.0.0.1:{free_port()}", "alice", "secret")
