"""A broker in memory: what `notify` and `publish` send, for unit tests without a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from ..protocol.exceptions import Unavailable
from ..protocol.jetstream import Stored
from ..protocol.messages import MESSAGE_ID, MSG_ID
from ..publish import notifications_of


class Sent(Struct, frozen=True):
    """One event that was published, or that a transaction wrote to the outbox."""

    topic: str
    payload: bytes
    message_id: str | None = None

    @property
    def data(self) -> Any:
        """The payload as JSON."""
        return msgspec.json.decode(self.payload)


class MemoryBroker:
    """Keeps what is sent instead of sending it; a message id is stored once, as by the stream.

    It holds no stream that could be read: `latest` raises Unavailable, and the template tag
    `realtime_latest` gives None.

    Args:
        queued: returns what waits in the outbox.
    """

    def __init__(self, queued: Callable[[], list[Sent]] = list) -> None:
        self._sent: list[Sent] = []
        self._queued = queued

    @property
    def sent(self) -> list[Sent]:
        """Everything that was sent, then what waits in the outbox; oldest first."""
        return self._sent + self._queued()

    def sent_on(self, topic: str) -> list[Any]:
        """Return the data of what was sent on a topic, oldest first."""
        return [one.data for one in self.sent if one.topic == topic]

    def assert_published(self, topic: str, data: Any) -> None:
        """Require that `data` (as it becomes JSON) was published on a topic.

        Raises:
            AssertionError: with what was sent instead.
        """
        if data not in self.sent_on(topic):
            raise AssertionError(f"{data!r} was not published on {topic}; {self._told()}")

    def assert_notified(self, user_id: int | str, data: Any) -> None:
        """Require that a user was sent `data` as a notification."""
        self.assert_published(notifications_of(user_id), data)

    def assert_nothing_sent(self) -> None:
        """Require that nothing was sent."""
        if self.sent:
            raise AssertionError(f"something was sent; {self._told()}")

    def _told(self) -> str:
        lines = "".join(f"\n  {one.topic}: {one.payload!r}" for one in self.sent)
        return f"all that was sent:{lines or ' nothing'}"

    # What realtime.link uses of a broker.

    async def store(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None, timeout: float
    ) -> Stored:
        """Keep an event; its number is its sequence."""
        message_id = headers.get(MSG_ID) if headers else None
        for number, one in enumerate(self._sent, 1):
            if message_id is not None and one.message_id == message_id:
                return Stored(number, duplicate=True)
        self._sent.append(Sent(subject, data, message_id))
        return Stored(len(self._sent))

    async def publish(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Keep an event that no stream would."""
        self._sent.append(Sent(subject, data, headers.get(MESSAGE_ID) if headers else None))

    async def flush(self, timeout: float = 5.0) -> None:
        """Do nothing: nothing is on its way."""

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    async def stream_info(self, stream: str, *, timeout: float) -> NoReturn:
        """Say that there is no stream to be read."""
        raise Unavailable("The broker in memory has no stream: use the fixture nats_server.")

    async def ensure_stream(self, config: Mapping[str, Any], *, timeout: float) -> NoReturn:
        """Say that there is no stream to be made."""
        await self.stream_info(config["name"], timeout=timeout)
