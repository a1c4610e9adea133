"""Rows about JSON: 16."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.client import TestClient

from .lab import Lab
from .measure import bystander
from .outcome import Outcome
from .rows import ONE, Pace, fault


def _publish(payload: str) -> str:
    return '{"type":"publish","topic":"room.x","messageId":"m","payload":' + payload + "}"


BAD_JSON: Mapping[str, str] = {
    "depth 30,000": "[" * 30_000,
    "depth 30,000 in a payload": '{"type":"publish","topic":"room.x","messageId":"m","payload":'
    + "[" * 15_000
    + "]" * 15_000
    + "}",
    "depth 30,000 in an unknown field": '{"type":"ping","x":' + "[" * 15_000 + "]" * 15_000 + "}",
    "5,000-digit id": '{"type":"ping","id":' + "9" * 5000 + "}",
    "5,000-digit payload": '{"type":"publish","topic":"room.x","messageId":"m","payload":'
    + "9" * 5000
    + "}",
    "NaN": _publish("NaN"),
    "Infinity": _publish("-Infinity"),
    "1e999": _publish("1e999"),
    "1e999 as a sequence": '{"type":"subscribe","topic":"room.x","since":1e999}',
    "a fraction as a sequence": '{"type":"subscribe","topic":"room.x","since":1.5}',
    "2^64 as a sequence": '{"type":"subscribe","topic":"room.x","since":18446744073709551616}',
    "-1 as a sequence": '{"type":"subscribe","topic":"room.x","since":-1}',
    "true as a sequence": '{"type":"subscribe","topic":"room.x","since":true}',
    "scalar": "42",
    "string": '"ping"',
    "null": "null",
    "list": "[]",
    "list of frames": '[{"type":"ping"}]',
    "no type": "{}",
    "type null": '{"type":null}',
    "type unknown": '{"type":"__init__"}',
    "type a list": '{"type":["ping"]}',
    "cut off": '{"type":"ping"',
    "two values": '{"type":"ping"}{}',
    "single quotes": "{'type':'ping'}",
    "comment": '{"type":"ping"/**/}',
    "trailing comma": '{"type":"ping",}',
    "NUL": '{"type":"ping"}\0',
    "BOM": '\ufeff{"type":"ping"}',
    "raw newline in a string": '{"type":"ping","id":"\n"}',
    "two types": '{"type":"ping","type":"ping"}',
    "two topics": '{"type":"subscribe","topic":"room.x","topic":"user.2.notifications"}',
    "two topics, one of them written with an escape": (
        '{"type":"subscribe","topic":"room.x","t\\u006fpic":"user.2.notifications"}'
    ),
    "lone surrogate escaped": _publish('"\\ud800"'),
    "lone surrogate in an id": '{"type":"ping","id":"\\udc00"}',
    "lone surrogate in a topic": '{"type":"subscribe","topic":"\\ud800"}',
}
"""Each gets BAD_FRAME; what goes out is strict JSON."""


@fault(16, "JSON abuse: depth, digits, NaN, 1e999, duplicate keys, scalars, lone surrogates", ONE)
async def json_abuse(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    taken: list[str] = []
    async with (
        bystander(lab, outcome, bound=None),
        TestClient(lab.ws_url(), token=lab.token_of(1)) as client,
        TestClient(lab.ws_url(), token=lab.token_of(2)) as reader,
    ):
        await reader.subscribe("room.x")
        for name, data in BAD_JSON.items():
            await client.send_text(data)
            await client.ask("ping", "pong")
            answers = [one.get("code", one["type"]) for one in client.frames]
            client.frames.clear()
            if answers[-2:-1] != ["BAD_FRAME"]:
                taken.append(f"{name}: {answers}")
        # What a backend publishes that is no JSON goes out as base64; TestClient is strict.
        odd = [b"NaN", b"1e999", b'"\\ud800"', b"[" * 50_000, b"\xff", b"", b"9" * 5000]
        for payload in odd:
            await lab.broker.store("room.x", payload, headers=None, timeout=5)
        got = [await reader.expect("message") for _ in odd]
        encoded = all("encoding" in one for one in got)
        outcome.must("what is no JSON goes out as base64", encoded)
    outcome.figures["crashes"] = lab.tracebacks()
    outcome.figures["refused"] = f"{len(BAD_JSON) - len(taken)} of {len(BAD_JSON)}"
    outcome.must("no crash", lab.tracebacks() == 0)
    outcome.must("; ".join(["BAD_FRAME each", *taken]), not taken)
    return outcome
