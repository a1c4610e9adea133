"""What clients send compressed (RFC 7692): inflated within bounds, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.wire import (
    BINARY,
    COMPRESSED,
    CONTINUATION,
    PING,
    TEXT,
    RawSocket,
    compressed,
    frame,
)
from tests.support.gateways import Gateway

from .deflating import client, said

MAX_FRAME = 64 * 1024
ROOM_FOR_NOISE = 16
"""MiB by which a process may grow in a test that would grow it by far more without a bound."""


def highest_mib(compressing: Gateway) -> float:
    """Return the most memory that the gateway's process ever took."""
    status = Path(f"/proc/{compressing.processes[0].pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def test_compressed_message_is_handled_whole_in_fragments_or_plain(raw: RawSocket) -> None:
    text = json.dumps({"type": "ping", "id": "é" * 100}).encode()
    data = compressed(text)
    pieces = [data[:10], b"", data[10:]]
    whole = frame(TEXT, data, rsv=COMPRESSED)
    fragments = (
        frame(TEXT, pieces[0], fin=False, rsv=COMPRESSED)
        + frame(CONTINUATION, pieces[1], fin=False)
        + frame(PING, b"between")
        + frame(CONTINUATION, pieces[2])
    )
    for bytes_ in (whole, fragments, frame(TEXT, text), whole):
        await raw.send(bytes_)
        assert (await raw.until("pong"))["id"] == "é" * 100


async def test_message_as_long_as_the_limit_is_handled_in_any_pieces(raw: RawSocket) -> None:
    message = json.dumps({"type": "ping", "id": 1, "pad": ""}).encode()
    message = message.replace(b'""', b'"' + b"x" * (MAX_FRAME - len(message)) + b'"')
    assert len(message) == MAX_FRAME
    data = frame(TEXT, compressed(message), rsv=COMPRESSED)
    for piece in (data[:1], data[1:20], data[20:60], data[60:]):
        await raw.send(piece)
    assert (await raw.until("pong"))["id"] == 1


@pytest.mark.parametrize("size", [MAX_FRAME + 1, 60 * 1024**2], ids=["one byte too many", "60 MiB"])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_bomb_closes_1009_and_is_not_inflated(
    compressing: Gateway, raw: RawSocket, size: int, pieces: int
) -> None:
    data = compressed(b" " * size)
    assert len(data) < MAX_FRAME
    step = len(data) // pieces + 1
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    before = highest_mib(compressing)
    for number, part in enumerate(parts):
        first, last = number == 0, number == len(parts) - 1
        opcode, rsv = (TEXT, COMPRESSED) if first else (CONTINUATION, 0)
        await raw.send(frame(opcode, part, fin=last, rsv=rsv))
    assert await raw.ending() == 1009
    assert highest_mib(compressing) - before < ROOM_FOR_NOISE


async def test_flood_of_messages_at_the_limit_is_inflated_no_faster_than_handled(
    compressing: Gateway, raw: RawSocket
) -> None:
    """What one read from the socket brings could be 50 MiB of messages, each within the limit."""
    message = json.dumps({"type": "ping", "pad": " " * 65_000, "id": 0}).encode()
    many = frame(TEXT, compressed(message), rsv=COMPRESSED) * 800
    assert len(many) < 128 * 1024
    before = highest_mib(compressing)
    await raw.send(many + said(type="ping", id="last"))
    answers = [await raw.receive() for _ in range(801)]
    kinds = {json.loads(one.payload)["type"] for one in answers if one is not None}
    assert None not in answers
    assert kinds <= {"pong", "error"}  # RATE_LIMITED, beyond BYTE_BURST
    assert highest_mib(compressing) - before < ROOM_FOR_NOISE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff" * 50, rsv=COMPRESSED), 1007),
        (frame(TEXT, compressed(b'{"type":"\xff"}'), rsv=COMPRESSED), 1007),
        (frame(PING, compressed(b"x"), rsv=COMPRESSED), 1002),
        (frame(TEXT, compressed(b"{}"), rsv=0b110), 1002),
        (
            frame(TEXT, b"", fin=False, rsv=COMPRESSED)
            + frame(CONTINUATION, compressed(b"{}"), rsv=COMPRESSED),
            1002,
        ),
    ],
    ids=["no deflate", "no UTF-8", "control frame", "RSV2", "continuation"],
)
async def test_broken_compression_closes_that_socket_only(
    compressing: Gateway, raw: RawSocket, data: bytes, code: int
) -> None:
    async with client(compressing, True) as other:
        await raw.send(data)
        assert await raw.ending() == code
        await other.ask("ping", "pong")


async def test_binary_message_is_refused_compressed_too(raw: RawSocket) -> None:
    await raw.send(frame(BINARY, compressed(b"{}"), rsv=COMPRESSED))
    assert (await raw.until("error"))["code"] == "BAD_FRAME"
