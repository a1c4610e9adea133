"""Channel layers: in-process with O(1) sends, and Redis pub/sub with pipelined sends.

Both are plain subclasses used through the public API of Channels. Neither promises delivery:
a full queue drops, and so does a Redis that goes away. The chain (protocol/chain.py) repairs
from the stream what is dropped here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer
from channels_redis.utils import _wrap_close

from .redis_shard import CAPACITY, RedisShard

Listener = Callable[[Any], None]
"""What takes the messages of a channel as they are sent."""


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
        self._listeners: dict[str, Listener] = {}
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

    def listen(self, channel: str, listener: Listener) -> None:
        """Have what groups send to a channel handed to a function, at once and without a queue.

        A queue would cost each message two turns of the event loop. What the function raises,
        whoever sends gets.
        """
        self._listeners[channel] = listener

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
            if (listener := self._listeners.get(name)) is not None:
                listener(message)
                continue
            channel = self._channels.get(name) or self._channel(name)
            if len(channel.messages) < self.capacity:
                channel.put(message)
            else:
                self.dropped += 1

    async def flush(self) -> None:
        """Forget every channel and group."""
        self._channels.clear()
        self._groups.clear()
        self._listeners.clear()

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _channel(self, name: str) -> _Channel:
        return self._channels.setdefault(name, _Channel())


class _Channel:
    """What waits for one channel, and who waits for it.

    An asyncio.Queue does the same and more: with one, a message took 1.1 µs through the layer
    instead of 0.4.
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

    Stock `publish` takes a lock and a round trip each.
    """

    in_process = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_loss: list[Callable[[], None]] = []
        self.dropped = 0

    async def group_send(self, group: str, message: Any) -> None:
        """Queue a message for every channel of a group.

        Raises:
            ChannelFull: when Redis does not keep up.
        """
        await self._get_layer().group_send(group, message)

    async def receive(self, channel: str) -> Any:
        """Return the next message of a channel."""
        return await self._get_layer().receive(channel)

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
        self._shards: list[RedisShard] = [RedisShard(shard.host, self) for shard in stock]

    async def receive(self, channel: str) -> Any:
        """Return the next message of a channel, at once when one is there."""
        queue = self.channels.get(channel)
        if queue is None or queue.empty():
            return await super().receive(channel)
        return self.channel_layer.deserialize(queue.get_nowait())

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
