"""Admission: how many connections a process takes, in all, of one address and of one user."""

from __future__ import annotations

from collections import Counter

from .metrics import Metrics


class Admission:
    """Counts the connections of one process. A limit of 0 is none.

    Args:
        total: connections at once.
        per_address: of these, from one address.
        per_user: authenticated sessions of one user.
    """

    def __init__(self, metrics: Metrics, *, total: int, per_address: int, per_user: int) -> None:
        self._metrics = metrics
        self._total = total
        self._per_address = per_address
        self._per_user = per_user
        self._addresses: Counter[str] = Counter()
        self.open = 0

    def enter(self, address: str) -> str | None:
        """Count a connection, or return the name of the limit that refuses it."""
        if self._total and self.open >= self._total:
            return self._refuse("total")
        if self._per_address and self._addresses[address] >= self._per_address:
            return self._refuse("address")
        self.open += 1
        self._addresses[address] += 1
        return None

    def leave(self, address: str) -> None:
        """Count a connection no more; pair with an `enter` that refused nothing."""
        self.open -= 1
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def room_for(self, sessions: int) -> bool:
        """Say whether a user who has that many sessions may have one more."""
        if self._per_user and sessions >= self._per_user:
            self._refuse("user")
            return False
        return True

    def _refuse(self, limit: str) -> str:
        self._metrics.refused[limit] += 1
        return limit
