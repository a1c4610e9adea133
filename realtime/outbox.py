"""The outbox: events that go out if, and only if, the transaction that wrote them commits.

A row's `message_id` is its `Nats-Msg-Id`, so a relay that dies between publishing and deleting
publishes again and the stream stores it once (within DEDUP_WINDOW). That also makes several
relays harmless: each publishes a topic's rows in order and waits for every confirmation.
On an ephemeral topic there is no stream that would know a repeat: a relay that dies, or two
relays, may send such a row twice, with one `messageId`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from . import tracing
from .broker import Broker
from .conf import settings
from .models import OutboxMessage, new_message_id
from .protocol.exceptions import GatewayError
from .publish import send

logger = logging.getLogger(__name__)

BATCH = 500
"""Rows read at once."""
MIN_WAIT = 0.1
MAX_WAIT = 5.0
"""Pauses in seconds while the stream does not take a topic's events."""
MAX_HELD = 500
"""Topics left out of a read because they wait."""

Row = tuple[int, str, str, bytes, str]
"""Primary key, message id, topic, payload, trace context."""


def enqueue(topic: str, payload: bytes, message_id: str | None) -> str:
    """Write an event to the outbox; it is published when the transaction has committed.

    Returns:
        The `messageId` it will be published with.
    """
    message_id = message_id or new_message_id()
    OutboxMessage.objects.create(
        message_id=message_id, topic=topic, payload=payload, traceparent=tracing.current()
    )
    return message_id


class OutboxRelay:
    """Publishes the outbox, in order per topic, until stopped.

    Args:
        broker: connects by itself; rows wait as long as NATS is away.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._stuck: dict[str, tuple[float, float]] = {}
        self.published = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until `stopping` is set, then finish the batch at hand."""
        await _either(self._broker.connect_forever(), stopping)
        if not stopping.is_set():
            logger.info("outbox relay ready, polling every=%.2fs", settings.OUTBOX_POLL_SECONDS)
        while not stopping.is_set():
            wait = settings.OUTBOX_POLL_SECONDS
            try:
                if self._broker.connected and await self._relay_batch():
                    wait = 0.0
            except Exception:
                # The database may be away, or not migrated yet.
                wait = MAX_WAIT
                logger.exception("outbox cannot be read, trying again in=%.1fs", wait)
            await _either(asyncio.sleep(wait), stopping)
        await self._broker.close()
        logger.info("outbox relay stopped published=%d", self.published)

    async def _relay_batch(self) -> bool:
        """Publish what is there; say whether there may be more."""
        now = asyncio.get_running_loop().time()
        held = [topic for topic, (due, _) in self._stuck.items() if due > now]
        rows = await sync_to_async(_read, thread_sensitive=False)(held[:MAX_HELD])
        topics: dict[str, list[Row]] = {}
        for row in rows:
            topics.setdefault(row[2], []).append(row)
        results = await asyncio.gather(*map(self._relay_topic, topics.values()))
        published = [key for keys, _ in results for key in keys]
        if published:
            await sync_to_async(_delete, thread_sensitive=False)(published)
            self.published += len(published)
        for topic, (_, failure) in zip(topics, results, strict=True):
            self._note(topic, failure)
        return len(rows) == BATCH

    def _note(self, topic: str, failure: GatewayError | None) -> None:
        """Let a topic that the stream does not take wait, so that it holds up no other."""
        if failure is None:
            self._stuck.pop(topic, None)
            return
        _, before = self._stuck.get(topic, (0.0, MIN_WAIT))
        wait = min(before * 2, MAX_WAIT)
        self._stuck[topic] = asyncio.get_running_loop().time() + wait, wait
        logger.warning("outbox topic=%s waits=%.1fs reason=%s", topic, wait, failure)

    async def _relay_topic(self, rows: Iterable[Row]) -> tuple[list[int], GatewayError | None]:
        """Publish rows of one topic in order; return those confirmed, and what stopped it."""
        confirmed: list[int] = []
        for key, message_id, topic, payload, traceparent in rows:
            try:
                with tracing.continuing(traceparent):
                    await send(self._broker, topic, payload, message_id)
            except GatewayError as exc:
                return confirmed, exc
            confirmed.append(key)
        return confirmed, None


def _read(held: list[str]) -> list[Row]:
    close_old_connections()
    waiting = OutboxMessage.objects.exclude(topic__in=held)
    rows = waiting.values_list("pk", "message_id", "topic", "payload", "traceparent")[:BATCH]
    return [(pk, name, topic, bytes(payload), trace) for pk, name, topic, payload, trace in rows]


def _delete(keys: list[int]) -> None:
    OutboxMessage.objects.filter(pk__in=keys).delete()


async def _either(work: object, stopping: asyncio.Event) -> None:
    """Return when `work` is done or `stopping` is set, whichever is first."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
