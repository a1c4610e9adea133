"""Rules: who may subscribe, publish and request where. Deny beats allow, silence denies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from .exceptions import AclDenied
from .subjects import (
    USER_ID,
    covers_tokens,
    is_local,
    is_pattern,
    overlap_tokens,
    parse_pattern,
)

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


Patterns = dict[tuple[Action, Effect], list[tuple[Sequence[str], Rule]]]
"""Split patterns, `{user_id}` not yet filled in, with the rule that each is of."""


class RuleSet:
    """The rules of one session, with its user id filled in.

    Sessions with the same rules share them: two hundred rules take 40 KB.

    Args:
        rules: as the backend sent them.
        user_id: one topic token (`subjects.is_token`), so that it cannot widen a pattern.

    Raises:
        BadTopic: when a pattern is malformed.
    """

    __slots__ = ("_patterns", "_user_id")

    def __init__(self, rules: Iterable[Rule], user_id: str) -> None:
        self._patterns = _patterns_of(tuple(rules))
        self._user_id = user_id

    def decide(self, action: Action, topic: str) -> Decision:
        """Return the decision on `topic`, which may be a pattern, and the rule behind it.

        A deny that touches any part of a pattern denies it; an allow must cover all of it. What
        the processes tell of themselves is opened by no wildcard in the first place.
        """
        wanted = topic.split(".")
        denying = next(self._matching(action, "deny", overlap_tokens, wanted), None)
        if denying is not None:
            return Decision(False, denying)
        allowing = next(
            (
                rule
                for rule in self._matching(action, "allow", covers_tokens, wanted)
                if is_local(rule.topic) or not is_local(topic)
            ),
            None,
        )
        return Decision(allowing is not None, allowing)

    def require(self, action: Action, topic: str) -> None:
        """Return when `action` on `topic` is allowed.

        Raises:
            AclDenied: otherwise.
        """
        if not self.decide(action, topic).allowed:
            what = f"all of '{topic}'" if is_pattern(topic) else f"'{topic}'"
            raise AclDenied(f"No rule allows '{action}' on {what} for you.", topic=topic)

    def _matching(
        self,
        action: Action,
        effect: Effect,
        matches: Callable[[Sequence[str], Sequence[str]], bool],
        wanted: Sequence[str],
    ) -> Iterator[Rule]:
        for tokens, rule in self._patterns.get((action, effect), ()):
            mine = tokens
            if USER_ID in rule.topic:
                mine = [token.replace(USER_ID, self._user_id) for token in tokens]
            if matches(mine, wanted):
                yield rule


@lru_cache(maxsize=256)
def _patterns_of(rules: tuple[Rule, ...]) -> Patterns:
    patterns: Patterns = {}
    for rule in rules:
        tokens = parse_pattern(rule.topic).split(".")
        patterns.setdefault((rule.action, rule.effect), []).append((tokens, rule))
    return patterns


def channel_rules(inbound: Iterable[str], outbound: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that open event channels to every session; a deny still beats them."""
    return (
        *(Rule("allow", "subscribe", name) for name in inbound),
        *(Rule("allow", action, name) for name in outbound for action in ("publish", "request")),
    )


def parse_rules(
    rules: Iterable[Rule] | None, user_id: str, granted: Iterable[Rule] = ()
) -> RuleSet:
    """Return the session's rules, the default ones when the backend sent none (None).

    Args:
        granted: what every session may do besides.

    Raises:
        BadTopic: when a pattern is malformed.
    """
    return RuleSet((*(DEFAULT_RULES if rules is None else rules), *granted), user_id)
