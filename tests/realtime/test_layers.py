"""Both channel layers; the Redis one against a real redis-server that dies and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.exceptions import ChannelFull
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from realtime import layers, redis_shard
from realtime.layers import InProcessChannelLayer, RedisChannelLayer
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer
from tests.support.waiting import DEADLINE, until

from .support import turns

BURST = 2_000


def numbered(count: int) -> list[dict[str, Any]]:
    """Return messages with their numbers."""
    return [{"type": "gateway.event", "number": number} for number in range(count)]


async def received(layer: Any, channel: str, count: int) -> list[int]:
    """Return the numbers of the next messages of a channel."""
    numbers = []
    async with asyncio.timeout(DEADLINE):
        for _ in range(count):
            numbers.append((await layer.receive(channel))["number"])
    return numbers


async def member_of(layer: Any, *groups: str) -> str:
    """Return a new channel that is in these groups."""
    channel: str = await layer.new_channel()
    for group in groups:
        await layer.group_add(group, channel)
    return channel


def losses_of(layer: RedisChannelLayer) -> list[int]:
    """Return a list that grows when the layer says that messages may be lost."""
    told: list[int] = []
    layer.on_loss.append(lambda: told.append(1))
    return told


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no answer of Redis count as missing that is only late."""
    monkeypatch.setattr(redis_shard, "REDIS_TIMEOUT", DEADLINE)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[RedisChannelLayer]:
    """Return the Redis layer."""
    layer = RedisChannelLayer(hosts=[redis_server.url])
    yield layer
    await layer.flush()


@pytest.fixture(params=["in-process", "redis"])
async def layer(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Return each of the two layers."""
    if request.param == "in-process":
        yield InProcessChannelLayer()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    redis = RedisChannelLayer(hosts=[server.url])
    yield redis
    await redis.flush()


# Both.


async def test_group_send_reaches_every_member_in_order(layer: Any) -> None:
    channels = [await member_of(layer, "t.a") for _ in range(2)]
    for message in numbered(50):
        await layer.group_send("t.a", message)
    for channel in channels:
        assert await received(layer, channel, 50) == list(range(50))


async def test_group_send_other_group_is_not_received(layer: Any) -> None:
    channel = await member_of(layer, "t.a")
    await layer.group_send("t.b", {"number": 1})
    await layer.group_send("t.a", {"number": 2})
    assert await received(layer, channel, 1) == [2]


async def test_group_send_nobody_there_is_nothing(layer: Any) -> None:
    await layer.group_send("t.nobody", {"number": 1})
    channel = await member_of(layer, "t.nobody")
    await layer.group_send("t.nobody", {"number": 2})
    assert await received(layer, channel, 1) == [2]


async def test_group_discard_receives_nothing_more(layer: Any) -> None:
    channel = await member_of(layer, "t.a", "t.b")
    await layer.group_discard("t.a", channel)
    await layer.group_send("t.a", {"number": 1})
    await layer.group_send("t.b", {"number": 2})
    assert await received(layer, channel, 1) == [2]


async def test_group_discard_one_member_leaves_the_other(layer: Any) -> None:
    gone, kept = [await member_of(layer, "t.a") for _ in range(2)]
    await layer.group_discard("t.a", gone)
    await layer.group_send("t.a", {"number": 1})
    assert await received(layer, kept, 1) == [1]


async def test_group_discard_no_member_is_nothing(layer: Any) -> None:
    channel = await layer.new_channel()
    await layer.group_discard("t.a", channel)
    await layer.group_add("t.a", channel)
    await layer.group_discard("t.a", "somebody.else")
    await layer.group_send("t.a", {"number": 1})
    assert await received(layer, channel, 1) == [1]


async def test_group_add_again_after_discard_receives(layer: Any) -> None:
    channel = await layer.new_channel()
    for number in range(3):
        await layer.group_add("t.a", channel)
        await layer.group_add("t.a", channel)
        await layer.group_send("t.a", {"number": number})
        assert await received(layer, channel, 1) == [number]
        await layer.group_discard("t.a", channel)


async def test_send_to_one_channel_is_received_there(layer: Any) -> None:
    one, two = await layer.new_channel(), await layer.new_channel()
    assert one != two
    await layer.send(one, {"number": 1})
    await layer.send(two, {"number": 2})
    assert await received(layer, one, 1) == [1]
    assert await received(layer, two, 1) == [2]


async def test_group_send_burst_arrives_whole_and_in_order(layer: Any) -> None:
    channel = await member_of(layer, "t.a")
    for message in numbered(BURST):
        await layer.group_send("t.a", message)
    assert await received(layer, channel, BURST) == list(range(BURST))
    assert layer.dropped == 0


async def test_group_send_bytes_come_as_they_are(layer: Any) -> None:
    channel = await member_of(layer, "t.a")
    payload = bytes(range(256))
    await layer.group_send("t.a", {"type": "gateway.event", "event": payload})
    message = await asyncio.wait_for(layer.receive(channel), DEADLINE)
    assert message == {"type": "gateway.event", "event": payload}


# In-process.


async def test_in_process_group_send_full_channel_misses_and_counts() -> None:
    layer = InProcessChannelLayer(capacity=10)
    full, empty = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("t.a", full)
    for message in numbered(10):
        await layer.group_send("t.a", message)
    await layer.group_add("t.a", empty)
    for message in numbered(5):
        await layer.group_send("t.a", message)
    assert layer.dropped == 5
    assert await received(layer, full, 10) == list(range(10))
    assert await received(layer, empty, 5) == list(range(5))


async def test_in_process_send_full_channel_raises() -> None:
    layer = InProcessChannelLayer(capacity=1)
    channel = await layer.new_channel()
    await layer.send(channel, {"number": 1})
    with pytest.raises(ChannelFull):
        await layer.send(channel, {"number": 2})


async def test_in_process_last_member_gone_forgets_the_group() -> None:
    layer = InProcessChannelLayer()
    channel = await layer.new_channel()
    for number in range(100):
        await layer.group_add(f"t.{number}", channel)
        await layer.group_discard(f"t.{number}", channel)
    assert not layer._groups


async def test_in_process_flush_forgets_everything() -> None:
    layer = InProcessChannelLayer()
    channel = await member_of(layer, "t.a")
    await layer.send(channel, {"number": 1})
    await layer.flush()
    await layer.group_send("t.a", {"number": 2})
    await layer.send(channel, {"number": 3})
    assert await received(layer, channel, 1) == [3]


# Redis.


async def test_redis_group_add_is_confirmed_before_it_returns(redis_server: RedisServer) -> None:
    """Whoever reads the stream's top after joining must not miss what is published later."""
    async with Proxy(redis_server.port) as proxy:
        layer = RedisChannelLayer(hosts=[f"redis://127.0.0.1:{proxy.port}/0"])
        try:
            channel = await layer.new_channel()
            proxy.black_hole()
            joining = asyncio.create_task(layer.group_add("t.a", channel))
            await turns(100)
            assert not joining.done()
            await proxy.forward()
            await joining
            await layer.group_send("t.a", {"number": 1})
            assert await received(layer, channel, 1) == [1]
        finally:
            await layer.flush()


@pytest.mark.parametrize(("answer", "whole"), [(1.0, DEADLINE), (DEADLINE, 1.0)])
async def test_redis_group_add_no_redis_raises_and_works_later(
    redis: RedisChannelLayer,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    answer: float,
    whole: float,
) -> None:
    """Whether it gives up by itself, or is given up."""
    monkeypatch.setattr(redis_shard, "REDIS_TIMEOUT", answer)
    channel = await redis.new_channel()
    redis_server.kill()
    with pytest.raises(OSError):
        async with asyncio.timeout(whole):
            await redis.group_add("t.a", channel)
    monkeypatch.setattr(redis_shard, "REDIS_TIMEOUT", DEADLINE)
    redis_server.start()

    async def joined() -> bool:
        try:
            await redis.group_add("t.a", channel)
        except OSError:
            return False
        return True

    await until(joined)
    await redis.group_send("t.a", {"number": 1})
    assert await received(redis, channel, 1) == [1]


async def test_redis_frozen_group_add_gives_up(
    redis: RedisChannelLayer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_shard, "REDIS_TIMEOUT", 0.5)
    channel = await redis.new_channel()
    redis_server.pause()
    try:
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(DEADLINE):
                await redis.group_add("t.a", channel)
    finally:
        redis_server.resume()


async def test_redis_killed_and_restarted_says_so_and_receives_again(
    redis: RedisChannelLayer, redis_server: RedisServer
) -> None:
    told = losses_of(redis)
    channel = await member_of(redis, "t.a")
    await redis.group_send("t.a", {"number": 0})
    assert await received(redis, channel, 1) == [0]
    redis_server.kill()
    redis_server.start()
    await until(lambda: told, what="the word that Redis was away")
    arrived = asyncio.create_task(received(redis, channel, 1))

    async def sent_and_arrived() -> bool:
        # The first may meet the connection that died and be dropped.
        await redis.group_send("t.a", {"number": 1})
        await redis.settle()
        return arrived.done()

    await until(sent_and_arrived)
    assert await arrived == [1]


async def test_redis_killed_and_restarted_sender_says_so(
    redis: RedisChannelLayer, redis_server: RedisServer
) -> None:
    """The bridge only sends, and what it sends into a dead Redis is lost."""
    told = losses_of(redis)
    await redis.group_send("t.a", {"number": 0})
    await redis.settle()
    redis_server.kill()
    await redis.group_send("t.a", {"number": 1})
    await redis.settle()
    assert redis.dropped == 1
    redis_server.start()
    await redis.group_send("t.a", {"number": 2})
    await until(lambda: told)


async def test_redis_subscriber_cut_off_says_so_and_receives_again(
    redis: RedisChannelLayer, redis_server: RedisServer
) -> None:
    """Redis does that to one that lags; what it publishes meanwhile is lost."""
    told = losses_of(redis)
    channel = await member_of(redis, "t.a")
    async with Redis.from_url(redis_server.url) as admin:
        assert await admin.client_kill_filter(_type="pubsub") == 1
    await until(lambda: told, what="the word that messages may be lost")
    await redis.group_send("t.a", {"number": 1})
    assert await received(redis, channel, 1) == [1]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_read_timeouts_and_health_checks_between_lose_nothing(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.setattr(redis_shard, "READ_TIMEOUT", 0.001)
    address = f"redis://127.0.0.1:{redis_server.port}/0?protocol={protocol}"
    layer = RedisChannelLayer(hosts=[address])
    told = losses_of(layer)
    try:
        channel = await member_of(layer, "t.a")
        [shard] = layer._get_layer()._shards
        # Not for the handshake as well, in which redis-py takes a PONG for another answer.
        shard._pubsub.connection.health_check_interval = 0.001
        for number in range(20):
            # Larger than what is read at once, so that a timeout comes in the middle of some.
            await layer.group_send("t.a", {"number": number, "padding": b"x" * 1_000_000})
        assert await received(layer, channel, 20) == list(range(20))
        assert not told
        assert layer.dropped == 0
    finally:
        await layer.flush()


async def test_redis_publish_refused_is_counted_and_the_next_go_through(
    redis: RedisChannelLayer, redis_server: RedisServer
) -> None:
    allowed = ("resetchannels", "&asgispecific.*", "&asgi__group__t.a")
    async with Redis.from_url(redis_server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "default", *allowed)
    channel = await member_of(redis, "t.a")
    # In one batch: the answer to the second is an error, the others are published.
    for group in ("t.a", "t.forbidden", "t.a"):
        await redis.group_send(group, {"number": 1})
    await redis.settle()
    assert redis.dropped == 3
    assert await received(redis, channel, 2) == [1, 1]
    await redis.group_send("t.a", {"number": 2})
    await redis.settle()
    assert redis.dropped == 3
    assert await received(redis, channel, 1) == [2]


async def test_redis_read_of_nothing_ends_the_connection() -> None:
    """redis-py answers None, without waiting, for a socket that ended with ETIMEDOUT."""

    class TimedOut:
        closed = False

        async def read_response(self, **options: Any) -> None:
            return None

        async def disconnect(self, nowait: bool) -> None:
            self.closed = True

    connection = TimedOut()
    with pytest.raises(RedisConnectionError):
        await redis_shard._read(connection)
    assert connection.closed


async def test_redis_receiver_too_slow_drops_and_counts(
    redis: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "CAPACITY", 10)
    channel = await member_of(redis, "t.a")
    for number in range(25):
        await redis.group_send("t.a", {"number": number})
        await redis.settle()
    await until(lambda: redis.dropped == 15)
    assert await received(redis, channel, 10) == list(range(10))


async def test_redis_sender_too_fast_raises_channel_full_and_counts(
    redis: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_shard, "CAPACITY", 10)
    refused = 0
    for message in numbered(15):
        try:
            await redis.group_send("t.a", message)
        except ChannelFull:
            refused += 1
    assert refused == redis.dropped == 5
    await redis.settle()
    await redis.group_send("t.a", {"number": 16})


async def test_redis_settle_returns_when_all_is_sent(
    redis: RedisChannelLayer, redis_server: RedisServer
) -> None:
    receiver = RedisChannelLayer(hosts=[redis_server.url])
    try:
        channel = await member_of(receiver, "t.a")
        for message in numbered(BURST):
            await redis.group_send("t.a", message)
        await redis.settle()
        await redis.flush()
        assert await received(receiver, channel, BURST) == list(range(BURST))
    finally:
        await receiver.flush()


async def test_redis_many_senders_each_in_its_own_order(
    redis: RedisChannelLayer, redis_server: RedisServer
) -> None:
    senders = [RedisChannelLayer(hosts=[redis_server.url]) for _ in range(3)]
    channel = await member_of(redis, "t.a")

    async def send(sender: RedisChannelLayer, which: int) -> None:
        for number in range(300):
            await sender.group_send("t.a", {"number": number, "which": which})

    await asyncio.gather(*(send(sender, which) for which, sender in enumerate(senders)))
    found: dict[int, list[int]] = {which: [] for which in range(3)}
    async with asyncio.timeout(DEADLINE):
        for _ in range(900):
            message = await redis.receive(channel)
            found[message["which"]].append(message["number"])
    assert found == {which: list(range(300)) for which in range(3)}
    for sender in senders:
        await sender.flush()
