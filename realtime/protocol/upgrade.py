"""The request that opens a WebSocket (RFC 6455 §4.1), read where it is as browsers send it.

What is odd in any way is left to an HTTP parser, which knows what to answer: so this need not
know, and refuses nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_HEAD = 16 * 1024
"""Bytes of a request's head, as Twisted's HTTP parser has it."""
MAX_HEADERS = 100
"""Headers of it; Twisted takes 500."""
VERSION = 13

_END = b"\r\n\r\n"
# The target has neither `;` nor `#` nor a second leading slash, which URL parsers differ about.
# What repeats is possessive (`++`): a head that does not match is given up in one pass.
_HEAD = re.compile(
    r"GET (?P<path>/(?!/)[\w.~%!$&'()*+,=:@/-]*+)(?:\?(?P<query>[!\"$-~]*+))? HTTP/1\.1\r\n"
    r"(?P<lines>(?:[\w!#$%&'*+.^`|~-]++:[\t -~]*+\r\n)++)\r\n",
    re.ASCII,
)
_HOST = re.compile(r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?", re.ASCII)
_ORIGIN = re.compile(
    r"null|https?://(?:[\w.-]+|\[[\da-fA-F:]+\])(?::(?:\d{1,4}|[1-5]\d{4}))?", re.ASCII
)
_KEY = re.compile(r"[A-Za-z\d+/]{22}==", re.ASCII)
# Either they say that more belongs to the request than its head, or where the site begins.
_ELSEWHERE = frozenset(("content-length", "daphne-root-path", "expect", "transfer-encoding"))


class Upgrade(NamedTuple):
    """A request to open a WebSocket.

    Attributes:
        path: of its target, as sent.
        query: what follows the question mark.
        headers: by their names in lower case, in the order sent.
        protocols: the subprotocols offered, in the client's order of preference.
        key: its Sec-WebSocket-Key.
        rest: what came behind the request.
    """

    path: str
    query: str
    headers: dict[str, str]
    protocols: list[str]
    key: str
    rest: bytes


def parse_upgrade(data: bytes) -> Upgrade | None:
    """Return the request that `data` begins with; None unless it is whole and plainly one."""
    end = data.find(_END, 0, MAX_HEAD) if data.startswith(b"GET /") else -1
    if end < 0:
        return None
    # The same characters, byte for byte; those beyond ASCII match nowhere.
    head = _HEAD.fullmatch(data[: end + len(_END)].decode("latin-1"))
    headers = _headers(head["lines"]) if head is not None else None
    if head is None or headers is None or not _is_upgrade(headers):
        return None
    offered = headers.get("sec-websocket-protocol")
    protocols = [name.strip() for name in offered.split(",")] if offered is not None else []
    if len(set(protocols)) < len(protocols):
        return None
    return Upgrade(
        path=head["path"],
        query=head["query"] or "",
        headers=headers,
        protocols=protocols,
        key=headers["sec-websocket-key"],
        rest=data[end + len(_END) :],
    )


def _headers(lines: str) -> dict[str, str] | None:
    """Return headers by name, None when there are many, or two of a name."""
    fields = lines.split("\r\n")
    # Behind the last line end there is nothing.
    fields.pop()
    if len(fields) > MAX_HEADERS:
        return None
    headers = {}
    for field in fields:
        name, _, value = field.partition(":")
        headers[name.lower()] = value.strip(" \t")
    return headers if len(headers) == len(fields) else None


def _is_upgrade(headers: dict[str, str]) -> bool:
    """Say whether headers are those of a client that speaks RFC 6455, and no others matter."""
    origin = headers.get("origin")
    return (
        headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in (one.strip() for one in headers.get("connection", "").lower().split(","))
        and headers.get("sec-websocket-version") == str(VERSION)
        and _KEY.fullmatch(headers.get("sec-websocket-key", "")) is not None
        and _HOST.fullmatch(headers.get("host", "")) is not None
        and (origin is None or _ORIGIN.fullmatch(origin) is not None)
        and _ELSEWHERE.isdisjoint(headers)
    )
