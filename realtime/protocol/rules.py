"""Rules: who may subscribe, publish and request where. Deny beats allow, silence denies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from .exceptions import AclDenied
from .subjects import USER_ID, covers, overlaps, parse_pattern

Effect = Literal["allow", "deny"]
Action = Literal["subscribe", "publish", "request"]
ACTIONS: tuple[Action, ...] = ("subscribe", "publish", "request")


class Rule(msgspec.Struct, frozen=True):
    """One rule as it travels in an auth reply; `topic` is a pattern."""

    effect: Effect
    action: Action
    topic: str


DEFAULT_RULES = (Rule("allow", "subscribe", f"user.{USER_ID}.>"),)
"""What a session may do when the backend sends no rules."""


class Decision(msgspec.Struct, frozen=True):
    """Whether something is allowed, and the rule that says so (None: no rule allows it)."""

    allowed: bool
    rule: Rule | None


class RuleSet:
    """The rules of one session, with its user id filled in.

    Args:
        rules: as the backend sent them.
        user_id: one topic token (`subjects.is_token`), so that it cannot widen a pattern.

    Raises:
        BadTopic: when a pattern is malformed.
    """

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[Rule], user_id: str) -> None:
        self._rules: dict[tuple[Action, Effect], list[tuple[str, Rule]]] = {}
        for rule in rules:
            pattern = parse_pattern(rule.topic).replace(USER_ID, user_id)
            self._rules.setdefault((rule.action, rule.effect), []).append((pattern, rule))

    def decide(self, action: Action, topic: str) -> Decision:
        """Return the decision on `topic`, which may be a pattern, and the rule behind it.

        A deny that touches any part of a pattern denies it; an allow must cover all of it.
        """
        for pattern, rule in self._rules.get((action, "deny"), ()):
            if overlaps(pattern, topic):
                return Decision(False, rule)
        for pattern, rule in self._rules.get((action, "allow"), ()):
            if covers(pattern, topic):
                return Decision(True, rule)
        return Decision(False, None)

    def require(self, action: Action, topic: str) -> None:
        """Return when `action` on `topic` is allowed.

        Raises:
            AclDenied: otherwise.
        """
        if not self.decide(action, topic).allowed:
            raise AclDenied(f"No rule allows '{action}' on '{topic}' for you.", topic=topic)


def parse_rules(rules: Iterable[Rule] | None, user_id: str) -> RuleSet:
    """Return the session's rules, the default ones when the backend sent none (None).

    Raises:
        BadTopic: when a pattern is malformed.
    """
    return RuleSet(DEFAULT_RULES if rules is None else rules, user_id)
