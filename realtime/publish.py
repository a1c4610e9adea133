"""Publishing from the backend: `notify` and `publish`, for views, tasks and scripts.

Outside a database transaction both wait for JetStream's confirmation. Inside one they write a
row to the outbox (outbox.py), so that an event goes out if, and only if, the transaction
commits. `latest` reads what a page shows before its socket is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from msgspec import Struct

from . import link, tracing
from .bridge import is_durable
from .broker import Broker
from .conf import settings
from .parts import make_history
from .protocol.exceptions import BadTopic, TooLarge
from .protocol.jetstream import Stored
from .protocol.messages import MESSAGE_ID, MSG_ID
from .protocol.subjects import is_token, parse_topic

_encode = DjangoJSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


LATEST_TIMEOUT = 1.0
"""Seconds that a page waits for its latest events before it is shown without them."""
LATEST_BYTES = 128 * 1024
"""Text of the events that a page brings. The rest comes by its socket."""


class Queued(Struct, frozen=True):
    """The event goes out when the transaction commits; `message_id` names it."""

    message_id: str


class Latest(Struct, frozen=True):
    """The last events of a topic, newest last, and the position they end at.

    Attributes:
        events: the `message` frames as dicts, of LATEST_BYTES together at most.
        position: subscribe with `since` this, and nothing is missed or shown twice.
        cut: events before these were left out for their size; `history` has them.
    """

    events: list[dict[str, Any]]
    position: int
    epoch: str
    cut: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it for `json_script`."""
        return msgspec.structs.asdict(self)


def notify(user_id: int | str, data: Any, *, message_id: str | None = None) -> Stored | Queued:
    """Send a notification to one user: `publish` on `user.<id>.notifications`.

    Raises:
        BadTopic: when the id is not one token of letters, digits, '-' and '_'.
        TooLarge: when the data is over MAX_PAYLOAD_BYTES.
        Unavailable: when the stream did not confirm it; try again with the same `message_id`.
    """
    return publish(notifications_of(user_id), data, message_id=message_id)


async def anotify(user_id: int | str, data: Any, *, message_id: str | None = None) -> Stored:
    """Do what `notify` does, from async code; always at once, Django's transactions are sync."""
    return await apublish(notifications_of(user_id), data, message_id=message_id)


def publish(topic: str, data: Any, *, message_id: str | None = None) -> Stored | Queued:
    """Publish an event on a topic.

    Args:
        topic: a topic, or an inbound event channel, that clients can subscribe to.
        data: anything that becomes JSON (dates, UUIDs and decimals as Django writes them);
            bytes are sent as they are.
        message_id: the same id within DEDUP_WINDOW is stored once. An ephemeral topic is not
            stored, so nothing there is held back as a repeat: from the outbox an event may come
            twice, with one `messageId`.

    Returns:
        Stored: the event's sequence (0 on an ephemeral topic), and whether it was stored
        before. Queued: written to the outbox, inside a transaction.

    Raises:
        BadTopic: when the topic is malformed.
        TooLarge: when the data is over MAX_PAYLOAD_BYTES.
        Unavailable: when the stream did not confirm it; try again with the same `message_id`.
    """
    payload = encode(topic, data)
    if settings.OUTBOX and transaction.get_connection().in_atomic_block:
        from .outbox import enqueue

        return Queued(enqueue(topic, payload, message_id))
    return link.run(lambda broker: send(broker, topic, payload, message_id))


async def apublish(topic: str, data: Any, *, message_id: str | None = None) -> Stored:
    """Do what `publish` does, from async code; always at once."""
    payload = encode(topic, data)
    return await link.arun(lambda broker: send(broker, topic, payload, message_id))


def latest(topic: str, limit: int = 20) -> Latest:
    """Return the last events of a topic and the position they end at.

    Raises:
        BadTopic: when the topic is malformed.
        Unavailable: when the stream does not answer.
    """
    parse_topic(topic, settings.OPEN_TOPICS)
    return link.run(lambda broker: latest_with(broker, topic, limit), timeout=LATEST_TIMEOUT)


async def latest_with(broker: Broker, topic: str, limit: int) -> Latest:
    """Do what `latest` does, with a broker at hand and a topic known to be well formed."""
    history = make_history(broker)
    await history.info()
    events = await history.latest(topic, limit, None)
    if not events:
        return Latest([], await history.top(topic), history.epoch)
    start, end = _fitting([len(one.text) for one in events], LATEST_BYTES)
    position = events[end - 1].sequence if end else events[0].sequence - 1
    shown = [msgspec.json.decode(one.text) for one in events[start:end]]
    return Latest(shown, position, history.epoch, cut=start > 0)


def _fitting(sizes: Sequence[int], room: int) -> tuple[int, int]:
    """Return from where to where events go into a page: the newest that fit, in one piece.

    Those behind are too long by themselves. The page goes on before them, so that they come by
    its socket.
    """
    end = len(sizes)
    while end and sizes[end - 1] > room:
        end -= 1
    start = end
    while start and sizes[start - 1] <= room:
        start -= 1
        room -= sizes[start]
    return start, end


def notifications_of(user_id: int | str) -> str:
    """Return the topic of a user's notifications.

    Raises:
        BadTopic: when the id is not one token.
    """
    token = str(user_id)
    if not is_token(token):
        raise BadTopic(f"A user id is letters, digits, '-' and '_'; {token!r} is not.")
    return f"user.{token}.notifications"


def encode(topic: str, data: Any) -> bytes:
    """Return the payload of an event for `topic`.

    Raises:
        BadTopic: when the topic is malformed.
        TooLarge: when it is over MAX_PAYLOAD_BYTES.
        TypeError, ValueError: when the data is no JSON, as NaN is not.
    """
    settings.require_topic("subscribe", topic)
    payload = data if isinstance(data, bytes) else _encode(data).encode()
    if len(payload) > settings.MAX_PAYLOAD_BYTES:
        raise TooLarge(
            f"A payload is at most {settings.MAX_PAYLOAD_BYTES} bytes; this one has {len(payload)}."
        )
    return payload


async def send(broker: Broker, topic: str, payload: bytes, message_id: str | None) -> Stored:
    """Publish a payload and wait for what confirmation there is.

    Raises:
        Unavailable: when there is none; try again with the same `message_id`.
    """
    headers = None
    if message_id is not None:
        headers = {MSG_ID: message_id, MESSAGE_ID: message_id}
    return await send_with(broker, topic, payload, headers)


async def send_with(
    broker: Broker, topic: str, payload: bytes, headers: dict[str, str] | None
) -> Stored:
    """Do what `send` does, with headers of the caller's.

    Raises:
        Unavailable: when there is no confirmation.
    """
    with tracing.sending("publish", topic, headers) as sent:
        if is_durable(topic, settings.DURABLE_TOPICS):
            return await broker.store(topic, payload, headers=sent, timeout=settings.STORE_TIMEOUT)
        await broker.publish(topic, payload, headers=sent)
        await broker.flush()
        return Stored(0)
