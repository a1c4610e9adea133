"""Publishing from the backend: `notify` and `publish`, for views, tasks and scripts.

Both wait for JetStream's confirmation. The connection lives in a thread of its own with its
own event loop, made on first use (and anew after a fork), so that sync code, async code and
`transaction.on_commit` hooks use the same one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import msgspec
from django.core.serializers.json import DjangoJSONEncoder

from .bridge import is_durable
from .broker import Broker, Stored
from .conf import settings
from .protocol.exceptions import BadTopic, TooLarge, Unavailable
from .protocol.messages import MSG_ID
from .protocol.subjects import is_token, parse_topic
from .runtime import make_broker

_encode = msgspec.json.Encoder(enc_hook=DjangoJSONEncoder().default).encode


def notify(user_id: int | str, data: Any, *, message_id: str | None = None) -> Stored:
    """Send a notification to one user: `publish` on `user.<id>.notifications`.

    Raises:
        BadTopic: when the id is not one token of letters, digits, '-' and '_'.
        TooLarge: when the data is over MAX_PAYLOAD_BYTES.
        Unavailable: when the stream did not confirm it; try again with the same `message_id`.
    """
    return publish(notifications_of(user_id), data, message_id=message_id)


async def anotify(user_id: int | str, data: Any, *, message_id: str | None = None) -> Stored:
    """Do what `notify` does, from async code."""
    return await apublish(notifications_of(user_id), data, message_id=message_id)


def publish(topic: str, data: Any, *, message_id: str | None = None) -> Stored:
    """Publish an event on a topic and wait until the stream has stored it.

    Args:
        data: anything that becomes JSON (dates, UUIDs and decimals as Django writes them);
            bytes are sent as they are.
        message_id: the same id within DEDUP_WINDOW is stored once.

    Returns:
        The event's sequence, and whether it was stored before; on an ephemeral topic
        sequence 0.

    Raises:
        BadTopic: when the topic is malformed.
        TooLarge: when the data is over MAX_PAYLOAD_BYTES.
        Unavailable: when the stream did not confirm it; try again with the same `message_id`.
    """
    work = _send(_connection(), topic, data, message_id)
    return asyncio.run_coroutine_threadsafe(work, _connection().loop).result()


async def apublish(topic: str, data: Any, *, message_id: str | None = None) -> Stored:
    """Do what `publish` does, from async code."""
    work = _send(_connection(), topic, data, message_id)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _connection().loop))


def notifications_of(user_id: int | str) -> str:
    """Return the topic of a user's notifications.

    Raises:
        BadTopic: when the id is not one token.
    """
    token = str(user_id)
    if not is_token(token):
        raise BadTopic(f"A user id is letters, digits, '-' and '_'; {token!r} is not.")
    return f"user.{token}.notifications"


class _Connection:
    """A broker in a thread of its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.url = settings.NATS_URL
        self.loop = asyncio.new_event_loop()
        self._broker: Broker | None = None
        self._connecting: asyncio.Lock | None = None
        threading.Thread(target=self.loop.run_forever, name="realtime-publish", daemon=True).start()

    async def broker(self) -> Broker:
        """Return the broker, connected.

        Raises:
            Unavailable: when NATS does not answer.
        """
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._broker is None:
                broker = make_broker("backend")
                await broker.connect()
                self._broker = broker
        return self._broker

    async def close(self) -> None:
        """Close the connection."""
        if self._broker is not None:
            await self._broker.close()


_lock = threading.Lock()
_current: _Connection | None = None


def _connection() -> _Connection:
    """Return this process's connection; a fork or another NATS_URL gets a new one."""
    global _current
    with _lock:
        if _current is None or _current.pid != os.getpid() or _current.url != settings.NATS_URL:
            if _current is not None and _current.pid == os.getpid():
                asyncio.run_coroutine_threadsafe(_current.close(), _current.loop)
            _current = _Connection()
        return _current


async def _send(connection: _Connection, topic: str, data: Any, message_id: str | None) -> Stored:
    parse_topic(topic, settings.OPEN_TOPICS)
    payload = data if isinstance(data, bytes) else _encode(data)
    if len(payload) > settings.MAX_PAYLOAD_BYTES:
        raise TooLarge(
            f"A payload is at most {settings.MAX_PAYLOAD_BYTES} bytes; this one has {len(payload)}."
        )
    headers = {MSG_ID: message_id} if message_id is not None else None
    broker = await connection.broker()
    if is_durable(topic, settings.DURABLE_TOPICS):
        return await broker.store(topic, payload, headers=headers, timeout=settings.STORE_TIMEOUT)
    await broker.publish(topic, payload, headers=headers)
    await broker.flush()
    return Stored(0)


__all__ = [
    "Stored",
    "Unavailable",
    "anotify",
    "apublish",
    "notifications_of",
    "notify",
    "publish",
]
