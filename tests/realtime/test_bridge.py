"""The bridge: from a real stream into groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.exceptions import ChannelFull
from redis.exceptions import ConnectionError as RedisConnectionError

from realtime.bridge import EVENT_TYPE, Bridge, event_of, is_durable
from realtime.broker import Broker, connected
from realtime.embedded import NatsServer
from realtime.history import History
from realtime.layers import InProcessChannelLayer
from realtime.protocol.exceptions import NoResponder, Unavailable
from realtime.protocol.messages import SEQUENCE, Event
from realtime.protocol.subjects import Subjects, group_for
from tests.support.proxy import Proxy
from tests.support.strict import strict_json
from tests.support.waiting import DEADLINE, until

from .support import DURABLE, OPEN, TOPIC, settled, store

LONG = "room." + "x" * 190


class RemotePacked(InProcessChannelLayer):
    """A layer that says it is not in-process, as Redis does: events travel packed."""

    in_process = False


class Broken(InProcessChannelLayer):
    """A layer that cannot send."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    async def group_send(self, group: str, message: Any) -> None:
        if self.error is not None:
            raise self.error
        await super().group_send(group, message)


def make_bridge(broker: Broker, layer: Any) -> Bridge:
    """Return a bridge with the usual topics."""
    return Bridge(broker, layer, Subjects("gateway"), durable_topics=DURABLE, open_topics=OPEN)


class Listener:
    """A channel of a layer, in the groups of some topics."""

    def __init__(self, layer: Any, channel: str) -> None:
        self._layer = layer
        self._channel = channel

    @classmethod
    async def on(cls, layer: Any, *topics: str) -> Listener:
        channel = await layer.new_channel()
        for topic in topics:
            await layer.group_add(group_for(topic), channel)
        return cls(layer, channel)

    async def message(self) -> dict[str, Any]:
        """Return the next layer message."""
        message: dict[str, Any] = await asyncio.wait_for(
            self._layer.receive(self._channel), DEADLINE
        )
        return message

    async def event(self) -> Event:
        """Return the next event."""
        return event_of(await self.message())

    async def sequences(self, count: int) -> list[int]:
        """Return the sequences of the next events."""
        return [(await self.event()).sequence for _ in range(count)]


@pytest.fixture(params=[InProcessChannelLayer, RemotePacked])
def layer(request: pytest.FixtureRequest) -> Any:
    """Return a layer that passes objects, and one that passes bytes."""
    return request.param()


@pytest.fixture
async def backend(nats_server: NatsServer, history: History) -> AsyncIterator[Broker]:
    """Return a connection of a backend; the stream is there."""
    async with connected(nats_server.url, name="backend") as backend:
        yield backend


async def test_relay_all_stored_events_come_chained(
    broker: Broker, backend: Broker, layer: Any
) -> None:
    listener = await Listener.on(layer, TOPIC)
    bridge = make_bridge(broker, layer)
    await bridge.relay_all()
    await settled(broker)
    await store(backend, TOPIC)
    await store(backend, "user.7.a")
    await store(backend, TOPIC)
    first, second = await listener.event(), await listener.event()
    assert (first.sequence, first.previous) == (1, 0)
    assert (second.sequence, second.previous) == (3, 1)
    assert strict_json(second.text.decode()) == {
        "type": "message",
        "topic": TOPIC,
        "seqNo": 3,
        "prevSeqNo": 1,
        "messageId": "3",
        "ts": second.timestamp,
        "data": 0,
    }


async def test_relay_all_plain_publish_of_any_client_is_stored_and_comes(
    broker: Broker, backend: Broker, layer: Any
) -> None:
    listener = await Listener.on(layer, TOPIC)
    await make_bridge(broker, layer).relay_all()
    await settled(broker)
    await backend.publish(TOPIC, b'{"a":1}')
    assert (await listener.event()).sequence == 1


async def test_relay_all_long_topic_comes_in_its_hashed_group(
    broker: Broker, backend: Broker, layer: Any
) -> None:
    listener = await Listener.on(layer, LONG)
    await make_bridge(broker, layer).relay_all()
    await settled(broker)
    await store(backend, LONG)
    assert (await listener.event()).topic == LONG


async def test_relay_all_two_bridges_share_and_send_each_event_once(
    nats_server: NatsServer, broker: Broker, backend: Broker
) -> None:
    layer = InProcessChannelLayer()
    listener = await Listener.on(layer, TOPIC)
    async with connected(nats_server.url, name="second") as second:
        bridges = [make_bridge(broker, layer), make_bridge(second, layer)]
        for bridge in bridges:
            await bridge.relay_all()
        await settled(broker, second)
        await store(backend, TOPIC, 100)
        assert sorted(await listener.sequences(100)) == list(range(1, 101))
        assert all(bridge.relayed for bridge in bridges)
        assert sum(bridge.relayed for bridge in bridges) == 100


async def test_relay_all_ephemeral_comes_without_a_sequence(
    broker: Broker, backend: Broker, layer: Any
) -> None:
    listener = await Listener.on(layer, "live.score")
    await make_bridge(broker, layer).relay_all()
    await settled(broker)
    await backend.publish("live.score", b"1", headers={"Gateway-Message-Id": "m1"})
    await backend.publish("live.score", b"2")
    first, second = await listener.event(), await listener.event()
    frame = strict_json(first.text.decode())
    assert frame == {
        "type": "message",
        "topic": "live.score",
        "messageId": "m1",
        "ts": first.timestamp,
        "data": 1,
    }
    assert second.message_id not in ("", first.message_id)


async def test_follow_ephemeral_nats_does_not_confirm_is_unavailable(
    nats_server: NatsServer, history: History, layer: Any
) -> None:
    """Or something published after `subscribed` could be missed."""
    async with (
        Proxy(nats_server.port) as proxy,
        connected(f"nats://127.0.0.1:{proxy.port}", name="gateway") as behind,
    ):
        bridge = make_bridge(behind, layer)
        proxy.black_hole()
        with pytest.raises(Unavailable):
            await bridge.follow("live.score")


async def test_relay_all_requests_still_find_nobody(broker: Broker, backend: Broker) -> None:
    """A bridge that listened there would turn NO_RESPONDER into TIMEOUT."""
    await make_bridge(broker, InProcessChannelLayer()).relay_all()
    await settled(broker)
    with pytest.raises(NoResponder):
        await backend.request("rpc.nobody", b"", timeout=DEADLINE)


async def test_follow_one_topic_relays_just_that(
    broker: Broker, backend: Broker, layer: Any
) -> None:
    listener = await Listener.on(layer, TOPIC, "room.other", "live.a", "live.b")
    bridge = make_bridge(broker, layer)
    await bridge.follow(TOPIC)
    await bridge.follow(TOPIC)
    await bridge.follow("live.a")
    await settled(broker)
    await store(backend, "room.other")
    await store(backend, TOPIC)
    await backend.publish("live.b", b"1")
    await backend.publish("live.a", b"2")
    assert [(await listener.event()).topic for _ in range(2)] == [TOPIC, "live.a"]
    assert bridge.relayed == 2


async def test_unfollow_relays_nothing_more_until_followed_again(
    broker: Broker, backend: Broker, layer: Any
) -> None:
    listener = await Listener.on(layer, TOPIC, "live.fence")
    bridge = make_bridge(broker, layer)
    await bridge.follow("live.fence")
    await bridge.follow(TOPIC)
    await bridge.unfollow(TOPIC)
    await bridge.unfollow("never.followed")
    await settled(broker)
    await store(backend, TOPIC)
    await backend.publish("live.fence", b"1")
    assert (await listener.event()).topic == "live.fence"
    await bridge.follow(TOPIC)
    await settled(broker)
    await store(backend, TOPIC)
    assert await listener.sequences(1) == [2]


async def test_stop_relays_nothing_more(broker: Broker, backend: Broker) -> None:
    bridge = make_bridge(broker, InProcessChannelLayer())
    await bridge.relay_all()
    await settled(broker)
    await store(backend, TOPIC)
    await until(lambda: bridge.relayed == 1)
    await bridge.stop()
    await settled(broker)
    await store(backend, TOPIC)
    await settled(broker)
    assert bridge.relayed == 1


@pytest.mark.parametrize(
    "payload",
    [b'{"type":"websocket.receive"}', b'{"type":"websocket.close","code":4500}', b'"gateway.x"'],
)
async def test_relay_payload_never_chooses_a_handler(
    broker: Broker, backend: Broker, layer: Any, payload: bytes
) -> None:
    listener = await Listener.on(layer, TOPIC)
    await make_bridge(broker, layer).relay_all()
    await settled(broker)
    await backend.store(TOPIC, payload, headers={"type": "websocket.receive"}, timeout=DEADLINE)
    message = await listener.message()
    assert set(message) == {"type", "event"}
    assert message["type"] == EVENT_TYPE
    frame = strict_json(event_of(message).text.decode())
    assert frame["type"] == "message"
    assert frame["data"] == strict_json(payload.decode())


@pytest.mark.parametrize(
    ("payload", "encoded"),
    [(b"\xff\xfe", "//4="), (b"NaN", "TmFO"), (b"", ""), (b'{"a":1e999}', "eyJhIjoxZTk5OX0=")],
)
async def test_relay_payload_that_is_no_json_travels_as_base64(
    broker: Broker, backend: Broker, layer: Any, payload: bytes, encoded: str
) -> None:
    listener = await Listener.on(layer, TOPIC)
    await make_bridge(broker, layer).relay_all()
    await settled(broker)
    await backend.store(TOPIC, payload, headers=None, timeout=DEADLINE)
    frame = strict_json((await listener.event()).text.decode())
    assert (frame["encoding"], frame["data"]) == ("base64", encoded)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {SEQUENCE: "1"},
        {
            "Nats-Sequence": "x",
            "Nats-Last-Sequence": "0",
            "Nats-Time-Stamp": "2026-01-01T00:00:00Z",
        },
        {"Nats-Sequence": "1", "Nats-Last-Sequence": "0", "Nats-Time-Stamp": "yesterday"},
    ],
)
async def test_relay_not_from_the_stream_is_dropped(
    broker: Broker, backend: Broker, layer: Any, headers: dict[str, str] | None
) -> None:
    listener = await Listener.on(layer, TOPIC)
    await make_bridge(broker, layer).relay_all()
    await settled(broker)
    await backend.publish(f"gateway.relay.{TOPIC}", b"1", headers=headers)
    await store(backend, TOPIC)
    event = await listener.event()
    assert event.timestamp > 0
    assert strict_json(event.text.decode())["data"] == 0


@pytest.mark.parametrize(
    "error", [ChannelFull("full"), OSError("gone"), RedisConnectionError("gone")]
)
async def test_relay_layer_that_fails_is_counted_and_goes_on(
    broker: Broker, backend: Broker, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Any layer may be used: the chain repairs what it drops, a traceback an event does not."""
    layer = Broken(error)
    listener = await Listener.on(layer, TOPIC)
    bridge = make_bridge(broker, layer)
    await bridge.relay_all()
    await settled(broker)
    await store(backend, TOPIC, 3)
    await until(lambda: bridge.relayed == 3)
    layer.error = None
    await store(backend, TOPIC)
    assert await listener.sequences(1) == [4]
    assert bridge.dropped == 3
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("topic", "durable"),
    [("user.7", True), ("user.7.a", True), ("room.a", True), ("live.a", False), ("users.7", False)],
)
def test_is_durable_patterns_decide(topic: str, durable: bool) -> None:
    assert is_durable(topic, DURABLE) is durable
