"""Rows about what comes over the wire: 13, 15, 33."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from tests.support.client import TestClient

from .lab import Lab, memory_peak
from .measure import bystander
from .outcome import Outcome
from .rows import COMPRESSING, ONE, Pace, fault
from .wire import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    OFFER,
    PING,
    PONG,
    TEXT,
    RawSocket,
    Received,
    compressed,
    frame,
    text,
    upgrade,
)

MAX_FRAME = 64 * 1024
MAX_PAYLOAD = 60 * 1024


class Abuse(NamedTuple):
    """What is sent after the upgrade, and what may come of it.

    Attributes:
        codes: close codes that are right, None: an end without one; empty: the socket stays,
            and answers a ping.
        error: the `error` code that comes first.
    """

    data: bytes
    codes: tuple[int | None, ...] = ()
    error: str | None = None


_text = partial(frame, TEXT)


def _closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def abuses() -> Mapping[str, Abuse]:
    """Return violations of RFC 6455, by name."""
    wrong, text_wrong = (1002,), (1007,)
    # Whoever sent a close frame, if a bad one, need not be sent one (RFC 6455 §7.1.7).
    ended = (1002, 1007, None)
    ping = text(type="ping")
    found = {
        "bad UTF-8": Abuse(_text(b'{"type":"\xff"}'), text_wrong),
        "UTF-8 surrogate": Abuse(_text(b'{"type":"\xed\xa0\x80"}'), text_wrong),
        "overlong UTF-8": Abuse(_text(b"\xc0\xaf"), text_wrong),
        "UTF-8 cut off at the end": Abuse(_text(b"\xe2\x82"), text_wrong),
        "bad UTF-8 in a fragment": Abuse(
            _text(b'{"type"', fin=False) + frame(CONTINUATION, b"\xff\xfe"), text_wrong
        ),
        "unmasked": Abuse(_text(b"{}", masked=False), wrong),
        "unmasked ping": Abuse(frame(PING, b"x", masked=False), wrong),
        "continuation of nothing": Abuse(frame(CONTINUATION, b"x"), wrong),
        "text within a message": Abuse(_text(b"{", fin=False) + _text(b"}"), wrong),
        "ping in fragments": Abuse(frame(PING, b"x", fin=False), wrong),
        "close in fragments": Abuse(frame(CLOSE, b"\x03\xe8", fin=False), ended),
        "ping of 126 bytes": Abuse(frame(PING, b"x" * 126), wrong),
        "close of 1 byte": Abuse(frame(CLOSE, b"\x03"), ended),
        "close of 126 bytes": Abuse(_closing(1000, b"x" * 124), ended),
        "close with bad UTF-8": Abuse(_closing(1000, b"\xff\xfe"), ended),
        "length not minimal, 16 bits": Abuse(_text(b"{}", length=b"\x7e\x00\x02"), wrong),
        "length not minimal, 64 bits": Abuse(
            _text(b"{}", length=b"\x7f" + b"\0" * 7 + b"\2"), wrong
        ),
        "length of 2^63": Abuse(_text(b"", length=b"\x7f\x80" + b"\0" * 7), (1002, 1009)),
        "length of 2^62": Abuse(_text(b"", length=b"\x7f\x40" + b"\0" * 7), (1009,)),
        "binary": Abuse(frame(BINARY, b"\0\1\2"), error="BAD_FRAME"),
        "empty text": Abuse(_text(b""), error="BAD_FRAME"),
        "empty fragments": Abuse(
            _text(b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 100 + frame(CONTINUATION),
            error="BAD_FRAME",
        ),
        "ping within a message": Abuse(
            _text(ping[6:][:5], fin=False) + frame(PING, b"p") + frame(CONTINUATION, ping[6:][5:])
        ),
        "pong unasked": Abuse(frame(PONG, b"x" * 125) * 50),
        "ten frames in one segment": Abuse(ping * 10),
        "close, then more": Abuse(_closing(1000) + ping * 10, (1000,)),
        "two closes": Abuse(_closing(1000) * 2, (1000,)),
    }
    for bits in (1, 2, 4, 7):
        found[f"reserved bits {bits:03b}"] = Abuse(_text(b"{}", rsv=bits), wrong)
    for opcode in (*range(3, 8), *range(11, 16)):
        found[f"reserved opcode {opcode}"] = Abuse(frame(opcode, b"x"), wrong)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        found[f"close with {code}"] = Abuse(_closing(code), ended)
    for code in (1000, 1001, 1011, 3000, 4999):
        found[f"close with {code}, which is right"] = Abuse(_closing(code), (code, 1000))
    return found


HANDSHAKES: Mapping[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
    "no key": upgrade(1).replace(b"Sec-WebSocket-Key", b"X-Other"),
    "a key too short": upgrade(1, key="short"),
    "version 12": upgrade(1).replace(b"Version: 13", b"Version: 12"),
    "two keys": upgrade(1, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "no Connection": upgrade(1).replace(b"Connection: Upgrade", b"Connection: close"),
    "POST": upgrade(1).replace(b"GET ", b"POST "),
    "a header of 64 KiB": upgrade(1, "X-Long: " + "x" * 65536),
    "a NUL in a header": upgrade(1, "X-Nul: a\0b"),
    "another path": upgrade(1).replace(b"/ws/", b"/other/"),
}


@fault(15, "WebSocket abuse: RFC 6455 broken in every way, and handshakes", ONE)
async def websocket_abuse(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    failed: list[str] = []
    cases = abuses()
    async with bystander(lab, outcome, bound=None):
        for name, abuse in cases.items():
            async with RawSocket(lab.ports[0]) as raw:
                assert await raw.shake() == 101
                if (found := await _behaves(raw, abuse)) is not None:
                    failed.append(f"{name}: {found}")
        for name, request in HANDSHAKES.items():
            async with RawSocket(lab.ports[0]) as raw:
                await raw.send(request)
                with suppress(TimeoutError):
                    status = await raw.status()
                    if status in (101, 500):
                        failed.append(f"{name}: HTTP {status}")
        # More before the upgrade is answered, which RFC 6455 §4.1 forbids: that socket only.
        for more in (upgrade(lab.ports[0]) * 2, text(type="connect", token=lab.token_of(1))):
            async with RawSocket(lab.ports[0]) as raw:
                await raw.send(upgrade(lab.ports[0]) + more)
                with suppress(TimeoutError):
                    await raw.ending(timeout=1)
    total = len(cases) + len(HANDSHAKES) + 2
    outcome.figures["passed"] = f"{total - len(failed)} of {total}"
    outcome.must("; ".join(["each ends as RFC 6455 wants", *failed]), not failed)
    return outcome


async def _behaves(raw: RawSocket, abuse: Abuse) -> str | None:
    """Send an abuse; return what is wrong with the reaction."""
    await raw.send(abuse.data)
    if abuse.codes:
        with suppress(TimeoutError):
            code = await raw.ending(timeout=5)
            return None if code in abuse.codes else f"closed with {code}"
        return "not closed"
    if abuse.error is not None:
        received = await raw.receive(5)
        if received is None or received.opcode == CLOSE:
            return f"ended: {received}"
        if json.loads(received.payload).get("code") != abuse.error:
            return f"answered {received.payload!r}"
    await raw.send(frame(PING, b"still there?"))
    expected = Received(PONG, b"still there?")
    while (received := await raw.receive(5)) is not None and received.opcode != CLOSE:
        if received == expected:
            return None
    return f"ended: {received}"


@fault(13, "oversize: the frame limit, one byte more, 1 MiB, in one frame and in fragments", ONE)
async def oversize(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()

    def padded(size: int) -> bytes:
        body = b'{"type":"ping","pad":""}'
        return body[:-2] + b"x" * (size - len(body)) + body[-2:]

    def fragmented(data: bytes) -> bytes:
        parts = [data[at : at + 4096] for at in range(0, len(data), 4096)]
        frames = [frame(TEXT, parts[0], fin=False)]
        frames += [frame(CONTINUATION, part, fin=False) for part in parts[1:-1]]
        return b"".join([*frames, frame(CONTINUATION, parts[-1])])

    codes: list[int | None] = []
    async with memory_peak(lab.web[0]) as memory, bystander(lab, outcome):
        for size in (MAX_FRAME - 1, MAX_FRAME):
            for data in (_text(padded(size)), fragmented(padded(size))):
                async with RawSocket(lab.ports[0]) as raw:
                    await raw.open(lab.token_of(1))
                    await raw.send(data)
                    outcome.must(f"{size} bytes pass", await raw.until("pong") is not None)
        for size in (MAX_FRAME + 1, 2**20):
            for data in (_text(padded(size)), fragmented(padded(size))):
                async with RawSocket(lab.ports[0]) as raw:
                    await raw.open(lab.token_of(1))
                    with suppress(OSError):
                        await raw.send(data)
                    codes.append(await raw.ending())
        async with TestClient(lab.ws_url(), token=lab.token_of(1)) as client:
            await client.publish("room.big", "x" * (MAX_PAYLOAD - 2))
            error = await client.error(
                "publish", topic="room.big", messageId="m", payload="x" * (MAX_PAYLOAD - 1)
            )
            outcome.must("a payload one byte over: TOO_LARGE", error["code"] == "TOO_LARGE")
            await client.ask("ping", "pong")
    outcome.figures |= memory
    outcome.figures["codes"] = ", ".join(map(str, codes))
    outcome.must("closed 1009", set(codes) == {1009})
    outcome.must("memory below 8 MiB", memory["MiB"] < 8)
    return outcome


@fault(33, "decompression bomb: 61 kB that inflate to 60 MiB, COMPRESSION on", COMPRESSING)
async def decompression_bomb(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    data = compressed(b" " * (60 * 2**20))
    half = len(data) // 2
    whole = _text(data, rsv=COMPRESSED)
    fragments = _text(data[:half], fin=False, rsv=COMPRESSED) + frame(CONTINUATION, data[half:])
    codes: set[int | None] = set()
    async with memory_peak(lab.web[0]) as memory, bystander(lab, outcome):
        for bomb in (whole, fragments) * int(pace.of(50, 5)):
            async with RawSocket(lab.ports[0]) as raw:
                assert await raw.shake(OFFER) == 101
                outcome.must("compression was agreed to", b"permessage-deflate" in raw.head)
                await raw.send(text(type="connect", token=lab.token_of(1)))
                await raw.until("ready")
                with suppress(OSError):
                    await raw.send(bomb)
                codes.add(await raw.ending())
    outcome.figures |= memory
    outcome.figures["bombs"] = 2 * int(pace.of(50, 5))
    outcome.figures["codes"] = str(sorted(codes, key=str))
    outcome.must("all fit in a frame", len(data) < MAX_FRAME)
    outcome.must("closed 1009", codes == {1009})
    outcome.must("memory below 8 MiB", memory["MiB"] < 8)
    return outcome
