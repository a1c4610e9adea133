"""Rows about who may hear what: 20, 24."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from contextlib import suppress

import msgspec

from gateway_project.environment import derived_key
from realtime.protocol.messages import AuthReply, AuthRequest
from realtime.protocol.session import Ticket, read_ticket, sign_ticket
from tests.support.client import TestClient
from tests.support.waiting import until

from .backend import allow_rooms
from .client import Follower
from .lab import SECRET_KEY, Lab
from .measure import account, arrived
from .outcome import Outcome
from .rows import LOCAL, Pace, fault

SESSION_KEY = derived_key(SECRET_KEY, "realtime.session").encode()

INERT = (
    {"type": "websocket.receive", "text": '{"type":"unsubscribe","topic":"room.inert"}'},
    {"type": "websocket.disconnect", "code": 1000},
    {"type": "websocket.close", "code": 4502},
    {"type": "websocket.send", "text": "forged"},
    {"type": "websocket.accept"},
    {"type": "gateway.event", "event": "forged"},
    {"type": "http.disconnect"},
    {"type": "reset", "topic": "room.inert", "epoch": "forged"},
    {"type": "_receive"},
    {"type": "__class__"},
    {"type": ["list"]},
    {"type": None},
)


@fault(20, "type injection: payloads that look like messages of the layer or of ASGI", LOCAL)
async def type_injection(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    topic = "room.inert"
    async with TestClient(lab.ws_url(), token=lab.token_of(1)) as client:
        await client.subscribe(topic)
        told = len(client.frames)
        for payload in INERT:
            await lab.broker.store(topic, msgspec.json.encode(payload), headers=None, timeout=5)
            # By a client as well, and where nothing is stored.
            await client.publish(topic, payload)
        got = [(await client.expect("message", topic=topic))["data"] for _ in range(2 * len(INERT))]
        await client.ask("ping", "pong")
        others = [one for one in client.frames[told:] if one["type"] not in ("ack", "pong")]
        outcome.figures["handler calls"] = len(others)
        outcome.figures["of"] = len(got)
        outcome.must("inert: nothing but messages", not others)
        outcome.must("they arrive as they are", got[::2] == got[1::2] == list(INERT))
        outcome.must("the socket stays", client.close_code is None)
    return outcome


def forgeries(genuine: str, other_epoch: str) -> dict[str, str]:
    """Return sessionIds that must not be taken, by what is wrong with them."""
    raw = base64.urlsafe_b64decode(genuine + "=" * (-len(genuine) % 4))
    ticket = read_ticket(genuine, SESSION_KEY, now=time.time(), max_age=60)
    stolen = Ticket(ticket.user_id, ticket.epoch, ticket.issued, ticket.nonce)
    old = Ticket("2", ticket.epoch, ticket.issued - 10 * 86400, ticket.nonce)

    def signed(body: bytes, key: bytes) -> str:
        signature = hmac.digest(key, body, hashlib.sha256)[:16]
        return base64.urlsafe_b64encode(signature + body).rstrip(b"=").decode()

    body = raw[16:].replace(b'["1"', b'["2"')
    return {
        "another user's": genuine,
        "guessed": base64.urlsafe_b64encode(uuid.uuid4().bytes * 4).decode(),
        "empty": "",
        "signature flipped": base64.urlsafe_b64encode(bytes([raw[0] ^ 1]) + raw[1:]).decode(),
        "user changed": base64.urlsafe_b64encode(raw[:16] + body).rstrip(b"=").decode(),
        "no signature": base64.urlsafe_b64encode(body).decode(),
        "cut short": genuine[:-8],
        "another key's": sign_ticket(stolen, b"another key"),
        "key of the tokens": signed(body, b"faults-" + b"k" * 40),
        "expired": sign_ticket(old, SESSION_KEY),
        "no ticket": signed(b'"2"', SESSION_KEY),
        "not JSON": signed(b"\xff\xfe", SESSION_KEY),
        "not base64": "§" * 40,
        "U+2028": genuine + "\u2028",
    }


@fault(24, "resume theft: guessed, forged, old, another user's sessionId", LOCAL)
async def resume_theft(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    secret = "user.1.notifications"
    refused = 0
    async with Follower(lab.urls, lab.token_of(1), [secret], resume=True) as victim:
        assert victim.session_id is not None
        await publisher.burst([secret], 20)
        forged = forgeries(victim.session_id, "")
        for session_id in forged.values():
            fields = {"sessionId": session_id, "lastSeqPerTopic": {secret: 0}}
            for first in (True, False):
                async with TestClient(
                    lab.ws_url(), token=lab.token_of(2), connect_fields=fields if first else {}
                ) as thief:
                    if not first:
                        await thief.send("resume", **fields)
                    error = await thief.expect("error")
                    refused += error["code"] == "SESSION_EXPIRED"
                    await publisher.publish(secret)
                    await thief.ask("ping", "pong")
                    outcome.must("nothing leaked", thief.recorder.count() == 0)
        # A genuine one of one's own opens no topic that the rules do not.
        async with TestClient(lab.ws_url(), token=lab.token_of(2)) as own:
            await own.send(
                "resume", sessionId=own.ready["sessionId"], lastSeqPerTopic={secret: 0, "room.x": 0}
            )
            error = await own.expect("error")
            resumed = await own.expect("resumed")
            await publisher.publish(secret)
            await own.ask("ping", "pong")
            outcome.must("rules are checked anew", error["code"] == "ACL_DENIED")
            outcome.must("the others go on", list(resumed["topics"]) == ["room.x"])
            outcome.must("nothing leaked", own.recorder.count() == 0)
        await arrived([victim], publisher.published)
        account(outcome, [victim], publisher.published)
    outcome.figures["refused"] = f"{refused} of {2 * len(forged)}"
    outcome.must("SESSION_EXPIRED each time", refused == 2 * len(forged))
    return outcome


@fault(24, "resume refused: the topics that `ready` named are held all the same", LOCAL)
async def refused_resume_keeps_topics(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = "user.1.notifications"

    def grant(request: AuthRequest) -> AuthReply:
        reply = allow_rooms(request)
        return AuthReply(
            success=reply.success, user_id=reply.user_id, rules=reply.rules, subscriptions=[topic]
        )

    lab.stand_in.answer = grant
    fields = {"sessionId": "expired", "lastSeqPerTopic": {topic: 0}}
    async with TestClient(lab.ws_url(), token=lab.token_of(1), connect_fields=fields) as client:
        await client.expect("error", code="SESSION_EXPIRED")
        await client.ask("ping", "pong")
        await publisher.burst([topic], 5)
        with suppress(AssertionError):
            await until(lambda: client.recorder.has_all(publisher.published), 30)
        lost = len(client.recorder.report(publisher.published).lost)
        outcome.figures["lost"] = lost
        outcome.must(f"what `ready` named is heard: {client.ready['subscriptions']}", lost == 0)
    return outcome
