"""Hypothesis strategies: JSON values, topics, patterns, rules."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from realtime.protocol.rules import ACTIONS, Effect, Rule
from realtime.protocol.subjects import USER_ID

# No lone surrogates: json.dumps would write them as escapes, and no strict parser takes those.
texts = st.text(st.characters(codec="utf-8"), max_size=10)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)

# Few tokens, so that patterns and topics meet.
TOKENS = ("a", "b", "c")
MAX_TOKENS = 4
tokens = st.sampled_from(TOKENS)
topics = st.lists(tokens, min_size=1, max_size=MAX_TOKENS).map(".".join)
patterns = st.builds(
    lambda parts, rest: ".".join([*parts, ">"] if rest or not parts else parts),
    st.lists(tokens | st.just("*"), max_size=MAX_TOKENS - 1),
    st.booleans(),
)
user_patterns = st.builds(
    lambda parts, rest: ".".join([*parts, ">"] if rest or not parts else parts),
    st.lists(tokens | st.just("*") | st.just(USER_ID), max_size=MAX_TOKENS - 1),
    st.booleans(),
)
actions = st.sampled_from(ACTIONS)
rules = st.builds(Rule, st.sampled_from(get_args(Effect)), actions, user_patterns)
rule_lists = st.lists(rules, max_size=6)
