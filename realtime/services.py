"""What the connections of a process share: the services they use and the options they obey."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from .admission import Admission
from .authentication import Authenticator
from .broker import Broker
from .delivery import AckPolicy
from .fanout import Fanout
from .holders import Holders
from .metrics import Metrics
from .positions import Positions
from .presence import Presence
from .protocol.gateway_frames import GatewayFrame
from .protocol.session import Limits

Send = Callable[[GatewayFrame], None]


class ConnectionOptions(Struct, frozen=True):
    """What every connection of a process obeys. Durations in seconds."""

    limits: Limits
    ack: AckPolicy
    session_key: bytes
    session_max_age: float
    auth_deadline: float
    heartbeat: float
    store_timeout: float
    request_timeout: float
    publishes_in_flight: int
    expiry_notice: float = 60.0


class Services(Struct, frozen=True):
    """The parts of a process that connections use.

    Attributes:
        holders: the sessions of this process, by topic.
        presence: who is on a topic, over all gateways, and who comes and goes.
        connections: the authenticated connections of this process, by user.
        changes: counts what the backend said of rules and credentials so far.
    """

    broker: Broker
    authenticator: Authenticator
    fanout: Fanout
    positions: Positions
    options: ConnectionOptions
    holders: Holders
    presence: Presence
    connections: dict[str, set[Any]]
    admission: Admission
    metrics: Metrics
    changes: Callable[[], int] = lambda: 0
