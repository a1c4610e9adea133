"""Rules: deny beats allow, silence denies, and a pattern is allowed as a whole or not at all."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.exceptions import AclDenied, BadTopic, ErrorCode
from realtime.protocol.rules import (
    ACTIONS,
    DEFAULT_RULES,
    Action,
    Effect,
    Rule,
    RuleSet,
    channel_rules,
    parse_rules,
)
from realtime.protocol.subjects import USER_ID

from .strategies import TOKENS, actions, patterns, rule_lists, rules, topics
from .test_subjects import matched

# As a token of the model, so that {user_id} meets topics.
ME = TOKENS[0]


def allow(topic: str, action: Action = "subscribe") -> Rule:
    """Return a rule that allows."""
    return Rule("allow", action, topic)


def deny(topic: str, action: Action = "subscribe") -> Rule:
    """Return a rule that denies."""
    return Rule("deny", action, topic)


def reach(some: list[Rule], action: Action, effect: Effect) -> list[set[str]]:
    """Return what each rule of that kind matches in the model, for the user ME."""
    return [
        matched(rule.topic.replace(USER_ID, ME))
        for rule in some
        if (rule.action, rule.effect) == (action, effect)
    ]


# Against the model.


@given(rule_lists, actions, topics)
def test_decide_topic_agrees_with_the_model(some: list[Rule], action: Action, topic: str) -> None:
    denied = any(topic in one for one in reach(some, action, "deny"))
    allowed = any(topic in one for one in reach(some, action, "allow"))
    assert RuleSet(some, ME).decide(action, topic).allowed is (allowed and not denied)


@given(rule_lists, actions, patterns)
def test_decide_allowed_pattern_lets_no_forbidden_topic_through(
    some: list[Rule], action: Action, pattern: str
) -> None:
    ruleset = RuleSet(some, ME)
    if ruleset.decide(action, pattern).allowed:
        assert all(ruleset.decide(action, topic).allowed for topic in matched(pattern))


@given(rule_lists, actions, topics)
def test_decide_more_denies_never_allow_more(some: list[Rule], action: Action, topic: str) -> None:
    ruleset = RuleSet([*some, deny(">", action)], ME)
    assert not ruleset.decide(action, topic).allowed


@given(rule_lists, rules, actions, topics)
def test_decide_added_deny_only_takes_away(
    some: list[Rule], extra: Rule, action: Action, topic: str
) -> None:
    before = RuleSet(some, ME).decide(action, topic).allowed
    after = RuleSet([*some, Rule("deny", extra.action, extra.topic)], ME)
    assert before or not after.decide(action, topic).allowed


@given(rule_lists, actions, topics, st.randoms())
def test_decide_order_of_rules_does_not_matter(
    some: list[Rule], action: Action, topic: str, random: Random
) -> None:
    mixed = list(some)
    random.shuffle(mixed)
    one, other = RuleSet(some, ME), RuleSet(mixed, ME)
    assert one.decide(action, topic).allowed is other.decide(action, topic).allowed


@given(rule_lists, actions, topics)
def test_decide_decision_names_a_rule_of_that_action(
    some: list[Rule], action: Action, topic: str
) -> None:
    decision = RuleSet(some, ME).decide(action, topic)
    if decision.rule is None:
        assert not decision.allowed
    else:
        assert decision.rule in some
        assert decision.rule.action == action
        assert (decision.rule.effect == "allow") is decision.allowed


# By example.


def test_decide_no_rules_denies() -> None:
    decision = RuleSet([], ME).decide("subscribe", "user.a")
    assert (decision.allowed, decision.rule) == (False, None)


@pytest.mark.parametrize("order", [1, -1])
def test_decide_deny_beats_allow_in_either_order(order: int) -> None:
    rule = deny("room.secret")
    ruleset = RuleSet([allow("room.*"), rule][::order], ME)
    assert ruleset.decide("subscribe", "room.open").allowed
    decision = ruleset.decide("subscribe", "room.secret")
    assert (decision.allowed, decision.rule) == (False, rule)


def test_decide_other_action_is_not_meant() -> None:
    ruleset = RuleSet([allow("room.1", "publish"), deny("room.1", "request")], ME)
    assert ruleset.decide("publish", "room.1").allowed
    assert not ruleset.decide("subscribe", "room.1").allowed


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("user.7.>", True),
        ("user.7.notifications", True),
        ("user.7.*", True),
        ("user.*.notifications", False),
        ("user.>", False),
        ("user.7", False),
        ("user.77.notifications", False),
        ("*", False),
        (">", False),
        ("$SYS.>", False),
        ("_INBOX.>", False),
        ("$JS.API.>", False),
        ("gateway.>", False),
    ],
)
def test_decide_wildcard_request_needs_a_rule_over_all_of_it(pattern: str, expected: bool) -> None:
    assert RuleSet(DEFAULT_RULES, "7").decide("subscribe", pattern).allowed is expected


def test_decide_wildcard_request_touching_a_deny_is_denied() -> None:
    ruleset = RuleSet([allow(">"), deny("room.*.secret")], ME)
    assert not ruleset.decide("subscribe", "room.>").allowed
    assert not ruleset.decide("subscribe", "room.1.*").allowed
    assert ruleset.decide("subscribe", "room.1.open").allowed
    assert ruleset.decide("subscribe", "user.>").allowed


def test_decide_two_rules_together_do_not_cover_a_pattern() -> None:
    """Documented: one rule has to cover it."""
    ruleset = RuleSet([allow("room.1"), allow("room.2")], ME)
    assert not ruleset.decide("subscribe", "room.*").allowed


def test_rule_set_user_id_is_filled_in_everywhere() -> None:
    ruleset = RuleSet([allow("user.{user_id}.x-{user_id}.>"), deny("user.{user_id}.x-7.no")], "7")
    assert ruleset.decide("subscribe", "user.7.x-7.yes").allowed
    assert not ruleset.decide("subscribe", "user.7.x-7.no").allowed
    assert not ruleset.decide("subscribe", "user.8.x-8.yes").allowed
    assert not ruleset.decide("subscribe", "user.{user_id}.x-{user_id}.yes").allowed


@given(st.sampled_from(["7", "8", "77", "a-b"]), st.sampled_from(["7", "8", "77", "a-b"]))
def test_parse_rules_default_opens_the_own_space_only(me: str, other: str) -> None:
    ruleset = parse_rules(None, me)
    assert ruleset.decide("subscribe", f"user.{other}.n").allowed is (me == other)
    assert not ruleset.decide("publish", f"user.{me}.n").allowed
    assert not ruleset.decide("request", f"user.{me}.n").allowed
    assert not ruleset.decide("subscribe", "room.1").allowed


def test_parse_rules_empty_list_is_not_the_default() -> None:
    assert not parse_rules([], "7").decide("subscribe", "user.7.n").allowed


@pytest.mark.parametrize("pattern", ["", "a b", "a..b", ">.a", "user.\r\n", "\x00", "$SYS.>"])
@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_rule_set_malformed_pattern_is_refused(pattern: str, effect: Effect) -> None:
    with pytest.raises(BadTopic):
        RuleSet([Rule(effect, "subscribe", pattern)], "7")


def test_require_allowed_returns() -> None:
    RuleSet([allow("room.>")], "7").require("subscribe", "room.1")


@pytest.mark.parametrize("some", [[], [allow("room.>"), deny("room.1")]])
def test_require_denied_raises_and_names_the_topic(some: list[Rule]) -> None:
    with pytest.raises(AclDenied) as caught:
        RuleSet(some, "7").require("subscribe", "room.1")
    assert caught.value.code is ErrorCode.ACL_DENIED
    assert caught.value.topic == "room.1"
    assert "subscribe" in caught.value.message


def test_channel_rules_open_each_way_and_a_deny_beats_them():
    granted = channel_rules(["IN", "both"], ["OUT", "both"])
    ruleset = parse_rules([Rule("deny", "publish", "OUT")], "7", granted)
    allowed = {
        (action, name)
        for action in ACTIONS
        for name in ("IN", "OUT", "both", "IN.x")
        if ruleset.decide(action, name).allowed
    }
    assert allowed == {
        ("subscribe", "IN"),
        ("subscribe", "both"),
        ("request", "OUT"),
        ("publish", "both"),
        ("request", "both"),
    }
