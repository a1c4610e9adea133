"""nats-py's client, with messages handed over in its read loop.

No queue and no task per subscription, so ten thousand topics cost ten thousand dictionary
entries. The price is one private hook of the pinned nats-py, `Client._process_msg`.
Handlers therefore must not wait for the network; what takes long becomes a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct
from nats import errors
from nats.aio.client import Client, _validate_subject

logger = logging.getLogger(__name__)


class Message(Struct, frozen=True):
    """One message from NATS; `status` is 0 unless the server says one (204, 404, 503, …)."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    reply: str
    status: int


Handler = Callable[[Message], Awaitable[None]]


def parse_headers(raw: bytes) -> tuple[int, dict[str, str]]:
    """Return status and headers of a NATS header block (NATS ADR-4); status 0: none."""
    headers: dict[str, str] = {}
    if not raw:
        return 0, headers
    lines = raw.decode("utf-8", "replace").split("\r\n")
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if separator:
            headers[name] = value.strip()
    status = lines[0][9:12]
    return (int(status) if status.isdigit() else 0), headers


class Subscription:
    """A subscription that outlives the client connection it was made on.

    It stands in nats-py's own table, in place of a nats-py Subscription, each of which brings a
    queue, a future and an iterator: 4 KB.
    """

    __slots__ = ("handler", "queue", "sid", "subject")

    # What nats-py reads of an entry when it reconnects or closes.
    _max_msgs = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    def __init__(self, subject: str, queue: str, handler: Handler) -> None:
        self.subject = subject
        self.queue = queue
        self.handler = handler
        self.sid = 0

    @property
    def _subject(self) -> str:
        return self.subject

    @property
    def _queue(self) -> str:
        return self.queue

    @property
    def _id(self) -> int:
        return self.sid


class DirectClient(Client):  # type: ignore[misc]
    """nats-py's client, handing messages of direct subscriptions to their handler at once."""

    async def subscribe_direct(self, subscription: Subscription) -> None:
        """Subscribe, with the handler in place before the first message can arrive."""
        _validate_subject(subscription.subject, strict=True)
        if self.is_closed:
            raise errors.ConnectionClosedError
        self._sid += 1
        subscription.sid = self._sid
        self._subs[self._sid] = subscription
        await self._send_subscribe(subscription)

    async def unsubscribe_direct(self, sid: int) -> None:
        """Stop a direct subscription."""
        if self._subs.pop(sid, None) is not None and not self.is_reconnecting:
            await self._send_unsubscribe(sid)

    async def _attempt_reconnect(self) -> None:
        # A close would wait for its buffer to drain, which a black hole never lets happen.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._attempt_reconnect()

    async def _process_pong(self) -> None:
        # A flush that was given up leaves its future behind; to set that would raise, and end
        # nats-py's read loop.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        subscription = self._subs.get(sid)
        if type(subscription) is not Subscription:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            status, parsed = parse_headers(headers)
            await subscription.handler(
                Message(subject.decode(), bytes(data), parsed, reply.decode(), status)
            )
        except Exception:
            # An exception here would end nats-py's read loop, and with it the connection.
            logger.exception("handler failed subject=%s", subject.decode("utf-8", "replace"))
