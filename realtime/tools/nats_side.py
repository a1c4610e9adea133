"""The side of the backends: NATS."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from realtime.client import Message
from realtime.nats_client import Message as NatsMessage
from realtime.protocol.exceptions import RequestTimeout, Unavailable
from realtime.protocol.messages import MESSAGE_ID, MSG_ID, SEQUENCE, TIME_STAMP, unix_ms
from realtime.protocol.subjects import covers

from .nats_connection import NatsConnection
from .nats_stream import StreamReader
from .outcome import UsageError
from .payloads import decode_payload, encode_payload
from .scenario import Step

logger = logging.getLogger(__name__)

_TOKEN = re.compile(r"[^\s.*>]+")

QUEUE = 10_000
"""Messages that may wait to be printed; beyond it the newest are dropped, as core NATS does."""
POLL = 1.0
"""Seconds between two looks at the stream, when nothing says that it has grown."""


@dataclass(frozen=True)
class Backend:
    """What a backend knows.

    Attributes:
        stream: the JetStream stream, which `since` reads.
        durable: patterns that it stores; a publish there is confirmed by it.
        inbox_prefix: where replies come in.
    """

    stream: str
    durable: tuple[str, ...]
    inbox_prefix: str


class NatsSide(NatsConnection):
    """A NATS client that stands where a backend does.

    Args:
        timeout: seconds for confirmations and replies.
        wait: entering fails when NATS cannot be reached within the timeout.
    """

    def __init__(self, url: str, backend: Backend, *, timeout: float, wait: bool) -> None:
        super().__init__(url, inbox_prefix=backend.inbox_prefix, timeout=timeout, wait=wait)
        self._stream = backend.stream
        self._durable = backend.durable

    async def messages(
        self, topics: Sequence[str], since: int | None, epoch: str | None
    ) -> AsyncIterator[Message]:
        """Yield what is published on subjects; with `since`, what the stream holds after it too.

        Without `since` these are core NATS subscriptions: what passes while the connection is
        away is gone. With it every message is read from the stream, in order and once.

        Raises:
            UsageError: `since` with several topics, or a topic that is no subject.
            ToolError: NATS refuses the credentials or, without `since`, a subscription.
            Unavailable: the connection is gone for good.
        """
        for topic in topics:
            _require_subject(topic, pattern=True)
        if since is None:
            async for arrived in self._core(topics):
                yield _message_from(arrived)
            return
        if len(topics) > 1:
            raise UsageError("--since on the NATS side takes one topic (it may be a pattern).")
        async for arrived in self._stored(topics[0], since, epoch):
            yield _message_from(arrived)

    async def answered(self, topics: Sequence[str], reply: Any | None) -> AsyncIterator[Message]:
        """Yield requests, each answered with `reply`, or with what it brought.

        Raises:
            UsageError: a topic is no subject.
            ToolError: NATS refuses the credentials or a subscription.
            Unavailable: the connection is gone for good.
        """
        for topic in topics:
            _require_subject(topic, pattern=True)
        async for message in self._core(topics):
            if message.reply:
                data = message.data if reply is None else encode_payload(reply)
                try:
                    await self.broker.publish(message.reply, data)
                except Unavailable as exc:
                    logger.warning("not answered topic=%s reason=%s", message.subject, exc)
            else:
                logger.warning("no request, not answered topic=%s", message.subject)
            yield _message_from(message)

    def check(self, step: Step) -> None:
        """Return when a message can be sent on NATS.

        Raises:
            UsageError: when its topic is no subject.
        """
        _require_subject(step.topic, pattern=False)

    async def publish(self, step: Step) -> str:
        """Publish, and return in words what became of it.

        Raises:
            ToolError: when NATS does not allow it.
            Unavailable: when the stream, or NATS, does not confirm it in time.
        """
        headers = None
        if step.message_id is not None:
            headers = {MSG_ID: step.message_id, MESSAGE_ID: step.message_id}
        data = encode_payload(step.payload)
        if any(covers(pattern, step.topic) for pattern in self._durable):
            try:
                stored = await self.broker.store(
                    step.topic, data, headers=headers, timeout=self.timeout
                )
            except Unavailable as exc:
                self.require_allowed("publish", step.topic, exc)
                raise
            return f"seq={stored.sequence}{' (stored before)' if stored.duplicate else ''}"
        await self.broker.publish(step.topic, data, headers=headers)
        await self.broker.flush(self.timeout)
        self.require_allowed("publish", step.topic, None)
        return "handed on"

    async def request(self, step: Step) -> Any:
        """Ask a backend.

        Raises:
            ToolError: when NATS does not allow it.
            NoResponder, RequestTimeout, Unavailable: as they say.
        """
        data = encode_payload(step.payload)
        try:
            message = await self.broker.request(step.topic, data, timeout=self.timeout)
        except RequestTimeout as exc:
            self.require_allowed("publish", step.topic, exc)
            raise
        return decode_payload(message.data)

    async def _core(self, topics: Sequence[str]) -> AsyncIterator[NatsMessage]:
        """Yield what is published on subjects from now on."""
        arrived: deque[NatsMessage] = deque()
        dropped = 0

        async def take(message: NatsMessage) -> None:
            nonlocal dropped
            if len(arrived) < QUEUE:
                arrived.append(message)
            else:
                dropped += 1
            self.tell()

        subscriptions = [await self.broker.subscribe(topic, take) for topic in topics]
        try:
            while True:
                while arrived:
                    yield arrived.popleft()
                if dropped:
                    logger.warning("messages came faster than they were taken dropped=%d", dropped)
                    dropped = 0
                for topic in topics:
                    self.require_allowed("subscription", topic, None)
                await self.next_news()
        finally:
            for subscription in subscriptions:
                await self.broker.unsubscribe(subscription)

    async def _stored(
        self, topic: str, since: int, epoch: str | None
    ) -> AsyncIterator[NatsMessage]:
        """Yield what the stream holds of a topic after a sequence, and what it stores later."""
        await self.connected()
        reader = StreamReader(
            self.broker, self._stream, topic, since=since, epoch=epoch, timeout=self.timeout
        )
        waking = await self.broker.subscribe(topic, self._wake)
        complain = _once_in_a_while()
        try:
            while True:
                page: list[NatsMessage] = []
                try:
                    page = await reader.page()
                except Unavailable as exc:
                    complain(exc)
                for message in page:
                    yield message
                if not page:
                    await self._growth()
        finally:
            await self.broker.unsubscribe(waking)

    async def _growth(self) -> None:
        """Return when the topic may have grown."""
        try:
            async with asyncio.timeout(POLL):
                await self.next_news()
        except TimeoutError:
            return

    async def _wake(self, message: NatsMessage) -> None:
        self.tell()


def _require_subject(topic: str, *, pattern: bool) -> None:
    tokens = topic.split(".")
    if pattern:
        tokens = [token for token in tokens[:-1] if token != "*"] + [
            token for token in tokens[-1:] if token not in ("*", ">")
        ]
    if not topic or not all(_TOKEN.fullmatch(token) for token in tokens):
        wild = ", '*' for one of them, '>' for the rest" if pattern else ""
        raise UsageError(
            f"{topic!r} is no subject of NATS: write words without spaces, joined by dots{wild}."
        )


def _message_from(message: NatsMessage) -> Message:
    """Return a message of NATS as clients see it."""
    headers = message.headers
    sequence = int(headers[SEQUENCE]) if SEQUENCE in headers else None
    stamp = headers.get(TIME_STAMP)
    return Message(
        topic=headers.get("Nats-Subject", message.subject),
        data=decode_payload(message.data),
        message_id=headers.get(MESSAGE_ID) or headers.get(MSG_ID) or str(sequence or ""),
        ts=int(time.time() * 1000) if stamp is None else unix_ms(stamp),
        seq_no=sequence,
    )


def _once_in_a_while(seconds: float = 5.0) -> Callable[[Exception], None]:
    """Return a function that logs what keeps failing, now and then."""
    last = -seconds

    def complain(exc: Exception) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            logger.warning("stream not readable, trying again reason=%s", exc)

    return complain
