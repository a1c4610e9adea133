"""Topics, patterns and subjects: what a name may be, what it matches, where it travels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from .exceptions import BadTopic

MAX_TOPIC_BYTES = 200
"""Longest topic, in bytes."""

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_PATTERN_TOKEN = re.compile(r"(?:[A-Za-z0-9_-]|\{user_id\})+|\*", re.ASCII)
USER_ID = "{user_id}"
"""Stands for the session's own user id in a pattern."""

STATS = "gateway-stats"
"""Leading token of the topics on which staff see what the processes hold (watch.py).

They come from no subject of NATS: each web process pushes them to its own sockets."""

# A Channels group name is shorter than this (channels.layers.BaseChannelLayer).
_MAX_GROUP = 100


def is_token(text: str) -> bool:
    """Say whether `text` is one token of a topic, as a user id must be."""
    return len(text) <= MAX_TOPIC_BYTES and _TOKEN.fullmatch(text) is not None


def parse_topic(text: str, open_topics: Iterable[str], channels: Collection[str] = ()) -> str:
    """Return `text` when it is a topic that clients may name.

    Args:
        text: what the client sent.
        open_topics: the leading tokens that are open to clients.
        channels: event channels, which are open by their whole names.

    Raises:
        BadTopic: when it is malformed, too long, or outside the open space.
    """
    if text in channels:
        return text
    if len(text) <= MAX_TOPIC_BYTES and is_pattern(text):
        raise BadTopic("One topic has to be named here, without '*' and '>'.", topic=text)
    if len(text) > MAX_TOPIC_BYTES or _TOPIC.fullmatch(text) is None:
        raise BadTopic(
            f"A topic is 1 to {MAX_TOPIC_BYTES} bytes of letters, digits, '-' and '_' in tokens"
            " joined by dots, for example 'user.7.notifications'.",
            topic=text if len(text) <= MAX_TOPIC_BYTES else None,
        )
    if text.partition(".")[0] not in open_topics:
        named = f"; event channels: {', '.join(sorted(channels))}" if channels else ""
        raise BadTopic(
            f"Topics here start with one of: {', '.join(sorted(open_topics))}{named}.", topic=text
        )
    return text


def is_pattern(text: str) -> bool:
    """Say whether `text` is meant as a pattern: it holds what no topic can."""
    return "*" in text or ">" in text


def parse_subscription(
    text: str, open_topics: Collection[str], channels: Collection[str] = ()
) -> str:
    """Return `text` when it is a topic, or a pattern of topics, that clients may name.

    Args:
        text: what the client sent; a pattern begins with a plain token.
        open_topics: the leading tokens that are open to clients.
        channels: event channels that are open too, by their whole names; no pattern brings them.

    Raises:
        BadTopic: when it is malformed, too long, or reaches beyond the open space.
    """
    if len(text) > MAX_TOPIC_BYTES or not is_pattern(text):
        return parse_topic(text, open_topics, channels)
    try:
        parse_pattern(text)
    except BadTopic as exc:
        raise BadTopic(exc.message, topic=text) from exc
    if "{" in text or text.partition(".")[0] not in open_topics:
        raise BadTopic(
            f"Patterns here start with one of: {', '.join(sorted(open_topics))}; then come"
            " tokens, '*' for one and '>' for the rest, for example 'room.*'.",
            topic=text,
        )
    return text


def is_local(topic: str) -> bool:
    """Say whether events of `topic` come from the web process itself, and never from NATS."""
    return topic.partition(".")[0] == STATS


def parse_pattern(text: str) -> str:
    """Return `text` when it is a NATS pattern: `*` one token, `>` the rest, `{user_id}`.

    Raises:
        BadTopic: with a sentence that says which token is wrong.
    """
    if not text or len(text) > MAX_TOPIC_BYTES:
        raise BadTopic(f"A pattern is 1 to {MAX_TOPIC_BYTES} characters long.")
    tokens = text.split(".")
    for position, token in enumerate(tokens):
        if token == ">":
            if position != len(tokens) - 1:
                raise BadTopic("'>' stands for the rest, so it can only be the last token.")
        elif _PATTERN_TOKEN.fullmatch(token) is None:
            raise BadTopic(
                f"{token!r} is no token: use letters, digits, '-', '_', '{USER_ID}',"
                " '*' for one token or '>' for the rest."
            )
    return text


def covers(pattern: str, topic: str) -> bool:
    """Say whether `pattern` covers all of `topic`, which may itself be a pattern.

    A plain topic is covered when it matches; a pattern is covered when every topic that it
    matches is matched by `pattern` too.
    """
    return covers_tokens(pattern.split("."), topic.split("."))


def covers_tokens(tokens: Sequence[str], wanted: Sequence[str]) -> bool:
    """Do what `covers` does, with a pattern and a topic that are split already."""
    for position, token in enumerate(tokens):
        if token == ">":
            return len(wanted) > position
        if position >= len(wanted):
            return False
        other = wanted[position]
        if other == ">" or (token != other and token != "*"):
            return False
    return len(wanted) == len(tokens)


def overlaps(pattern: str, other: str) -> bool:
    """Say whether some topic matches both patterns."""
    return overlap_tokens(pattern.split("."), other.split("."))


def overlap_tokens(left: Sequence[str], right: Sequence[str]) -> bool:
    """Do what `overlaps` does, with patterns that are split already."""
    for one, two in zip(left, right, strict=False):
        if ">" in (one, two):
            return True
        if one != two and "*" not in (one, two):
            return False
    return len(left) == len(right)


@lru_cache(maxsize=65536)
def group_for(topic: str) -> str:
    """Return the channel-layer group of `topic`: the topic itself, hashed if too long.

    A topic consists of characters that a group name allows, so only its length can be wrong.
    The prefixes keep a hashed name from meeting a plain one.

    Raises:
        BadTopic: when it is no topic; a NATS subject may hold what a frame may not.
    """
    if _TOPIC.fullmatch(topic) is None:
        raise BadTopic("This subject is no topic.")
    group = f"t.{topic}"
    if len(group) < _MAX_GROUP:
        return group
    return f"h.{hashlib.sha256(topic.encode()).hexdigest()}"


class Subjects:
    """The gateway's own NATS subjects under one settable prefix."""

    def __init__(self, prefix: str) -> None:
        self.auth = f"{prefix}.auth"
        self.relay = f"{prefix}.relay"
        self.control_user = f"{prefix}.control.user"
        self.control_acl = f"{prefix}.control.acl"
        self.presence = f"{prefix}.control.presence"
        self.stats = f"{prefix}.control.stats"
        self.watch = f"{prefix}.control.watch"

    def relay_of(self, topic: str) -> str:
        """Return the subject on which the stream republishes `topic` (or a pattern)."""
        return f"{self.relay}.{topic}"

    def topic_of(self, relayed: str) -> str:
        """Return the topic of a relay subject."""
        return relayed[len(self.relay) + 1 :]
