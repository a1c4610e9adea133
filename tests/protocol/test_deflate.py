"""permessage-deflate: what is agreed to, and that another implementation reads what is sent."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from realtime.protocol.deflate import (
    EXTENSION,
    WINDOW_BITS,
    deflate,
    frame_deflated,
    inflate,
    negotiate,
)
from realtime.protocol.exceptions import BadFrame, TooLarge
from realtime.protocol.websocket import frame_text

AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TEXTS = st.text(alphabet='abc {}:,"0123456789é', max_size=3000).map(str.encode)


def read(data: bytes) -> list[bytes]:
    """Return the messages that a client with a window of 4 KiB sees; it uses up all of `data`."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.extensions = [PerMessageDeflate(True, True, WINDOW_BITS, 15)]
    client.receive_data(data)
    assert client.parser_exc is None
    assert not client.reader.buffer
    return [bytes(one.data) for one in client.events_received() if isinstance(one, Frame)]


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ({}, AGREED),
        ({"client_max_window_bits": [True]}, AGREED),
        ({"client_max_window_bits": ["8"], "client_no_context_takeover": [True]}, AGREED),
        ({"server_no_context_takeover": [True]}, AGREED),
        ({"server_max_window_bits": ["15"]}, f"{AGREED}; server_max_window_bits=12"),
        ({"server_max_window_bits": ["12"]}, f"{AGREED}; server_max_window_bits=12"),
        # A smaller window than that of the bytes that all sockets share.
        ({"server_max_window_bits": ["11"]}, None),
        # Malformed (RFC 7692 §7.1).
        ({"server_max_window_bits": [True]}, None),
        ({"server_max_window_bits": ["16"]}, None),
        ({"server_max_window_bits": ["012"]}, None),
        ({"server_max_window_bits": ["x"]}, None),
        ({"server_max_window_bits": ["12", "12"]}, None),
        ({"client_max_window_bits": ["7"]}, None),
        ({"client_max_window_bits": ["+8"]}, None),
        ({"client_max_window_bits": [""]}, None),
        ({"client_no_context_takeover": ["1"]}, None),
        ({"server_no_context_takeover": [True, True]}, None),
        ({"unknown": [True]}, None),
        ({"": [True]}, None),
    ],
)
def test_negotiate_one_offer_is_met_or_declined(offered: Any, agreed: str | None) -> None:
    assert negotiate([(EXTENSION, offered)]) == agreed


def test_negotiate_takes_the_first_offer_that_it_can_meet() -> None:
    offers: list[Any] = [
        ("permessage-bzip2", {}),
        (EXTENSION, {"unknown": [True]}),
        (EXTENSION, {"server_max_window_bits": ["13"]}),
        (EXTENSION, {}),
    ]
    assert negotiate(offers) == f"{AGREED}; server_max_window_bits=12"
    assert negotiate(offers[:2]) is None
    assert negotiate([]) is None


@given(st.lists(TEXTS, max_size=5))
def test_frame_deflated_many_are_read_one_by_one(texts: list[bytes]) -> None:
    assert read(b"".join(map(frame_deflated, texts))) == texts


@pytest.mark.parametrize("size", [0, 1, 125, 126, 4096, 65_536, 300_000])
def test_frame_deflated_any_size_is_read(size: int) -> None:
    # Repeats from far back: a larger window than the one agreed to would refer to them.
    text = (b"%06d" * 3000 % tuple(range(3000)) * 20)[:size]
    framed = frame_deflated(text)
    assert read(framed) == [text]
    assert len(framed) <= len(frame_text(text))


@given(st.binary(max_size=300))
def test_frame_deflated_is_never_longer_than_plain(payload: bytes) -> None:
    framed = frame_deflated(payload)
    assert len(framed) <= len(frame_text(payload))
    if framed[0] == 0x81:
        assert framed == frame_text(payload)


@given(TEXTS, TEXTS)
def test_deflate_takes_nothing_over_from_the_message_before(before: bytes, text: bytes) -> None:
    alone = deflate(text)
    deflate(before)
    assert deflate(text) == alone
    assert zlib.decompressobj(-WINDOW_BITS).decompress(alone + b"\0\0\xff\xff") == text


def compressed(payload: bytes, flush: int = zlib.Z_SYNC_FLUSH, **options: int) -> bytes:
    """Return what another compressor makes of it, with the largest window."""
    stream = zlib.compressobj(**options, wbits=-15)
    data = stream.compress(payload) + stream.flush(flush)
    return data[:-4] if flush == zlib.Z_SYNC_FLUSH else data + b"\0"


@given(st.binary(max_size=3000) | TEXTS, st.sampled_from([0, 1, 6, 9]))
def test_inflate_reads_what_a_client_compressed(payload: bytes, level: int) -> None:
    data = compressed(payload, level=level)
    assert inflate(data, len(payload)) == payload
    # As one that cannot flush ends it (RFC 7692 §7.2.3.4).
    assert inflate(compressed(payload, zlib.Z_FINISH, level=level), len(payload)) == payload
    if payload:
        with pytest.raises(TooLarge):
            inflate(data, len(payload) - 1)


@pytest.mark.parametrize("over", [1, 2, 300, 10**6])
@pytest.mark.parametrize("limit", [0, 1, 257, 65_536])
def test_inflate_over_the_limit_is_too_large(limit: int, over: int) -> None:
    data = compressed(b" " * (limit + over))
    with pytest.raises(TooLarge):
        inflate(data, limit)
    assert inflate(data, limit + over) == b" " * (limit + over)


def test_inflate_makes_no_more_than_the_limit_of_a_bomb() -> None:
    bomb = compressed(b" " * 50 * 1024**2)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        inflate(bomb, 65_536)
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert highest < 300_000 + len(bomb)


@given(st.binary(max_size=300))
def test_inflate_of_anything_returns_or_refuses(data: bytes) -> None:
    with contextlib.suppress(BadFrame, TooLarge):
        assert len(inflate(data, 1000)) <= 1000


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_inflate_of_a_part_is_refused(cut: int) -> None:
    data = compressed(bytes(range(256)) * 2)
    with pytest.raises(BadFrame):
        inflate(data[:-cut], 10_000)


def test_inflate_of_more_behind_a_final_block_is_refused() -> None:
    data = compressed(b"one", zlib.Z_FINISH) + compressed(b"two")
    with pytest.raises(BadFrame):
        inflate(data, 10_000)
