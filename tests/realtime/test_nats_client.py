"""The client's parser: whatever comes, it hands over what nats-py's own parser does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from realtime.nats_client import SHORT_WAY, DirectParser, Message

HEADERS = b"NATS/1.0\r\nNats-Sequence: 7\r\n\r\n"


class Hearing:
    """Stands in a client's place, and notes what a parser tells it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.heard.append((sid, subject, reply, data, headers))

    async def _process_ping(self) -> None:
        self.heard.append("ping")

    async def _process_pong(self) -> None:
        self.heard.append("pong")

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.heard.append(info)

    async def _process_err(self, message: str) -> None:
        self.heard.append(message)


def msg(data: bytes, reply: bytes = b"") -> bytes:
    return b"MSG a.b 3 %b%d\r\n%b\r\n" % (reply and reply + b" ", len(data), data)


def hmsg(data: bytes, reply: bytes = b"", head: bytes = HEADERS) -> bytes:
    sizes = b"%d %d" % (len(head), len(head) + len(data))
    return b"HMSG a.b 4 %b%b\r\n%b%b\r\n" % (reply and reply + b" ", sizes, head, data)


payloads = st.binary(max_size=40) | st.sampled_from([b"HMSG a 1 2 2\r\n", b"\r\nPING\r\n"])
replies = st.sampled_from([b"", b"_INBOX.x"])
frames = st.one_of(
    st.builds(msg, payloads, replies),
    st.builds(hmsg, payloads, replies),
    st.builds(hmsg, payloads, replies, st.just(b"NATS/1.0 503\r\n\r\n")),
    st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"a":1}\r\n', b"-ERR 'no'\r\n"]),
)


async def heard_by(kind: type[Parser], pieces: list[bytes]) -> list[Any]:
    """Return what a parser tells of bytes that are read in these pieces."""
    hearing = Hearing()
    parser = kind(hearing)
    for piece in pieces:
        await parser.parse(piece)
    return hearing.heard


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


@given(st.lists(frames, max_size=8), st.lists(st.integers(min_value=0), max_size=6))
async def test_parse_pieces_of_any_size_as_nats_py_does(
    stream: list[bytes], places: list[int]
) -> None:
    data = b"".join(stream)
    whole = await heard_by(Parser, [data])
    assert await heard_by(DirectParser, cut(data, places)) == whole


@pytest.mark.parametrize("size", [10, SHORT_WAY, 4 * SHORT_WAY], ids=str)
@pytest.mark.parametrize("read", [1000, 32768], ids=str)
async def test_parse_large_message_between_small_ones_whole(size: int, read: int) -> None:
    data = hmsg(b"first") + hmsg(b"x" * size) + msg(b"then") + hmsg(b"last")
    pieces = [data[at : at + read] for at in range(0, len(data), read)]
    heard = await heard_by(DirectParser, pieces)
    assert [found[3] for found in heard] == [b"first", b"x" * size, b"then", b"last"]


async def test_parse_what_is_no_nats_raises() -> None:
    with pytest.raises(ProtocolError):
        await heard_by(DirectParser, [hmsg(b"x") + b"HTTP/1.1 200 OK\r\n"])


def test_message_reads_headers_when_asked_and_once() -> None:
    message = Message("a", b"", b"NATS/1.0 404 None\r\nOne: 1\r\nOne: 2\r\n\r\n")
    assert (message.status, message.headers) == (404, {"One": "2"})
    assert message.headers is message.headers


def test_message_without_headers_has_none() -> None:
    assert (Message("a", b"").status, Message("a", b"").headers) == (0, {})
