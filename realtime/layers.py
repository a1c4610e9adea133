"""Channel layers: in-process with O(1) sends, and Redis pub/sub with pipelined sends.

Both are plain subclasses used through the public API of Channels. Neither promises delivery:
a full queue drops, and so does a Redis that goes away. The chain (protocol/chain.py) repairs
from the stream what is dropped here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer
from channels_redis.pubsub import (
    RedisPubSubChannelLayer,
    RedisPubSubLoopLayer,
    RedisSingleShardConnection,
)
from channels_redis.utils import _wrap_close
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

CAPACITY = 10_000
"""Messages that wait for one channel, or for Redis, before further ones are dropped."""
PIPELINE = 500
"""Publishes that go to Redis in one round trip."""
REDIS_TIMEOUT = 2.0
"""Seconds for one round trip to Redis."""


class InProcessChannelLayer(BaseChannelLayer):  # type: ignore[misc]
    """A channel layer for one process: groups are sets, messages are not copied.

    Channels' own in-memory layer scans every group for expired members at each send; here a
    group ends with its last member. Messages are handed over as they are: treat as frozen.

    Args:
        capacity: messages that wait for one channel before further ones are dropped.
    """

    extensions: ClassVar[list[str]] = ["groups", "flush"]
    in_process = True

    def __init__(self, capacity: int = CAPACITY, **options: Any) -> None:
        super().__init__(capacity=capacity, **options)
        self._channels: dict[str, _Channel] = {}
        self._groups: dict[str, set[str]] = {}
        self.dropped = 0

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return a name for a channel of this process."""
        return f"{prefix}inprocess!{uuid.uuid4().hex}"

    async def send(self, channel: str, message: Any) -> None:
        """Queue a message.

        Raises:
            ChannelFull: when `capacity` messages wait already.
        """
        wanted = self._channel(channel)
        if len(wanted.messages) >= self.capacity:
            raise ChannelFull(channel)
        wanted.put(message)

    async def receive(self, channel: str) -> Any:
        """Return the next message of a channel."""
        wanted = self._channels.get(channel) or self._channel(channel)
        while not wanted.messages:
            await wanted.wait()
        return wanted.messages.popleft()

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group."""
        self._groups.setdefault(group, set()).add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group."""
        members = self._groups.get(group)
        if members is not None:
            members.discard(channel)
            if not members:
                del self._groups[group]

    async def group_send(self, group: str, message: Any) -> None:
        """Queue a message for every channel of a group; a full one misses it."""
        for name in self._groups.get(group, ()):
            channel = self._channels.get(name) or self._channel(name)
            if len(channel.messages) < self.capacity:
                channel.put(message)
            else:
                self.dropped += 1

    async def flush(self) -> None:
        """Forget every channel and group."""
        self._channels.clear()
        self._groups.clear()

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _channel(self, name: str) -> _Channel:
        return self._channels.setdefault(name, _Channel())


class _Channel:
    """What waits for one channel, and who waits for it.

    An asyncio.Queue does the same and more, for 1.5 µs a message where this takes 0.3.
    """

    __slots__ = ("_readers", "messages")

    def __init__(self) -> None:
        self.messages: deque[Any] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()

    def put(self, message: Any) -> None:
        """Queue a message; its bound is the layer's to keep."""
        self.messages.append(message)
        if self._readers:
            self._wake()

    async def wait(self) -> None:
        """Return when a message may be there."""
        reader = asyncio.get_running_loop().create_future()
        self._readers.append(reader)
        try:
            await reader
        except asyncio.CancelledError:
            # The message that it was woken for is another reader's now.
            if self.messages:
                self._wake()
            raise

    def _wake(self) -> None:
        while self._readers:
            reader = self._readers.popleft()
            if not reader.done():
                reader.set_result(None)
                return


class RedisChannelLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """channels_redis' pub/sub layer with pipelined sends and a word when Redis was away.

    Stock `publish` takes a lock and a round trip each (900 to 2,700 a second here); in a
    pipeline the same Redis takes 14,000.
    """

    in_process = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_loss: list[Callable[[], None]] = []
        self.dropped = 0

    async def settle(self) -> None:
        """Return when what was sent is at Redis, or when it will not be."""
        for shard in self._get_layer()._shards:
            await shard.settle()

    def lost(self) -> None:
        """Tell whoever listens that messages may have been lost."""
        for callback in self.on_loss:
            callback()

    def _get_layer(self) -> RedisPubSubLoopLayer:
        loop = asyncio.get_running_loop()
        layer = self._layers.get(loop)
        if layer is None:
            layer = _LoopLayer(*self._args, **self._kwargs, channel_layer=self)
            self._layers[loop] = layer
            _wrap_close(self, loop)
        return layer


class _LoopLayer(RedisPubSubLoopLayer):  # type: ignore[misc]
    """The layer of one event loop, over pipelining connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stock = self.__dict__.pop("_shards")
        self._shards: list[_PipelinedConnection] = [
            _PipelinedConnection(shard.host, self) for shard in stock
        ]

    async def _subscribe_to_channel(self, channel: str) -> None:
        # Stock Channels leaves this queue unbounded.
        self.channels[channel] = _DroppingQueue(self.channel_layer)
        await self._get_shard(channel).subscribe(channel)


class _DroppingQueue(asyncio.Queue[Any]):
    """A bounded queue that drops, and counts, what does not fit."""

    def __init__(self, layer: RedisChannelLayer) -> None:
        super().__init__(CAPACITY)
        self._layer = layer

    def put_nowait(self, item: Any) -> None:
        """Queue an item, or drop it."""
        if self.full():
            self._layer.dropped += 1
        else:
            super().put_nowait(item)


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


class _PipelinedConnection(RedisSingleShardConnection):  # type: ignore[misc]
    """One Redis: sends in batches, confirmed subscriptions, reconnects by itself."""

    def __init__(self, host: Any, channel_layer: _LoopLayer) -> None:
        super().__init__(host, channel_layer)
        self._unsent: list[tuple[str, bytes]] = []
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
        self._unsent.append((channel, message))
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

    async def _execute(self, batch: list[tuple[str, bytes]]) -> None:
        self._ensure_redis()
        pipeline = self._redis.pipeline(transaction=False)
        for channel, message in batch:
            pipeline.publish(channel, message)
        async with asyncio.timeout(REDIS_TIMEOUT):
            await pipeline.execute()

    async def _do_receiving(self) -> None:
        while True:
            try:
                if self._pubsub is not None and self._pubsub.subscribed:
                    message = await self._pubsub.get_message(timeout=1.0)
                    self._recovered()
                    if message is not None:
                        self._take(message)
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
                        await self._pubsub.connect()

    def _ensure_redis(self) -> None:
        if self._redis is None:
            super()._ensure_redis()
            client: Any = self._redis
            self._pubsub = _PubSub(client.connection_pool)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._receive_message(message)
        elif message["type"] == "subscribe":
            confirmation = self._confirmations.get(message["channel"].decode())
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
