"""The bridge: what the stream republishes (and ephemeral topics) into channel-layer groups.

One class in two places. `runworker nats_bridge` relays everything, several sharing the work
in a queue group. Inside a web process it follows just the topics that have local sockets.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from . import tracing
from .broker import Broker
from .nats_client import Message, Subscription
from .protocol.exceptions import BadTopic
from .protocol.limits import RateLimit
from .protocol.messages import Event, ephemeral_event, event_from, relayed_event
from .protocol.subjects import Subjects, covers, group_for, is_local

logger = logging.getLogger(__name__)

EVENT_TYPE = "gateway.event"
"""The constant `type` of every layer message: what comes from NATS never chooses a handler."""
QUEUE = "bridge"

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Event).decode


def is_durable(topic: str, durable_topics: Iterable[str]) -> bool:
    """Say whether the stream stores the topic."""
    return any(covers(pattern, topic) for pattern in durable_topics)


def event_of(layer_message: dict[str, Any]) -> Event:
    """Return the event that rides in a layer message."""
    event = layer_message["event"]
    return event if isinstance(event, Event) else _unpack(event)


class Bridge:
    """NATS to groups.

    Args:
        layer: any channel layer.
        durable_topics: patterns that the stream stores.
        open_topics: leading tokens that are open to clients.
        channels: names of inbound event channels.
    """

    def __init__(
        self,
        broker: Broker,
        layer: Any,
        subjects: Subjects,
        *,
        durable_topics: Iterable[str],
        open_topics: Iterable[str],
        channels: Iterable[str] = (),
    ) -> None:
        self._broker = broker
        self._layer = layer
        self._subjects = subjects
        self._durable = tuple(durable_topics)
        self._open = tuple(open_topics)
        self._channels = tuple(channels)
        self._followed: dict[str, Subscription] = {}
        self._as_is = getattr(layer, "in_process", False)
        self._origin = uuid.uuid4().hex[:12]
        self._complaints = RateLimit(rate=0.2, burst=3)
        self.relayed = 0
        self.dropped = 0

    async def relay_all(self) -> None:
        """Relay every topic, sharing the work with the other bridges.

        Raises:
            Unavailable: when NATS refuses a subscription.
        """
        wanted = [(self._subjects.relay_of(">"), self._stored)]
        wanted += [
            (f"{token}.>", self._ephemeral)
            for token in self._open
            if f"{token}.>" not in self._durable
        ]
        # Within an open topic it is relayed already, and would come twice.
        wanted += [
            (name, self._ephemeral)
            for name in dict.fromkeys(self._channels)
            if not any(covers(f"{token}.>", name) for token in self._open)
        ]
        for subject, handler in wanted:
            subscription = await self._broker.subscribe(subject, handler, queue=QUEUE)
            self._followed[subject] = subscription

    async def stop(self) -> None:
        """Relay nothing more, and give the layer time to send what it queued."""
        for topic in tuple(self._followed):
            await self.unfollow(topic)
        if (settle := getattr(self._layer, "settle", None)) is not None:
            await settle()

    async def follow(self, topic: str) -> None:
        """Relay one topic, until `unfollow`: all that is published from now on.

        Raises:
            Unavailable: when NATS refuses the subscription, or does not answer.
        """
        if topic in self._followed or is_local(topic):
            return
        if is_durable(topic, self._durable):
            relay = self._subjects.relay_of(topic)
            self._followed[topic] = await self._broker.subscribe(relay, self._stored)
        else:
            self._followed[topic] = await self._broker.subscribe(topic, self._ephemeral)
            # Nobody asks the stream for its top here, which would tell that NATS has it.
            await self._broker.flush()

    async def unfollow(self, topic: str) -> None:
        """Stop relaying one topic."""
        subscription = self._followed.pop(topic, None)
        if subscription is not None:
            await self._broker.unsubscribe(subscription)

    async def _stored(self, message: Message) -> None:
        topic = self._subjects.topic_of(message.subject)
        try:
            event = relayed_event(topic, message.data, message.head)
            if event is None:
                event = event_from(topic, message.data, message.headers)
        except (KeyError, ValueError):
            logger.warning("not from the stream, dropped subject=%s", message.subject)
            return
        await self._send(event, message)

    async def _ephemeral(self, message: Message) -> None:
        topic = message.subject
        if is_durable(topic, self._durable):
            return
        await self._send(
            ephemeral_event(
                topic,
                message.data,
                message.headers,
                message_id=f"{self._origin}-{self.relayed}",
                timestamp=int(time.time() * 1000),
            ),
            message,
        )

    async def _send(self, event: Event, message: Message) -> None:
        self.relayed += 1
        if tracing.tracer is not None:
            event = tracing.carrying(event, message.headers)
        packed = event if self._as_is else _pack(event)
        try:
            await self._layer.group_send(
                group_for(event.topic), {"type": EVENT_TYPE, "event": packed}
            )
        except BadTopic:
            # Some backend's subject that no client can name.
            logger.debug("not a topic, dropped subject=%s", event.topic)
        except Exception as exc:
            # A layer is the team's choice and may raise anything. The chain of every web
            # process sees the hole and fetches it from the stream.
            self.dropped += 1
            if self._complaints.allows(time.monotonic()):
                logger.warning("channel layer did not take an event reason=%r", exc)
