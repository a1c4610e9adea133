"""Access: what the rules say about a user, and which one says it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from realtime.conf import settings
from realtime.protocol import rules
from realtime.protocol.rules import Rule, RuleSet
from realtime.protocol.subjects import STATS, is_local

from .models import AccessRule

if TYPE_CHECKING:
    from django.contrib.auth.models import User

STATS_PERMISSION = "realtime.view_stats"
STATS_RULE = Rule("allow", "subscribe", f"{STATS}.>")
"""Opens what the processes tell of themselves, connections included."""


class AccessAnswer(Struct, frozen=True):
    """The answer to "may they?".

    Attributes:
        rule: the rule that decides; None when no rule does (an event channel needs none), or
            when the user is inactive.
        concerned: every enabled rule for the user.
    """

    allowed: bool
    active: bool
    rule: AccessRule | None
    concerned: list[AccessRule]


def check_access(user: User, action: rules.Action, topic: str) -> AccessAnswer:
    """Return whether `user` may do `action` on `topic`, as the gateway would decide it.

    Raises:
        BadTopic: when the topic is malformed or not open to clients, or a stored rule is.
    """
    settings.require_topic(action, topic)
    concerned = list(AccessRule.objects.for_user(user))
    pairs = [(stored.as_rule(), stored) for stored in concerned]
    every = (*(rule for rule, _ in pairs), *settings.channel_rules())
    decision = RuleSet(every, str(user.pk)).decide(action, topic)
    if not user.is_active:
        return AccessAnswer(False, False, None, concerned)
    decisive = next((stored for rule, stored in pairs if rule == decision.rule), None)
    return AccessAnswer(decision.allowed, True, decisive, concerned)


def may_watch(user: User) -> bool:
    """Say whether a user may see the live page: staff with the permission `view_stats`."""
    return user.is_staff and user.has_perm(STATS_PERMISSION)


def rules_for(user: User, stored: Iterable[AccessRule]) -> list[Rule]:
    """Return the rules of a user: the stored ones, and what a permission of Django's opens.

    A stored rule opens nothing of what the processes tell of themselves.
    """
    found = [one.as_rule() for one in stored]
    allowed = [one for one in found if one.effect == "deny" or not is_local(one.topic)]
    return [*allowed, STATS_RULE] if may_watch(user) else allowed
