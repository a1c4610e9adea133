"""Watchers: the sockets that asked for joins and leaves, and what they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .delivery import Socket
from .protocol.attendance import Attendance, Change
from .protocol.gateway_frames import PresenceChange, Present, encode_frame
from .protocol.messages import Member


class Watcher:
    """One socket's way to be told; a suspended session is told later.

    Attributes:
        topics: those of which it is told.
    """

    __slots__ = ("_held", "_socket", "topics")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._held: dict[str, dict[str, Change]] | None = None
        self.topics: set[str] = set()

    def tell(self, topic: str, changes: Iterable[Change], text: bytes) -> None:
        """Write changes, given as a frame's text too, or keep the last one of each user."""
        if self._held is None:
            self._socket.write_text(text)
        else:
            kept = self._held.setdefault(topic, {})
            kept.update((change.member.user_id, change) for change in changes)

    def pause(self) -> None:
        """Write nothing until `go_on`."""
        if self._held is None:
            self._held = {}

    def go_on(self) -> None:
        """Write what happened meanwhile."""
        held, self._held = self._held or {}, None
        for topic, changes in held.items():
            if topic in self.topics:
                self._socket.write_text(encode_changes(topic, changes.values()))


class Audience:
    """The sockets that watch one topic, and who is on it as they were told.

    Args:
        settled: loop time until which nobody joins: processes still tell who is there.
    """

    __slots__ = ("attendance", "settled", "topic", "watchers")

    def __init__(self, topic: str, attendance: Attendance, settled: float) -> None:
        self.topic = topic
        self.attendance = attendance
        self.settled = settled
        self.watchers: set[Watcher] = set()

    def see(self, here: Mapping[str, Member], *, now: float, since: float | None = None) -> None:
        """Tell every socket the difference to who was here before, encoded once.

        Args:
            since: when those who are not here were seen last; None: just now.
        """
        changes = self.attendance.see(here, now=now, since=since)
        if changes and now >= self.settled:
            text = encode_changes(self.topic, changes)
            for watcher in tuple(self.watchers):
                watcher.tell(self.topic, changes, text)


def encode_changes(topic: str, changes: Iterable[Change]) -> bytes:
    """Return the text of the frame that tells changes."""
    joined, left = [], []
    for change in changes:
        if change.joined:
            joined.append(Present(change.member.user_id, change.member.info))
        else:
            left.append(change.member.user_id)
    return encode_frame(PresenceChange(topic=topic, joined=joined, left=left))
