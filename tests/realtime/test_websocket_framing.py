"""What the gateway writes is read back by another implementation of RFC 6455."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from realtime.protocol.websocket import frame_text, frame_texts


def read(data: bytes) -> list[Frame]:
    """Return the frames that a client sees in `data`; all of it must be used up."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    frames = [frame for frame in client.events_received() if isinstance(frame, Frame)]
    assert client.parser_exc is None
    assert not client.reader.buffer
    return frames


@pytest.mark.parametrize(
    ("size", "header"), [(0, 2), (1, 2), (125, 2), (126, 4), (65535, 4), (65536, 10), (200_000, 10)]
)
def test_frame_text_any_size_has_the_shortest_header(size: int, header: int) -> None:
    payload = b"x" * size
    framed = frame_text(payload)
    assert len(framed) == header + size
    assert read(framed) == [Frame(Opcode.TEXT, payload)]


@given(st.lists(st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))))
def test_frame_texts_many_are_read_one_by_one(payloads: list[bytes]) -> None:
    assert [bytes(frame.data) for frame in read(frame_texts(payloads))] == payloads


@given(st.lists(st.binary(max_size=200)))
def test_frame_texts_joined_equals_one_by_one(payloads: list[bytes]) -> None:
    assert frame_texts(payloads) == b"".join(frame_text(payload) for payload in payloads)
