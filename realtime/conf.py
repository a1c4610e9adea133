"""Settings of the gateway: a typed, live view of the `REALTIME` dict in Django's settings.

Every setting is documented in docs/configuration.md; a wrong one fails `manage.py check`
(checks.py). Reading is live, so that `override_settings` works in tests.
"""

from __future__ import annotations

from typing import Any, Literal

from django.conf import settings as django_settings

from .protocol.rules import Rule, channel_rules
from .protocol.subjects import parse_topic

DEFAULTS: dict[str, Any] = {
    # NATS
    "NATS_URL": "nats://127.0.0.1:4222",
    "NATS_INBOX_PREFIX": "_INBOX",
    "NATS_CONNECT_TIMEOUT": 5.0,
    "PREFIX": "gateway",
    # Stream
    "STREAM": "GATEWAY",
    "DURABLE_TOPICS": ["user.>", "room.>"],
    "OPEN_TOPICS": ["user", "room", "live"],
    "REQUEST_TOPICS": ["rpc"],
    "INBOUND": [],
    "OUTBOUND": [],
    "STREAM_MAX_AGE": 7 * 86400.0,
    "STREAM_MAX_PER_TOPIC": 10_000,
    "STREAM_MAX_BYTES": 1024**3,
    "STREAM_REPLICAS": 1,
    "DEDUP_WINDOW": 300.0,
    "POSITIONS_BUCKET": "GATEWAY_POSITIONS",
    "POSITIONS_MAX_AGE": 90 * 86400.0,
    "PRESENCE_BUCKET": "GATEWAY_PRESENCE",
    "PRESENCE_MAX_AGE": 5.0,
    "PRESENCE_GRACE": 3.0,
    "STORE_TIMEOUT": 5.0,
    "HISTORY_TIMEOUT": 5.0,
    "REQUEST_TIMEOUT": 5.0,
    # Publishing from Django
    "OUTBOX": True,
    "OUTBOX_POLL_SECONDS": 0.25,
    # Bridge and fan-out
    "BRIDGE": "auto",
    "HOLD_SECONDS": 0.025,
    "TOP_CHECK_SECONDS": 3.0,
    "LINGER_SECONDS": 30.0,
    "RING_EVENTS": 128,
    # Sessions
    "AUTH_TIMEOUT": 2.0,
    "AUTH_DEADLINE": 10.0,
    "SESSION_KEY": "",
    "SESSION_MAX_AGE": 86400.0,
    "ALLOWED_ORIGINS": [],
    "HEARTBEAT": 25.0,
    "HEARTBEAT_TIMEOUT": 50.0,
    "ACK_WAIT": 30.0,
    "ACK_TRIES": 5,
    "MAX_UNACKED": 256,
    # Limits
    "MAX_CONNECTIONS": 20_000,
    "MAX_CONNECTIONS_PER_ADDRESS": 0,
    "MAX_CONNECTIONS_PER_USER": 0,
    "MAX_FRAME_BYTES": 64 * 1024,
    "MAX_PAYLOAD_BYTES": 60 * 1024,
    "MAX_BUFFER": 1024**2,
    "MAX_INBOUND": 256 * 1024,
    "MAX_SUBSCRIPTIONS": 100,
    "MAX_PATTERNS": 10,
    "MAX_PUBLISHES_IN_FLIGHT": 64,
    "FRAME_RATE": 500.0,
    "FRAME_BURST": 1000,
    "BYTE_RATE": 1024.0**2,
    "BYTE_BURST": 8 * 1024**2,
    "USER_FRAME_RATE": 2000.0,
    "USER_FRAME_BURST": 4000,
    "USER_BYTE_RATE": 4 * 1024.0**2,
    "USER_BYTE_BURST": 32 * 1024**2,
    # Compression
    "COMPRESSION": False,
    "COMPRESSION_MIN_BYTES": 256,
    # Observation
    "METRICS_TOKEN": "",
    "CANARY_SECONDS": 10.0,
    "TRACING": False,
    # REST API
    "API_TIMEOUT": 5.0,
    "API_MAX_BODY_BYTES": 1024**2,
    "API_MAX_DELIVERIES": 500,
    "API_RATES": {"read": "600/min", "write": "300/min", "token": "10/min"},
    # Socket.IO
    "SOCKETIO": [],
    # Process
    "FORWARDED_HEADER": "",
    "DRAIN_SECONDS": 3.0,
    "EVENT_LOOP": "uvloop",
}


class Settings:
    """Attribute access to `REALTIME`, with defaults; unknown names raise AttributeError."""

    # Durations in seconds, sizes in bytes.
    NATS_URL: str
    NATS_INBOX_PREFIX: str
    NATS_CONNECT_TIMEOUT: float
    PREFIX: str
    STREAM: str
    DURABLE_TOPICS: list[str]
    OPEN_TOPICS: list[str]
    REQUEST_TOPICS: list[str]
    INBOUND: list[str]
    OUTBOUND: list[str]
    STREAM_MAX_AGE: float
    STREAM_MAX_PER_TOPIC: int
    STREAM_MAX_BYTES: int
    STREAM_REPLICAS: int
    DEDUP_WINDOW: float
    POSITIONS_BUCKET: str
    POSITIONS_MAX_AGE: float
    PRESENCE_BUCKET: str
    PRESENCE_MAX_AGE: float
    PRESENCE_GRACE: float
    STORE_TIMEOUT: float
    HISTORY_TIMEOUT: float
    REQUEST_TIMEOUT: float
    OUTBOX: bool
    OUTBOX_POLL_SECONDS: float
    BRIDGE: Literal["auto", "process", "worker"]
    HOLD_SECONDS: float
    TOP_CHECK_SECONDS: float
    LINGER_SECONDS: float
    RING_EVENTS: int
    AUTH_TIMEOUT: float
    AUTH_DEADLINE: float
    SESSION_KEY: str
    SESSION_MAX_AGE: float
    ALLOWED_ORIGINS: list[str]
    HEARTBEAT: float
    HEARTBEAT_TIMEOUT: float
    ACK_WAIT: float
    ACK_TRIES: int
    MAX_UNACKED: int
    MAX_CONNECTIONS: int
    MAX_CONNECTIONS_PER_ADDRESS: int
    MAX_CONNECTIONS_PER_USER: int
    MAX_FRAME_BYTES: int
    MAX_PAYLOAD_BYTES: int
    MAX_BUFFER: int
    MAX_INBOUND: int
    MAX_SUBSCRIPTIONS: int
    MAX_PATTERNS: int
    MAX_PUBLISHES_IN_FLIGHT: int
    FRAME_RATE: float
    FRAME_BURST: int
    BYTE_RATE: float
    BYTE_BURST: int
    USER_FRAME_RATE: float
    USER_FRAME_BURST: int
    USER_BYTE_RATE: float
    USER_BYTE_BURST: int
    COMPRESSION: bool
    COMPRESSION_MIN_BYTES: int
    METRICS_TOKEN: str
    CANARY_SECONDS: float
    TRACING: bool
    API_TIMEOUT: float
    API_MAX_BODY_BYTES: int
    API_MAX_DELIVERIES: int
    API_RATES: dict[str, str | None]
    SOCKETIO: list[str]
    FORWARDED_HEADER: str
    DRAIN_SECONDS: float
    EVENT_LOOP: Literal["uvloop", "asyncio"]

    def topics_for(self, action: str) -> list[str]:
        """Return the leading tokens of topics that clients may name for an action."""
        return self.REQUEST_TOPICS if action == "request" else self.OPEN_TOPICS

    def channels_for(self, action: str) -> list[str]:
        """Return the event channels that every session may use for an action."""
        return self.INBOUND if action == "subscribe" else self.OUTBOUND

    def channel_rules(self) -> tuple[Rule, ...]:
        """Return what every session may do besides its own rules: use event channels."""
        return channel_rules(self.INBOUND, self.OUTBOUND)

    def require_topic(self, action: str, topic: str) -> None:
        """Return when clients may name the topic for an action; rules then say who may.

        Raises:
            BadTopic: when it is malformed or not open to clients.
        """
        parse_topic(topic, self.topics_for(action), self.channels_for(action))

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"REALTIME has no setting {name!r}")
        return getattr(django_settings, "REALTIME", {}).get(name, DEFAULTS[name])


settings = Settings()
