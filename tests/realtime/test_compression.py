"""Compression: each text once, whatever number of sockets takes it and by whichever way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from realtime.compression import KEPT_BYTES, Compressor
from realtime.delivery import AckPolicy
from realtime.metrics import Metrics
from realtime.protocol.deflate import frame_deflated
from realtime.protocol.websocket import frame_text, frame_texts
from tests.support.waiting import until

from .support import FakeSocket, World

MIN_BYTES = 100


def text(number: int, size: int = 200) -> bytes:
    return (b'{"n":%d,"pad":"' % number).ljust(size - 2, b"x") + b'"}'


class CompressedSocket(FakeSocket):
    """A socket whose client agreed to compression, without a connection."""

    def __init__(self, compressor: Compressor) -> None:
        super().__init__()
        self._compressor = compressor

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        super().write(self._compressor.frames(texts), texts)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def compressor(metrics: Metrics) -> Compressor:
    return Compressor(metrics, MIN_BYTES)


def test_frames_of_the_same_list_are_made_once(compressor: Compressor, metrics: Metrics) -> None:
    texts = [text(1), text(2)]
    first = compressor.frames(texts)
    assert first == frame_deflated(texts[0]) + frame_deflated(texts[1])
    assert compressor.frames(texts) is first
    assert metrics.compressions == 2


def test_frames_of_another_list_with_the_same_texts_are_found(
    compressor: Compressor, metrics: Metrics
) -> None:
    compressor.frames([text(1), text(2)])
    assert compressor.frames([text(2), text(3)]) == frame_deflated(text(2)) + frame_deflated(
        text(3)
    )
    assert compressor.frame(text(3)) == frame_deflated(text(3))
    assert metrics.compressions == 3


def test_text_below_the_minimum_stays_as_it_is(compressor: Compressor, metrics: Metrics) -> None:
    small, large = text(1, MIN_BYTES - 1), text(2, MIN_BYTES)
    assert compressor.frames([small, large]) == frame_text(small) + frame_deflated(large)
    assert metrics.compressions == 1


def test_what_is_kept_is_bounded(compressor: Compressor, metrics: Metrics) -> None:
    for number in range(100):
        compressor.frame(text(number, 30_000))
    kept = sum(len(one) + len(framed) for one, framed in compressor._kept.items())
    assert KEPT_BYTES // 2 < kept <= KEPT_BYTES
    compressor.frame(text(99, 30_000))  # the newest are those that stay
    assert metrics.compressions == 100
    compressor.frame(text(0, 30_000))
    assert metrics.compressions == 101


def test_long_answer_to_one_client_pushes_nothing_out(
    compressor: Compressor, metrics: Metrics
) -> None:
    compressor.frame(text(1))
    compressor.frame(text(2, 2 * KEPT_BYTES))
    compressor.frame(text(1))
    assert metrics.compressions == 2


async def test_event_is_compressed_once_for_all_who_take_it_so(world: World) -> None:
    metrics = Metrics()
    compressor = Compressor(metrics, 0)
    plain = FakeSocket()
    compressed = [CompressedSocket(compressor) for _ in range(5)]
    for socket in (plain, *compressed[:3]):
        await world.join(socket)
    for socket in compressed[3:]:  # QoS 1 is written to one by one
        await world.join(socket, ack=AckPolicy(wait=60, tries=3, in_flight=1000))
    events = await world.publish(20)
    texts = [event.text for event in events]
    sockets = [plain, *compressed]
    await until(lambda: all(len(socket.frames) == 20 for socket in sockets))
    assert plain.wire == frame_texts(texts)
    for socket in compressed:
        assert socket.wire == b"".join(map(frame_deflated, texts))
    assert metrics.compressions == 20
