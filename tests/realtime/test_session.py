"""A session: what it is before and after `connect`, what it refuses, and the signed ticket."""

from __future__ import annotations

import base64
import contextlib
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.client_frames import Connect, Ping, Publish, Setup, parse_frame
from realtime.protocol.exceptions import (
    AclDenied,
    AuthRequired,
    BadFrame,
    BadTopic,
    NotSubscribed,
    SessionExpired,
    TooLarge,
    TooManySubscriptions,
)
from realtime.protocol.limits import Rates
from realtime.protocol.messages import Identity
from realtime.protocol.rules import ACTIONS, Action, Rule, parse_rules
from realtime.protocol.session import Limits, Session, Ticket, read_ticket, sign_ticket

KEY = b"key"
DAY = 86400.0
TICKET = Ticket("7", "2026-01-01T00:00:00Z", 1_000_000, "nonce")
LIMITS = Limits(
    open_topics=frozenset({"user", "room"}),
    request_topics=frozenset({"rpc"}),
    max_subscriptions=2,
    max_patterns=1,
    max_payload=10,
    rates=Rates(1.0, 3, 50.0, 100),
    user_rates=Rates(1.0, 4, 50.0, 400),
)


def identity(*rules: Rule, user_id: str = "7") -> Identity:
    """Return a user with these rules, the default ones when none are given."""
    return Identity(user_id, parse_rules(rules or None, user_id), None, (), None)


@pytest.fixture
def session() -> Session:
    """Return the session of user 7, with the default rules."""
    session = Session(LIMITS, now=0)
    session.authenticate(identity())
    return session


# Tickets.


@given(
    st.builds(Ticket, st.text(max_size=20), st.text(max_size=30), st.integers(0, 2**53), st.text())
)
def test_read_ticket_signed_returns_it(ticket: Ticket) -> None:
    signed = sign_ticket(ticket, KEY)
    assert read_ticket(signed, KEY, now=ticket.issued, max_age=1) == ticket


def test_sign_ticket_travels_in_json_and_urls_as_it_is() -> None:
    signed = sign_ticket(TICKET, KEY)
    assert signed.isascii()
    assert not set(signed) & set('+/= "\\')


@pytest.mark.parametrize("age", [0.0, 1.0, DAY, -5.0])
def test_read_ticket_in_time_passes(age: float) -> None:
    signed = sign_ticket(TICKET, KEY)
    assert read_ticket(signed, KEY, now=TICKET.issued + age, max_age=DAY) == TICKET


def test_read_ticket_too_old_is_expired() -> None:
    signed = sign_ticket(TICKET, KEY)
    with pytest.raises(SessionExpired):
        read_ticket(signed, KEY, now=TICKET.issued + DAY + 1, max_age=DAY)


def test_read_ticket_other_key_is_expired() -> None:
    with pytest.raises(SessionExpired):
        read_ticket(sign_ticket(TICKET, b"other"), KEY, now=TICKET.issued, max_age=DAY)


@given(st.integers(0), st.integers(1, 255))
def test_read_ticket_any_changed_byte_is_expired(position: int, change: int) -> None:
    signed = sign_ticket(TICKET, KEY)
    raw = bytearray(base64.urlsafe_b64decode(signed + "=" * (-len(signed) % 4)))
    raw[position % len(raw)] ^= change
    forged = base64.urlsafe_b64encode(raw).decode()
    with pytest.raises(SessionExpired):
        read_ticket(forged, KEY, now=TICKET.issued, max_age=DAY)


@given(st.integers(0, 200))
def test_read_ticket_cut_short_is_expired(length: int) -> None:
    signed = sign_ticket(TICKET, KEY)
    with pytest.raises(SessionExpired):
        read_ticket(signed[: length % len(signed)], KEY, now=TICKET.issued, max_age=DAY)


@given(st.text(st.characters(), max_size=60) | st.text("AZaz09-_=", max_size=60))
def test_read_ticket_any_text_is_expired_and_nothing_else(text: str) -> None:
    with pytest.raises(SessionExpired):
        read_ticket(text, KEY, now=0, max_age=DAY)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'["7"]', b'["7","e","now","n"]', b"\xff"])
def test_read_ticket_signed_nonsense_is_expired(body: bytes) -> None:
    """A key used for something else as well must not make tickets."""
    import hashlib
    import hmac

    signature = hmac.digest(KEY, body, hashlib.sha256)[:16]
    signed = base64.urlsafe_b64encode(signature + body).decode()
    with pytest.raises(SessionExpired):
        read_ticket(signed, KEY, now=0, max_age=DAY)


# Who it is.


def test_identity_before_connect_is_required() -> None:
    session = Session(LIMITS, now=0)
    assert not session.authenticated
    with pytest.raises(AuthRequired):
        _ = session.identity


def test_authenticate_makes_it_that_user(session: Session) -> None:
    assert session.authenticated
    assert session.identity.user_id == "7"


@pytest.mark.parametrize("frame", [Connect(), Setup()])
def test_admit_connect_first_passes(frame: Connect) -> None:
    Session(LIMITS, now=0).admit(frame)


@pytest.mark.parametrize(
    "frame", [Ping(), parse_frame('{"type":"publish","topic":"a","messageId":"1","payload":1}')]
)
def test_admit_anything_else_first_is_refused(frame: Ping | Publish) -> None:
    with pytest.raises(AuthRequired):
        Session(LIMITS, now=0).admit(frame)


@pytest.mark.parametrize("frame", [Connect(), Setup()])
def test_admit_second_connect_is_bad(session: Session, frame: Connect) -> None:
    with pytest.raises(BadFrame, match="refresh"):
        session.admit(frame)


def test_over_rate_of_frames_is_refused_until_time_passes(session: Session) -> None:
    assert not any(session.over_rate(1, now=5.0) for _ in range(3))
    assert session.over_rate(1, now=5.0)
    assert not session.over_rate(1, now=6.0)
    assert session.over_rate(1, now=6.0)


def test_over_rate_of_bytes_is_refused_until_time_passes(session: Session) -> None:
    assert not session.over_rate(100, now=0)
    assert session.over_rate(1, now=0)
    assert not session.over_rate(50, now=1.0)


def test_over_rate_frames_before_connect_count_too() -> None:
    session = Session(LIMITS, now=0)
    assert not any(session.over_rate(1, now=0) for _ in range(3))
    assert session.over_rate(1, now=0)


def test_over_rate_sockets_of_a_user_count_together() -> None:
    sessions = [Session(LIMITS, now=0) for _ in range(3)]
    for before, session in zip([None, *sessions], sessions, strict=False):
        session.share_meter(before, now=0)
    refused = [session.over_rate(1, now=0) for session in sessions for _ in range(2)]
    assert [error is None for error in refused] == [True, True, True, True, False, False]
    assert "user" in str(refused[-1])


# What it may.


@pytest.mark.parametrize("topic", ["user.7.notifications", "user.7.a.b"])
def test_check_topic_own_passes(session: Session, topic: str) -> None:
    session.check_topic("subscribe", topic)


@pytest.mark.parametrize("topic", ["user.8.notifications", "room.lobby", "user.7", "user.77.a"])
def test_check_topic_others_is_denied(session: Session, topic: str) -> None:
    with pytest.raises(AclDenied) as caught:
        session.check_topic("subscribe", topic)
    assert caught.value.topic == topic


def test_check_topic_publish_by_default_is_denied(session: Session) -> None:
    with pytest.raises(AclDenied):
        session.check_topic("publish", "user.7.notifications")


@pytest.mark.parametrize("topic", ["gateway.auth", "$SYS.a", "_INBOX.a", "user.>", "user.*.a", ""])
def test_check_topic_malformed_or_closed_is_bad_even_where_a_rule_allows(topic: str) -> None:
    session = Session(LIMITS, now=0)
    session.authenticate(identity(Rule("allow", "subscribe", ">")))
    with pytest.raises(BadTopic):
        session.check_topic("subscribe", topic)


STATS = Rule("allow", "subscribe", "gateway-stats.>")


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([STATS], True),
        ([Rule("allow", "subscribe", "gateway-stats.newest")], True),
        ([Rule("allow", "subscribe", ">")], False),
        ([Rule("allow", "subscribe", "*.newest")], False),
        ([STATS, Rule("deny", "subscribe", ">")], False),
        ([Rule("allow", "publish", "gateway-stats.>")], False),
    ],
)
def test_check_topic_of_the_processes_needs_a_rule_that_names_it(
    rules: list[Rule], allowed: bool
) -> None:
    session = Session(LIMITS, now=0)
    session.authenticate(identity(*rules))
    with contextlib.nullcontext() if allowed else pytest.raises(AclDenied):
        session.check_topic("subscribe", "gateway-stats.newest")


@pytest.mark.parametrize("action", ["publish", "request"])
def test_check_topic_of_the_processes_is_for_nothing_but_subscribing(action: Action) -> None:
    session = Session(LIMITS, now=0)
    session.authenticate(identity(Rule("allow", action, "gateway-stats.>")))
    with pytest.raises(BadTopic) as caught:
        session.check_topic(action, "gateway-stats.newest")
    assert "gateway-stats" not in caught.value.message


def test_check_topic_before_connect_needs_it() -> None:
    with pytest.raises(AuthRequired):
        Session(LIMITS, now=0).check_topic("subscribe", "user.7.a")


def test_check_topic_request_and_the_rest_have_spaces_of_their_own() -> None:
    session = Session(LIMITS, now=0)
    session.authenticate(identity(*(Rule("allow", action, ">") for action in ACTIONS)))
    session.check_topic("request", "rpc.a")
    session.check_topic("publish", "room.a")
    for action, topic in (("request", "room.a"), ("subscribe", "rpc.a"), ("publish", "rpc.a")):
        with pytest.raises(BadTopic):
            session.check_topic(cast(Action, action), topic)


def test_authenticate_again_takes_the_new_rules(session: Session) -> None:
    session.authenticate(identity(Rule("allow", "subscribe", "room.>")))
    session.check_topic("subscribe", "room.lobby")
    with pytest.raises(AclDenied):
        session.check_topic("subscribe", "user.7.a")


def test_check_room_full_is_refused(session: Session) -> None:
    session.topics.add("user.7.a")
    session.check_room("user.7.b")
    session.topics.add("user.7.b")
    with pytest.raises(TooManySubscriptions):
        session.check_room("user.7.c")


def test_check_room_patterns_are_counted_by_themselves(session: Session) -> None:
    session.topics.add("user.7.a")
    session.check_room("user.7.*")
    session.topics = {"user.7.*"}
    session.check_room("user.7.a")
    with pytest.raises(TooManySubscriptions, match="1 patterns"):
        session.check_room("user.7.>")


PATTERN_RULES = (
    Rule("allow", "subscribe", "room.*"),
    Rule("allow", "subscribe", "user.{user_id}.>"),
    Rule("allow", "subscribe", "room.public.>"),
    Rule("deny", "subscribe", "room.public.secret.>"),
    Rule("allow", "publish", "room.>"),
)


@pytest.mark.parametrize("pattern", ["room.*", "user.7.>", "user.7.*.*", "room.public.a.>"])
def test_check_subscription_rule_covers_all_of_it(session: Session, pattern: str) -> None:
    session.authenticate(identity(*PATTERN_RULES))
    session.check_subscription(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "room.>",  # more than a rule allows
        "room.*.a",
        "user.*",
        "user.>",
        "user.*.notifications",
        "user.8.>",
        "room.public.>",  # a part is denied
        "room.public.*.a",
    ],
)
def test_check_subscription_rule_covers_a_part_is_denied(session: Session, pattern: str) -> None:
    session.authenticate(identity(*PATTERN_RULES))
    with pytest.raises(AclDenied, match=r"all of 'room|all of 'user"):
        session.check_subscription(pattern)


@pytest.mark.parametrize("action", ACTIONS)
def test_check_topic_pattern_is_bad(session: Session, action: Action) -> None:
    """Only a subscription takes one."""
    session.authenticate(identity(*PATTERN_RULES))
    with pytest.raises(BadTopic):
        session.check_topic(action, "room.*")


def test_check_held_not_held_names_the_topic(session: Session) -> None:
    session.topics.add("user.7.a")
    session.check_held("user.7.a")
    with pytest.raises(NotSubscribed) as caught:
        session.check_held("user.7.b")
    assert caught.value.topic == "user.7.b"


def test_check_payload_at_the_limit_passes_and_over_it_does_not(session: Session) -> None:
    session.check_payload(b"x" * LIMITS.max_payload)
    with pytest.raises(TooLarge):
        session.check_payload(b"x" * (LIMITS.max_payload + 1))
