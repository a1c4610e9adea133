"""Holders: the sessions of this process that hold a topic, found by the topic."""

from __future__ import annotations

from collections.abc import Iterable

from .protocol.session import Session


class Holders:
    """Sessions by topic, in the order in which they came."""

    __slots__ = ("_sessions",)

    def __init__(self) -> None:
        self._sessions: dict[str, dict[Session, None]] = {}

    def add(self, topic: str, session: Session) -> None:
        """Note that a session holds a topic."""
        self._sessions.setdefault(topic, {})[session] = None

    def discard(self, topic: str, session: Session) -> None:
        """Note that it does not."""
        sessions = self._sessions.get(topic)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._sessions[topic]

    def of(self, topic: str) -> Iterable[Session]:
        """Return the sessions that hold a topic."""
        return self._sessions.get(topic, ())
