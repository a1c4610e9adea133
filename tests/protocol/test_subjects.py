"""Topics and patterns: what a name may be, and what it matches."""

from __future__ import annotations

import itertools
import re

import pytest
from channels.layers import BaseChannelLayer
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.exceptions import BadTopic, ErrorCode
from realtime.protocol.subjects import (
    MAX_TOPIC_BYTES,
    Subjects,
    covers,
    group_for,
    is_token,
    overlaps,
    parse_pattern,
    parse_subscription,
    parse_topic,
)

from .strategies import MAX_TOKENS, TOKENS, patterns, topics

OPEN = ["user", "room", "live", "rpc"]

# What no name may hold: as a token, in a token and at either end of one.
INJECTIONS = {
    "space": " ",
    "tab": "\t",
    "line end": "\r\n",
    "line feed": "\n",
    "carriage return": "\r",
    "null": "\x00",
    "delete": "\x7f",
    "line separator": "\u2028",
    "next line": "\x85",
    "no-break space": "\xa0",
    "zero width space": "\u200b",
    "right-to-left override": "\u202e",
    "lone surrogate": "\ud800",
    "accent": "é",
    "arabic digit": "\u0667",
    "cyrillic a": "\u0430",
    "fullwidth dot": "\uff0e",
    "dollar": "$",
    "slash": "/",
    "backslash": "\\",
    "quote": '"',
    "percent": "%",
    "colon": ":",
    "brace": "{",
    "protocol": "x\r\nPUB user.1.n 0\r\n\r\n",
}


def refused(text: str) -> BadTopic:
    """Return the BadTopic that `text` raises as a topic."""
    with pytest.raises(BadTopic) as caught:
        parse_topic(text, OPEN)
    return caught.value


# A model of NATS: every topic of a few tokens, matched token by token.

UNIVERSE = [
    ".".join(parts)
    for length in range(1, MAX_TOKENS + 2)
    for parts in itertools.product(TOKENS, repeat=length)
]


def expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern."""
    token = r"[^.]+"
    parts = [
        {"*": token, ">": rf"{token}(?:\.{token})*"}.get(part, re.escape(part))
        for part in pattern.split(".")
    ]
    return re.compile(r"\.".join(parts))


def matched(pattern: str) -> set[str]:
    """Return the topics of the universe that a pattern matches."""
    matches = expression(pattern).fullmatch
    return {topic for topic in UNIVERSE if matches(topic)}


# Topics.


@pytest.mark.parametrize(
    "topic",
    [
        "user",
        "user.7.notifications",
        "room.a-b_C.9",
        "live._",
        "room.-",
        "rpc." + "x" * (MAX_TOPIC_BYTES - 4),
        "room" + ".a" * 98,
    ],
)
def test_parse_topic_well_formed_is_returned(topic: str) -> None:
    assert parse_topic(topic, OPEN) == topic


def test_parse_topic_event_channel_is_open_by_its_whole_name() -> None:
    assert parse_topic("IN", OPEN, ["IN", "news.sport"]) == "IN"
    with pytest.raises(BadTopic, match=r"event channels: IN, news\.sport\."):
        parse_topic("IN.more", OPEN, ["IN", "news.sport"])


@pytest.mark.parametrize("topic", ["user.7.a", "room.*", "room.>", "room.*.a", "room.*.*.>"])
def test_parse_subscription_topic_or_pattern_is_returned(topic: str) -> None:
    assert parse_subscription(topic, OPEN) == topic


@pytest.mark.parametrize(
    "topic",
    [
        *("", "*", ">", "*.a", "*.>", "other.*", "gateway.>", "$SYS.>", "_INBOX.>", "Room.*"),
        *("room.>.a", "room.a*", "room.*a", "room.>>", "room..*", ".room.*", "room.*.", "room. *"),
        *("room.{user_id}.*", "room.*\r\nPUB", "room." + "*." * 100 + "*"),
    ],
)
def test_parse_subscription_anything_else_is_bad(topic: str) -> None:
    with pytest.raises(BadTopic) as caught:
        parse_subscription(topic, OPEN)
    assert caught.value.topic == (topic if len(topic) <= MAX_TOPIC_BYTES else None)


@given(patterns)
def test_parse_subscription_stays_in_the_open_space(pattern: str) -> None:
    first = {topic.partition(".")[0] for topic in matched(pattern)}
    try:
        parse_subscription(pattern, ["a"])
    except BadTopic:
        assert first != {"a"}
    else:
        assert first <= {"a"}


@pytest.mark.parametrize("injected", INJECTIONS.values(), ids=INJECTIONS)
@pytest.mark.parametrize("shape", ["{}", "user.{}", "user.{}.n", "user.a{}", "user.{}a", "{}user"])
def test_parse_topic_injection_is_bad(shape: str, injected: str) -> None:
    assert refused(shape.format(injected)).code is ErrorCode.BAD_TOPIC


@pytest.mark.parametrize(
    "topic",
    [
        "",
        ".",
        "..",
        "user..n",
        ".user",
        "user.",
        "user.7.",
        "user...",
        "*",
        ">",
        "user.*",
        "user.>",
        "user.*.notifications",
        "user.7*",
        "user.7>",
        "$SYS.>",
        "$JS.API.STREAM.DELETE.GATEWAY",
        "_INBOX.>",
        "user.{user_id}.n",
    ],
)
def test_parse_topic_wildcard_or_empty_token_is_bad(topic: str) -> None:
    refused(topic)


@pytest.mark.parametrize(
    "topic",
    ["gateway.auth", "gateway.relay.user.1.n", "_INBOX.x", "User.1", "users.1", "use", "other"],
)
def test_parse_topic_outside_the_open_space_is_bad(topic: str) -> None:
    error = refused(topic)
    assert error.topic == topic
    assert "live, room, rpc, user" in error.message


@pytest.mark.parametrize("size", [MAX_TOPIC_BYTES + 1, 10_000])
@pytest.mark.parametrize("unit", ["x", ".a"])
def test_parse_topic_too_long_is_bad_and_not_echoed(size: int, unit: str) -> None:
    error = refused(("user" + unit * size)[:size])
    assert error.topic is None
    assert len(error.message) < 300


@given(st.text(max_size=30))
def test_parse_topic_any_text_is_plain_or_bad(text: str) -> None:
    try:
        topic = parse_topic(text, OPEN)
    except BadTopic:
        return
    assert topic.isascii()
    assert set(topic).isdisjoint("*>$ \t\r\n\x00")
    assert all(topic.split("."))


@given(topics)
def test_parse_topic_open_space_is_the_leading_token(topic: str) -> None:
    assert parse_topic(topic, [topic.partition(".")[0]]) == topic
    with pytest.raises(BadTopic):
        parse_topic(topic, ["z"])


@pytest.mark.parametrize("text", ["7", "a-b_C", "x" * MAX_TOPIC_BYTES])
def test_is_token_one_token_is(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize("injected", INJECTIONS.values(), ids=INJECTIONS)
def test_is_token_injection_is_not(injected: str) -> None:
    assert not is_token(injected)
    assert not is_token(f"7{injected}")


@pytest.mark.parametrize("text", ["", ".", "a.b", "*", ">", "x" * (MAX_TOPIC_BYTES + 1)])
def test_is_token_dots_wildcards_and_lengths_are_not(text: str) -> None:
    assert not is_token(text)


# Patterns.


@pytest.mark.parametrize(
    "pattern",
    [">", "*", "*.>", "user.{user_id}.>", "user.*.n", "a-{user_id}_b", "{user_id}", "*.*.*"],
)
def test_parse_pattern_well_formed_is_returned(pattern: str) -> None:
    assert parse_pattern(pattern) == pattern


@pytest.mark.parametrize("injected", INJECTIONS.values(), ids=INJECTIONS)
@pytest.mark.parametrize("shape", ["{}", "user.{}", "user.{}.>", "user.a{}", "{}>"])
def test_parse_pattern_injection_is_bad(shape: str, injected: str) -> None:
    with pytest.raises(BadTopic):
        parse_pattern(shape.format(injected))


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        ">.a",
        "user.>.n",
        ">>",
        "**",
        "a*",
        "*a",
        "a>",
        "{user}",
        "{user_id",
        "user_id}",
        "{{user_id}}",
        "{user_id}*",
        "a..b",
        ".a",
        "a.",
        "a" * (MAX_TOPIC_BYTES + 1),
    ],
)
def test_parse_pattern_malformed_is_bad(pattern: str) -> None:
    with pytest.raises(BadTopic):
        parse_pattern(pattern)


@given(patterns)
def test_parse_pattern_any_nats_pattern_is_returned(pattern: str) -> None:
    assert parse_pattern(pattern) == pattern


# What covers what.


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("user.>", "user.7", True),
        ("user.>", "user.7.n", True),
        ("user.>", "user", False),
        ("user.>", "users.7", False),
        (">", "user", True),
        ("*", "user", True),
        ("*", "user.7", False),
        ("user.*", "user.7", True),
        ("user.*", "user.7.n", False),
        ("user.*.n", "user.7.n", True),
        ("user.7.n", "user.7.N", False),
        # Of one pattern by another: all of it.
        ("user.7.>", "user.*.n", False),
        ("user.*.n", "user.*.n", True),
        ("user.*", "user.>", False),
        ("user.>", "user.*", True),
        ("user.>", "user.>", True),
        ("user.>", ">", False),
        ("*.>", ">", False),
        (">", ">", True),
        ("user.7.n", "user.*.n", False),
        ("user.*.*", "user.>", False),
        ("*.>", "user.>", True),
    ],
)
def test_covers_pairs_are_as_in_nats(pattern: str, topic: str, expected: bool) -> None:
    assert covers(pattern, topic) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("user.*.n", "user.7.>", True),
        ("user.>", "user", False),
        ("*.7", "user.*", True),
        ("*.7", "user.8", False),
        ("a.b", "a.b.c", False),
        ("a.b.>", "a.>", True),
        ("a.b.c.>", "a.*", False),
        ("a.*.c", "a.b", False),
        (">", "a", True),
    ],
)
def test_overlaps_pairs_are_symmetric_and_as_in_nats(one: str, other: str, expected: bool) -> None:
    assert overlaps(one, other) is expected
    assert overlaps(other, one) is expected


@given(patterns, topics)
def test_covers_topic_agrees_with_the_model(pattern: str, topic: str) -> None:
    assert covers(pattern, topic) is (expression(pattern).fullmatch(topic) is not None)
    assert overlaps(pattern, topic) is covers(pattern, topic)


@given(patterns, patterns)
def test_covers_pattern_agrees_with_the_model(pattern: str, other: str) -> None:
    # A token outside the three stands for all that no pattern names: without it, 'a', 'b' and
    # 'c' together would look like '*'. The patterns hold no 'c'.
    pattern, other = pattern.replace("c", "b"), other.replace("c", "b")
    assert covers(pattern, other) is (matched(other) <= matched(pattern))


@given(patterns, patterns)
def test_overlaps_agrees_with_the_model(one: str, other: str) -> None:
    assert overlaps(one, other) is bool(matched(one) & matched(other))


@given(patterns, patterns, patterns)
def test_covers_is_transitive(one: str, two: str, three: str) -> None:
    if covers(one, two) and covers(two, three):
        assert covers(one, three)


@given(patterns)
def test_covers_and_overlaps_are_reflexive(pattern: str) -> None:
    assert covers(pattern, pattern)
    assert overlaps(pattern, pattern)


# Groups and subjects.

LAYER = BaseChannelLayer()
any_topic = st.from_regex(
    r"[A-Za-z0-9_-]{1,60}(\.[A-Za-z0-9_-]{1,60}){0,3}", fullmatch=True
).filter(lambda topic: len(topic) <= MAX_TOPIC_BYTES)


@given(any_topic)
def test_group_for_any_topic_is_a_channels_group_name(topic: str) -> None:
    LAYER.require_valid_group_name(group_for(topic))


@pytest.mark.parametrize("length", [1, 96, 97, 98, 99, 100, MAX_TOPIC_BYTES])
def test_group_for_every_length_is_a_channels_group_name(length: int) -> None:
    LAYER.require_valid_group_name(group_for("x" * length))


@given(st.lists(any_topic, max_size=20, unique=True))
def test_group_for_different_topics_differ(many: list[str]) -> None:
    assert len({group_for(topic) for topic in many}) == len(many)


def test_group_for_hash_lookalike_differs() -> None:
    long_topic = "room." + "x" * 150
    assert group_for(group_for(long_topic)) != group_for(long_topic)
    assert group_for(group_for(long_topic).removeprefix("h.")) != group_for(long_topic)


def test_subjects_prefix_leads_them_all() -> None:
    subjects = Subjects("site.one")
    assert subjects.auth == "site.one.auth"
    assert subjects.control_user == "site.one.control.user"
    assert subjects.control_acl == "site.one.control.acl"
    assert subjects.relay_of(">") == "site.one.relay.>"


@given(topics)
def test_subjects_relay_of_topic_comes_back(topic: str) -> None:
    subjects = Subjects("gateway")
    assert subjects.topic_of(subjects.relay_of(topic)) == topic
