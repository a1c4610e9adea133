"""Attendance: who is on a topic, as it is told: joins at once, leaves after a grace.

Pure: time comes in as an argument, in seconds of any steady clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .messages import Member

MAX_PRESENT = 1000
"""Users of a topic whose joins and leaves are told."""


class Change(NamedTuple):
    """A user came (`joined`) or left."""

    joined: bool
    member: Member


class Attendance:
    """Who is on one topic.

    Args:
        grace: seconds that a user may be away without having left.
    """

    __slots__ = ("_absent", "_grace", "_present")

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._absent: dict[str, float] = {}
        self._present: dict[str, Member] = {}

    def see(
        self, here: Mapping[str, Member], *, now: float, since: float | None = None
    ) -> list[Change]:
        """Take in who is here, and return what is to be told.

        Args:
            since: when those who are not here were seen last; None: just now.
        """
        changes = []
        for user_id, member in here.items():
            self._absent.pop(user_id, None)
            if user_id not in self._present:
                if len(self._present) >= MAX_PRESENT:
                    continue
                changes.append(Change(True, member))
            self._present[user_id] = member
        for user_id in self._present.keys() - here.keys():
            self._absent.setdefault(user_id, now if since is None else since)
        for user_id in [one for one, when in self._absent.items() if now - when >= self._grace]:
            del self._absent[user_id]
            changes.append(Change(False, self._present.pop(user_id)))
        return changes

    @property
    def members(self) -> list[Member]:
        """Who is here, sorted; one who is away for less than the grace has no connections."""
        return [
            Member(user_id, 0, one.info) if user_id in self._absent else one
            for user_id, one in sorted(self._present.items())
        ]


def merged(rosters: Iterable[Mapping[str, Member]]) -> dict[str, Member]:
    """Return the members of several processes as those of one."""
    everyone: dict[str, Member] = {}
    for roster in rosters:
        for user_id, one in roster.items():
            known = everyone.get(user_id)
            connections = one.connections + (known.connections if known else 0)
            everyone[user_id] = Member(user_id, connections, known.info if known else one.info)
    return everyone
