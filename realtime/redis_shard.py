"""One Redis of the Redis channel layer: publishes in batches, subscriptions that are confirmed.

Stock channels_redis and redis-py set a timeout and make several objects for each message and each
answer. Here a deadline covers a batch of publishes, and a second of reading; the connections, the
pool and the subscriptions are redis-py's, packing and parsing are hiredis'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from channels.exceptions import ChannelFull
from channels_redis.pubsub import RedisSingleShardConnection
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger(__name__)

CAPACITY = 10_000
"""Messages that wait for one channel, or for Redis, before further ones are dropped."""
PIPELINE = 500
"""Publishes that go to Redis in one round trip."""
REDIS_TIMEOUT = 2.0
"""Seconds for one round trip to Redis."""
READ_TIMEOUT = 1.0
"""Seconds that a read waits before it looks after the connection's health."""


class RedisShard(RedisSingleShardConnection):  # type: ignore[misc]
    """One Redis: sends in batches, confirmed subscriptions, reconnects by itself."""

    def __init__(self, host: Any, channel_layer: Any) -> None:
        super().__init__(host, channel_layer)
        self._unsent: list[bytes] = []
        self._sending: asyncio.Task[None] | None = None
        self._confirmations: dict[str, asyncio.Future[None]] = {}
        self._away = False

    async def publish(self, channel: str, message: bytes) -> None:
        """Queue a publish for the next batch.

        Raises:
            ChannelFull: when Redis does not keep up.
        """
        if len(self._unsent) >= CAPACITY:
            self.channel_layer.channel_layer.dropped += 1
            raise ChannelFull(channel)
        self._unsent.append(hiredis.pack_command(("PUBLISH", channel, message)))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def subscribe(self, channel: str) -> None:
        """Subscribe and wait until Redis confirms, so that nothing published later is missed.

        Raises:
            ConnectionError: when Redis does not.
        """
        if channel in self._subscribed_to:
            return
        confirmation = asyncio.get_running_loop().create_future()
        self._confirmations[channel] = confirmation
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                await super().subscribe(channel)
                await confirmation
        except asyncio.CancelledError:
            # Redis may not have it: the next one asks again.
            self._subscribed_to.discard(channel)
            raise
        except (RedisError, OSError) as exc:
            self._subscribed_to.discard(channel)
            raise ConnectionError("Redis does not take the subscription.") from exc
        finally:
            self._confirmations.pop(channel, None)

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe, or have the reader not subscribe again when it is back."""
        try:
            async with asyncio.timeout(REDIS_TIMEOUT):
                await super().unsubscribe(channel)
        except (RedisError, OSError):
            self._subscribed_to.discard(channel)
            self._pubsub.channels.pop(channel.encode(), None)

    async def settle(self) -> None:
        """Return when the queued publishes are sent or dropped."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=REDIS_TIMEOUT)

    async def _send(self) -> None:
        while self._unsent:
            batch, self._unsent = self._unsent[:PIPELINE], self._unsent[PIPELINE:]
            try:
                try:
                    await self._execute(batch)
                except RedisConnectionError:
                    # The first try after a restart meets the old connection's end.
                    await self._execute(batch)
            except (RedisError, OSError) as exc:
                self.channel_layer.channel_layer.dropped += len(batch)
                self._report(exc)
            else:
                self._recovered()

    async def _execute(self, batch: Sequence[bytes]) -> None:
        self._ensure_redis()
        pool = self._redis.connection_pool
        refused: ResponseError | None = None
        async with asyncio.timeout(REDIS_TIMEOUT):
            connection = await pool.get_connection()
            try:
                await connection.send_packed_command(b"".join(batch))
                for _ in batch:
                    try:
                        await _read(connection)
                    except ResponseError as exc:
                        # The answers after it are read too, or they would be the next batch's.
                        refused = refused or exc
            finally:
                await pool.release(connection)
        if refused is not None:
            raise refused

    async def _do_receiving(self) -> None:
        while True:
            try:
                if self._pubsub is not None and self._pubsub.subscribed:
                    await self._pubsub.read(self._take)
                    self._recovered()
                else:
                    await asyncio.sleep(0.05)
            except Exception as exc:
                # Whatever it is: without this task nothing is received any more.
                self._report(exc)
                await asyncio.sleep(0.25)
                # Not `wait_for`, which loses a cancellation that comes with the connection's
                # end, so that this would never stop: https://bugs.python.org/issue37658
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(REDIS_TIMEOUT):
                        await self._pubsub.reconnect()

    def _ensure_redis(self) -> None:
        if self._redis is None:
            super()._ensure_redis()
            client: Any = self._redis
            self._pubsub = _PubSub(client.connection_pool, push_handler_func=_as_it_is)

    def _take(self, kind: str, channel: bytes, data: Any) -> None:
        # Whatever comes: the connection is there, and subscribed again.
        self._recovered()
        if kind == "message":
            self._receive_message({"channel": channel, "data": data})
        elif kind == "subscribe":
            confirmation = self._confirmations.get(channel.decode())
            if confirmation is not None and not confirmation.done():
                confirmation.set_result(None)

    def _report(self, exc: BaseException) -> None:
        if not self._away:
            self._away = True
            logger.warning("redis away reason=%r", exc)

    def _recovered(self) -> None:
        if self._away:
            self._away = False
            logger.info("redis back; checking what passed meanwhile")
            self.channel_layer.channel_layer.lost()


class _PubSub(PubSub):  # type: ignore[misc]
    """Subscriptions whose lost connection is made again by their reader only.

    Stock redis-py reconnects in whichever coroutine meets the loss; a reader and a subscriber
    that do so at once read the same stream, and both end with a RuntimeError.
    """

    async def execute_command(self, *args: Any) -> None:
        """Send a command; its answer is the reader's.

        Raises:
            ConnectionError: when the reader has not connected again.
        """
        connection = self.connection
        if connection is None or not (connection.is_connected or self.subscribed):
            await self.connect()
            connection = self.connection
        if not connection.is_connected:
            raise RedisConnectionError("Redis is away.")
        await connection.send_command(*args, check_health=False)

    async def read(self, take: Callable[[str, bytes, Any], None]) -> None:
        """Hand over what comes within READ_TIMEOUT: its kind, its channel, its data.

        What is buffered is handed over without a pause; asyncio's StreamReader buffers up to
        128 KiB, and then the loop turns.

        Raises:
            ConnectionError: when the connection is lost; see `reconnect`.
        """
        connection = self.connection
        if not connection.is_connected:
            raise RedisConnectionError("Redis is away.")
        await self.check_health()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_TIMEOUT):
                while True:
                    response = await _read(connection, disconnect_on_error=False, push_request=True)
                    if response[0] == b"message":
                        take("message", response[1], response[2])
                    elif message := await self.handle_message(response):
                        take(message["type"], message["channel"], message["data"])

    async def reconnect(self) -> None:
        """Connect anew, which subscribes again.

        Raises:
            ConnectionError: when Redis is not there.
        """
        await self.connection.disconnect(nowait=True)
        await self.connect()


async def _read(connection: Any, **options: bool) -> Any:
    # Without a timeout of its own for each: the caller's deadline is for all.
    response = await connection.read_response(timeout=math.inf, **options)
    if response is None:
        # What redis-py makes of ETIMEDOUT, again and again, and of a server's word that it will
        # be moved. A new connection is right for both.
        await connection.disconnect(nowait=True)
        raise RedisConnectionError("The connection to Redis timed out, or is being moved.")
    return response


async def _as_it_is(response: Any) -> Any:
    # redis-py's own handler turns each into a string, for a log line that nobody reads.
    return response
