"""The request that opens a WebSocket: read where it is plain, left alone where it is odd."""

from __future__ import annotations

import pytest

from realtime.protocol.upgrade import MAX_HEAD, MAX_HEADERS, Upgrade, parse_upgrade

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PLAIN = (
    "GET /ws/?a=b HTTP/1.1\r\n"
    "Host: gateway.example:8000\r\n"
    "Upgrade: websocket\r\n"
    "Connection: keep-alive, Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)


def parse(head: str = PLAIN, *more: str, rest: bytes = b"") -> Upgrade | None:
    """Parse a head with further lines, the empty one added."""
    lines = "".join(f"{line}\r\n" for line in more)
    return parse_upgrade(f"{head}{lines}\r\n".encode("latin-1") + rest)


def test_plain_request_is_parsed() -> None:
    more = ("Origin: https://app.example", "Sec-WebSocket-Protocol: a, b", "X-Empty:", "X-Tab:\ta ")
    assert parse(PLAIN, *more, rest=b"\x81\x00") == Upgrade(
        path="/ws/",
        query="a=b",
        headers={
            "host": "gateway.example:8000",
            "upgrade": "websocket",
            "connection": "keep-alive, Upgrade",
            "sec-websocket-key": KEY,
            "sec-websocket-version": "13",
            "origin": "https://app.example",
            "sec-websocket-protocol": "a, b",
            "x-empty": "",
            "x-tab": "a",
        },
        protocols=["a", "b"],
        key=KEY,
        rest=b"\x81\x00",
    )


def test_request_that_is_not_whole_is_left_alone() -> None:
    whole = f"{PLAIN}\r\n".encode()
    assert [size for size in range(len(whole) + 1) if parse_upgrade(whole[:size])] == [len(whole)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("GET ", "POST "),
        ("GET ", "get "),
        ("GET ", "GET  "),
        ("GET ", "\r\nGET "),
        ("HTTP/1.1", "HTTP/1.0"),
        ("HTTP/1.1", "HTTP/2.0"),
        ("HTTP/1.1", "HTTP/1.1 "),
        ("/ws/", "http://gateway.example/ws/"),
        ("/ws/", "//ws/"),
        ("/ws/", "ws/"),
        ("/ws/", "*"),
        ("/ws/", "/ws;x=1/"),
        ("/ws/", "/w s/"),
        ("/ws/", "/ws\xe9/"),
        ("a=b", "a=b#c"),
        ("a=b", "a=\xe9"),
        ("websocket", "h2c"),
        ("websocket", "websocket, h2c"),
        ("Upgrade: websocket\r\n", ""),
        ("keep-alive, Upgrade", "keep-alive"),
        ("keep-alive, Upgrade", "upgraded"),
        (KEY, "short"),
        (KEY, KEY.replace("d", "-")),
        (KEY, KEY + "="),
        ("Version: 13", "Version: 8"),
        ("Version: 13", "Version: 013"),
        ("Host: gateway.example:8000\r\n", ""),
        ("gateway.example:8000", "gateway.example:port"),
        ("gateway.example:8000", "a b"),
        ("gateway.example:8000", "user@gateway.example"),
        ("gateway.example:8000", ""),
        ("Host:", "Host :"),
        ("Host:", " Host:"),
        ("Host:", ":"),
        ("\r\n", "\n"),
    ],
)
def test_odd_request_is_left_alone(old: str, new: str) -> None:
    assert old in PLAIN
    assert parse(PLAIN.replace(old, new)) is None


@pytest.mark.parametrize(
    "line",
    [
        "Host: other.example",
        "host: gateway.example:8000",
        f"Sec-WebSocket-Key: {KEY}",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Daphne-Root-Path: /other",
        "Origin:",
        "Origin: https://",
        "Origin: https://[::1",
        "Origin: https://user@app.example",
        "Origin: https://app.example/path",
        "Origin: https://app.example:99999",
        "Sec-WebSocket-Protocol: a, a",
        "X-Odd: \0",
        "X-Odd: \x0b",
        "X-Odd: \x7f",
        "X-Odd: \x85",
        "X-Odd: \xe9",
        "X-Odd: a\rb",
        "X-Odd: a\nb",
        "X-Odd: a\r\n folded",
        "X Odd: a",
        "X-Odd",
        "X-Odd\xe9: a",
        "X-Long: " + "x" * MAX_HEAD,
    ],
)
def test_odd_header_is_left_alone(line: str) -> None:
    assert parse(PLAIN, line) is None


@pytest.mark.parametrize(
    "line",
    [
        "Origin: null",
        "Origin: http://app.example:8000",
        "Origin: http://[::1]:65",
        'Cookie: sessionid=a; b="c"',
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "X-Forwarded-For: 203.0.113.7, 10.0.0.1",
    ],
)
def test_header_of_browsers_and_proxies_is_plain(line: str) -> None:
    upgrade = parse(PLAIN, line)
    name, _, value = line.partition(": ")
    assert upgrade is not None
    assert upgrade.headers[name.lower()] == value


def test_many_headers_are_left_alone() -> None:
    lines = [f"X-{number}: a" for number in range(MAX_HEADERS - 5)]
    assert parse(PLAIN, *lines) is not None
    assert parse(PLAIN, *lines, "X-More: a") is None


def test_long_head_is_left_alone() -> None:
    room = MAX_HEAD - len(PLAIN) - len("X: \r\n\r\n")
    assert parse(PLAIN, "X: " + "x" * room) is not None
    assert parse(PLAIN, "X: " + "x" * (room + 1)) is None
