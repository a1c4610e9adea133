"""Parts: brokers, history, fan-out and the like, made as the settings say."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from .admission import Admission
from .authentication import Authenticator
from .bridge import Bridge, is_durable
from .broker import Broker
from .conf import settings
from .fanout import Fanout, FanoutOptions
from .history import History
from .holders import Holders
from .metrics import Metrics
from .patterns import Patterns
from .positions import Positions
from .presence import Presence
from .protocol.subjects import Subjects
from .rosters import Rosters
from .selfcheck import SelfCheck

NANOSECONDS = 10**9


def stream_config() -> dict[str, Any]:
    """Return the stream as JetStream takes it (durations in nanoseconds)."""
    return {
        "name": settings.STREAM,
        "subjects": list(settings.DURABLE_TOPICS),
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": int(settings.STREAM_MAX_AGE * NANOSECONDS),
        "max_msgs_per_subject": settings.STREAM_MAX_PER_TOPIC,
        "max_bytes": settings.STREAM_MAX_BYTES,
        "num_replicas": settings.STREAM_REPLICAS,
        "duplicate_window": int(settings.DEDUP_WINDOW * NANOSECONDS),
        "allow_direct": True,
        "republish": {"src": ">", "dest": f"{Subjects(settings.PREFIX).relay}.>"},
    }


def canary_topic() -> str:
    """Return a topic for this process alone, one that the stream does not store if there is one."""
    name = f"gateway-canary.{uuid.uuid4().hex[:12]}"
    topics = [f"{token}.{name}" for token in settings.OPEN_TOPICS or ["user"]]
    return next((it for it in topics if not is_durable(it, settings.DURABLE_TOPICS)), topics[0])


def make_broker(name: str) -> Broker:
    """Return a broker for this process, not yet connected."""
    return Broker(
        settings.NATS_URL,
        name=name,
        inbox_prefix=settings.NATS_INBOX_PREFIX,
        connect_timeout=settings.NATS_CONNECT_TIMEOUT,
    )


def make_history(broker: Broker) -> History:
    """Return the history of the configured stream."""
    return History(broker, stream_config(), timeout=settings.HISTORY_TIMEOUT)


def make_positions(broker: Broker) -> Positions:
    """Return the configured durable positions."""
    return Positions(
        broker,
        settings.POSITIONS_BUCKET,
        replicas=settings.STREAM_REPLICAS,
        max_age=settings.POSITIONS_MAX_AGE,
        timeout=settings.STORE_TIMEOUT,
    )


def make_presence(
    broker: Broker, holders: Holders, ask: Callable[[str], Awaitable[list[dict[str, Any]]]]
) -> Presence:
    """Return who is on a topic, over all gateways.

    Args:
        ask: who is on a topic that nobody here watches.
    """
    rosters = Rosters(
        broker,
        settings.PRESENCE_BUCKET,
        replicas=settings.STREAM_REPLICAS,
        max_age=settings.PRESENCE_MAX_AGE,
        timeout=settings.HISTORY_TIMEOUT,
    )
    return Presence(rosters, holders, ask, grace=settings.PRESENCE_GRACE)


def make_bridge(broker: Broker, layer: Any) -> Bridge:
    """Return a bridge into a channel layer."""
    return Bridge(
        broker,
        layer,
        Subjects(settings.PREFIX),
        durable_topics=settings.DURABLE_TOPICS,
        open_topics=settings.OPEN_TOPICS,
        channels=settings.INBOUND,
    )


def bridge_in_process(layer: Any) -> bool:
    """Say whether web processes run their own bridge."""
    if settings.BRIDGE == "auto":
        return bool(getattr(layer, "in_process", False))
    return settings.BRIDGE == "process"


def make_admission(metrics: Metrics) -> Admission:
    """Return how many connections a process takes."""
    return Admission(
        metrics,
        total=settings.MAX_CONNECTIONS,
        per_address=settings.MAX_CONNECTIONS_PER_ADDRESS,
        per_user=settings.MAX_CONNECTIONS_PER_USER,
    )


def make_fanout(
    layer: Any, broker: Broker, history: History, bridge: Bridge | None, metrics: Metrics
) -> Fanout:
    """Return the fan-out of a process.

    Args:
        bridge: the process's own; None where bridges run as workers.
    """
    durable = tuple(settings.DURABLE_TOPICS)
    options = FanoutOptions(
        durable_topics=durable,
        hold=settings.HOLD_SECONDS,
        check_interval=settings.TOP_CHECK_SECONDS,
        linger=settings.LINGER_SECONDS,
        ring_events=settings.RING_EVENTS,
    )
    patterns = Patterns(broker, history, Subjects(settings.PREFIX), durable_topics=durable)
    return Fanout(layer, history, bridge, options, metrics, patterns=patterns)


def make_authenticator(broker: Broker, metrics: Metrics) -> Authenticator:
    """Return what asks the backend who a socket is."""
    subject, rules = Subjects(settings.PREFIX).auth, settings.channel_rules()
    return Authenticator(broker, subject, settings.AUTH_TIMEOUT, metrics, rules)


def make_selfcheck(
    broker: Broker, fanout: Fanout, metrics: Metrics, beat: Callable[[], None]
) -> SelfCheck:
    """Return what watches the event loop and sends the canary.

    Args:
        beat: called every second or so.
    """
    every = settings.CANARY_SECONDS
    return SelfCheck(broker, fanout, metrics, topic=canary_topic(), every=every, beat=beat)
