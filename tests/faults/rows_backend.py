"""Rows about an auth worker that is slow, dead or wrong: 26."""

from __future__ import annotations

from collections.abc import Callable

from realtime.nats_client import Message
from realtime.protocol.messages import AuthReply, AuthRequest
from tests.support.client import TestClient
from tests.support.waiting import until

from .backend import allow_rooms
from .lab import Lab
from .outcome import Outcome
from .rows import ONE, Pace, fault
from .rows_auth import ends


def wrong_answers() -> dict[str, tuple[Callable[[AuthRequest], AuthReply | bytes | None], int]]:
    """Return answers that must let nobody in, and the code that ends the socket."""

    def say(data: bytes) -> Callable[[AuthRequest], bytes]:
        return lambda request: data

    unavailable = 4002
    return {
        "silent": (lambda request: None, unavailable),
        "empty": (say(b""), unavailable),
        "garbage": (say(b"\xff\x00garbage"), unavailable),
        "null": (say(b"null"), unavailable),
        "list": (say(b"[true]"), unavailable),
        "object": (say(b"{}"), unavailable),
        "success as text": (say(b'{"success":"true","user_id":"1"}'), unavailable),
        "success as number": (say(b'{"success":1,"user_id":"1"}'), unavailable),
        "no user": (say(b'{"success":true}'), unavailable),
        "user *": (say(b'{"success":true,"user_id":"*"}'), unavailable),
        "user >": (say(b'{"success":true,"user_id":">"}'), unavailable),
        "user a.b": (say(b'{"success":true,"user_id":"1.notifications"}'), unavailable),
        "user CRLF": (say(b'{"success":true,"user_id":"1\\r\\nX: y"}'), unavailable),
        "user empty": (say(b'{"success":true,"user_id":""}'), unavailable),
        "user a list": (say(b'{"success":true,"user_id":["1"]}'), unavailable),
        "user true": (say(b'{"success":true,"user_id":true}'), unavailable),
        "rules no list": (say(b'{"success":true,"user_id":"1","rules":"all"}'), unavailable),
        "rule broken": (
            say(
                b'{"success":true,"user_id":"1","rules":'
                b'[{"effect":"allow","action":"subscribe","topic":"a..b"}]}'
            ),
            unavailable,
        ),
        "expired": (say(b'{"success":true,"user_id":"1","expires_at":1}'), 4500),
        "expires NaN": (say(b'{"success":true,"user_id":"1","expires_at":NaN}'), unavailable),
        "deep": (say(b"[" * 100_000), unavailable),
        "1 MiB": (say(b" " * 1_000_000 + b"{"), unavailable),
        "two values": (say(b'{"success":true,"user_id":"1"}{"success":true}'), unavailable),
        "denied": (say(b'{"success":false,"user_id":"1"}'), 4500),
    }


@fault(26, "auth worker slow, dead, garbage, double, late, wrong shape, 1 MiB", ONE)
async def wrong_auth(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    wrong = []
    cases = wrong_answers()
    for name, (answer, expected) in cases.items():
        lab.stand_in.answer = answer
        code = await ends(lab, lab.token_of(1))
        if code != expected:
            wrong.append(f"{name}: {code}")
    late: list[Message] = []

    async def note(message: Message) -> None:
        late.append(message)

    # Late: the answer to one socket's question comes when it is gone, and opens no other.
    lab.stand_in.answer = lambda request: None
    eavesdropper = await lab.broker.subscribe("gateway.auth", note)
    if await ends(lab, "first") != 4002:
        wrong.append("late: the first was let in")
    async with TestClient(lab.ws_url(), connect=False) as second:
        await second.send("connect", token="second")
        await until(lambda: len(late) > 1, 5)
        await lab.broker.publish(late[0].reply, b'{"success":true,"user_id":"1"}')
        if await second.closed(10) != 4002:
            wrong.append("late: another's answer was taken")
    await lab.broker.unsubscribe(eavesdropper)
    # Double: the first answer counts.
    lab.stand_in.answer = lambda request: None

    async def twice(message: Message) -> None:
        await lab.broker.publish(message.reply, b'{"success":false}')
        await lab.broker.publish(message.reply, b'{"success":true,"user_id":"1"}')

    double = await lab.broker.subscribe("gateway.auth", twice)
    if await ends(lab, lab.token_of(1)) != 4500:
        wrong.append("double: the second counted")
    await lab.broker.unsubscribe(double)
    lab.stand_in.answer = allow_rooms
    outcome.must("then all is well again", await ends(lab, lab.token_of(1)) is None)
    outcome.figures["wrong accepts"] = sum(item.endswith("None") for item in wrong)
    outcome.figures["of"] = len(cases) + 2
    outcome.must("; ".join(["fail closed", *wrong]), not wrong)
    return outcome
