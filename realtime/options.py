"""What every connection of a process obeys, from the settings."""

from __future__ import annotations

from .conf import settings
from .delivery import AckPolicy
from .protocol.limits import Rates
from .protocol.session import Limits
from .services import ConnectionOptions


def connection_options() -> ConnectionOptions:
    """Return what every connection shares, from the settings."""
    return ConnectionOptions(
        limits=Limits(
            open_topics=frozenset(settings.OPEN_TOPICS),
            request_topics=frozenset(settings.REQUEST_TOPICS),
            inbound=frozenset(settings.INBOUND),
            outbound=frozenset(settings.OUTBOUND),
            max_subscriptions=settings.MAX_SUBSCRIPTIONS,
            max_patterns=settings.MAX_PATTERNS,
            max_payload=settings.MAX_PAYLOAD_BYTES,
            rates=Rates(
                settings.FRAME_RATE, settings.FRAME_BURST, settings.BYTE_RATE, settings.BYTE_BURST
            ),
            user_rates=Rates(
                settings.USER_FRAME_RATE,
                settings.USER_FRAME_BURST,
                settings.USER_BYTE_RATE,
                settings.USER_BYTE_BURST,
            ),
        ),
        ack=AckPolicy(settings.ACK_WAIT, settings.ACK_TRIES, settings.MAX_UNACKED),
        session_key=settings.SESSION_KEY.encode(),
        session_max_age=settings.SESSION_MAX_AGE,
        auth_deadline=settings.AUTH_DEADLINE,
        heartbeat=settings.HEARTBEAT,
        store_timeout=settings.STORE_TIMEOUT,
        request_timeout=settings.REQUEST_TIMEOUT,
        publishes_in_flight=settings.MAX_PUBLISHES_IN_FLIGHT,
    )
