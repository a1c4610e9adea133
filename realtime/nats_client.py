"""nats-py's client, with messages handed over in its read loop.

No queue and no task per subscription, so ten thousand topics cost ten thousand dictionary
entries. The price is one private hook of the pinned nats-py, `Client._process_msg`.
Handlers therefore must not wait for the network; what takes long becomes a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nats import errors
from nats.aio.client import Client, _validate_subject
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

logger = logging.getLogger(__name__)

SHORT_WAY = 64 * 1024
"""Bytes of a message that is put together here while the rest of it is read; nats-py's parser takes
what is larger, for to begin anew with each piece would copy it again and again."""
_HMSG = re.compile(rb"HMSG ([^ \r\n]+) (\d+) (\d+) (\d+)\r\n").match


class Message:
    """One message from NATS; headers are read when they are asked for.

    Attributes:
        head: the header block as it came.
    """

    __slots__ = ("_parsed", "data", "head", "reply", "subject")

    def __init__(self, subject: str, data: bytes, head: bytes = b"", reply: str = "") -> None:
        self.subject = subject
        self.data = data
        self.head = head
        self.reply = reply
        self._parsed: tuple[int, dict[str, str]] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; of one that comes twice the last value."""
        return self._parse()[1]

    @property
    def status(self) -> int:
        """What the server says (204, 404, 503, …); 0 where it says nothing."""
        return self._parse()[0]

    def _parse(self) -> tuple[int, dict[str, str]]:
        if self._parsed is None:
            self._parsed = parse_headers(self.head)
        return self._parsed


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


class DirectParser(Parser):  # type: ignore[misc]
    """nats-py's parser, with a short way for whole messages that carry headers.

    It keeps what it reads in a bytearray and cuts each piece off its front. Most of what comes
    here are republished events, many in one read: they are taken from the bytes as they are.
    """

    async def parse(self, data: bytes = b"") -> None:
        """Parse what was read, and hand over the messages in it."""
        if self.state != AWAITING_CONTROL_LINE:
            # The rest of a message that nats-py has begun with.
            await super().parse(data)
            return
        if self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        at, size = 0, len(data)
        while (found := _HMSG(data, at)) is not None:
            subject, sid, head, total = found.groups()
            begin = found.end()
            middle, end = begin + int(head), begin + int(total)
            if end + 2 > size:
                break
            at = end + 2
            await self.nc._process_msg(int(sid), subject, b"", data[middle:end], data[begin:middle])
        rest = data[at:]
        if found is not None and end - at <= SHORT_WAY:
            self.buf.extend(rest)
        elif rest:
            await super().parse(rest)


class NoTls(errors.Error):  # type: ignore[misc]
    """A server whose address is `tls://` does not ask for encryption."""

    def __str__(self) -> str:
        return (
            f"{self.args[0]} does not ask for TLS: give it a `tls` block, or write nats:// instead"
        )


class DirectClient(Client):  # type: ignore[misc]
    """nats-py's client, handing messages of direct subscriptions to their handler at once."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = DirectParser(self)
        self._ended = False

    async def close(self) -> None:
        """Close for good, whatever is under way."""
        self._ended = True
        await super().close()

    async def flush(self, timeout: float = 5.0) -> None:
        """Return when the server has answered a PING sent now.

        nats-py waits by `wait_for`, which loses a cancellation that comes with the answer (see
        `broker._in_time`): a task that flushes again and again would then never end.

        Raises:
            TimeoutError: when it does not within `timeout` seconds.
        """
        if self.is_closed:
            raise errors.ConnectionClosedError
        answered = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(timeout):
            await self._send_ping(answered)
            await answered

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

    async def _connect_to_server(self, server: Any) -> None:
        # A reconnect can lose the cancellation by which `close` ends it (see broker._in_time),
        # and would go on for ever.
        if self._ended:
            raise asyncio.CancelledError
        await super()._connect_to_server(server)

    async def _attempt_reconnect(self) -> None:
        # A close would wait for its buffer to drain, which a black hole never lets happen.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._attempt_reconnect()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py encrypts where the server asks for it, whatever the address says; what follows
        # are the credentials.
        server = self._current_server
        if initial_connection and server.uri.scheme == "tls" and not info.get("tls_required"):
            raise NoTls(server.uri.hostname)
        await super()._process_info(info, initial_connection)

    async def _process_pong(self) -> None:
        # A flush that was given up leaves its future behind; to set that would raise, and end
        # nats-py's read loop.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        subscription = self._subs.get(sid)
        if type(subscription) is not Subscription:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            await subscription.handler(
                Message(subject.decode(), data, headers or b"", reply.decode())
            )
        except Exception:
            # An exception here would end nats-py's read loop, and with it the connection.
            logger.exception("handler failed subject=%s", subject.decode("utf-8", "replace"))
