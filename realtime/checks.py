"""System checks: settings that cannot work, or do not do what one would think.

Ids are stable: `realtime.E0xx` stop `manage.py`, `realtime.W0xx` warn. Those of `check --deploy`
are in deploy_checks.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.management import get_commands

from . import tracing
from .conf import DEFAULTS, settings
from .protocol.exceptions import BadTopic
from .protocol.origins import parse_origin
from .protocol.subjects import STATS, covers, is_token, overlaps, parse_pattern, parse_topic

IN_PROCESS_LAYERS = frozenset(
    {"realtime.layers.InProcessChannelLayer", "channels.layers.InMemoryChannelLayer"}
)
SOCKETIO_TRANSPORTS = frozenset({"polling", "websocket"})
RESERVED = frozenset({"gateway", "_INBOX", STATS})
POSITIVE = (
    "NATS_CONNECT_TIMEOUT",
    "STORE_TIMEOUT",
    "HISTORY_TIMEOUT",
    "REQUEST_TIMEOUT",
    "AUTH_TIMEOUT",
    "AUTH_DEADLINE",
    "HEARTBEAT",
    "HEARTBEAT_TIMEOUT",
    "TOP_CHECK_SECONDS",
    "PRESENCE_MAX_AGE",
    "ACK_WAIT",
    "ACK_TRIES",
    "MAX_UNACKED",
    "MAX_FRAME_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_BUFFER",
    "MAX_INBOUND",
    "MAX_SUBSCRIPTIONS",
    "MAX_PUBLISHES_IN_FLIGHT",
    "FRAME_RATE",
    "FRAME_BURST",
    "BYTE_RATE",
    "BYTE_BURST",
    "USER_FRAME_RATE",
    "USER_FRAME_BURST",
    "USER_BYTE_RATE",
    "USER_BYTE_BURST",
    "API_TIMEOUT",
    "API_MAX_BODY_BYTES",
    "API_MAX_DELIVERIES",
    "RING_EVENTS",
    "STREAM_REPLICAS",
)
NOT_NEGATIVE = (
    "MAX_CONNECTIONS",
    "MAX_CONNECTIONS_PER_ADDRESS",
    "MAX_CONNECTIONS_PER_USER",
    "MAX_PATTERNS",
    "PRESENCE_GRACE",
    "CANARY_SECONDS",
    "COMPRESSION_MIN_BYTES",
)
"""0 is no limit, or none."""
TRUTH_VALUES = ("OUTBOX", "COMPRESSION", "TRACING")
NAMES = ("PREFIX", "STREAM", "POSITIONS_BUCKET", "PRESENCE_BUCKET")

_RATE = re.compile(r"[1-9]\d*/(?:s|sec|m|min|h|hour|d|day)", re.ASCII)


@register(Tags.compatibility)
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check names, numbers and topics in `REALTIME`."""
    found: list[CheckMessage] = []
    for name in sorted(set(getattr(django_settings, "REALTIME", {})) - set(DEFAULTS)):
        found.append(
            Error(
                f"REALTIME has no setting {name!r}.",
                hint="docs/configuration.md lists them all.",
                id="realtime.E001",
            )
        )
    for name in POSITIVE + NOT_NEGATIVE:
        value = getattr(settings, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 <= value < math.inf and (value or name in NOT_NEGATIVE)):
            wanted = "0 or more" if name in NOT_NEGATIVE else "over 0"
            found.append(
                Error(
                    f"REALTIME[{name!r}] is {value!r}, not a number {wanted}.", id="realtime.E002"
                )
            )
    found += [
        Error(
            f"REALTIME[{name!r}] is {getattr(settings, name)!r}, neither True nor False.",
            id="realtime.E013",
        )
        for name in TRUTH_VALUES
        if not isinstance(getattr(settings, name), bool)
    ]
    found += _check_names() + _check_topics() + _check_origins() + _check_rates()
    return found + _check_socketio() + _check_tracing()


@register(Tags.compatibility)
def check_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that `runworker` is the one that knows nats_bridge."""
    if get_commands().get("runworker") == "realtime":
        return []
    return [
        Warning(
            "`manage.py runworker nats_bridge` would be Channels' own worker.",
            hint="List 'realtime' above 'channels' in INSTALLED_APPS.",
            id="realtime.W001",
        )
    ]


@register(Tags.compatibility)
def check_bridge(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that events find their way from the bridge to the sockets."""
    if settings.BRIDGE not in ("auto", "process", "worker"):
        return [
            Error(
                f"REALTIME['BRIDGE'] is {settings.BRIDGE!r}.",
                hint="Use 'auto', 'process' or 'worker'.",
                id="realtime.E005",
            )
        ]
    backend = django_settings.CHANNEL_LAYERS.get("default", {}).get("BACKEND", "")
    own = backend == "realtime.layers.InProcessChannelLayer"
    workers = settings.BRIDGE == "worker" or (settings.BRIDGE == "auto" and not own)
    if workers and backend in IN_PROCESS_LAYERS:
        return [
            Error(
                "Bridges run as workers, but the channel layer stays within one process.",
                hint="Set REDIS_URL, or set REALTIME['BRIDGE'] to 'process'.",
                id="realtime.E006",
            )
        ]
    return []


def _check_tracing() -> list[CheckMessage]:
    if not settings.TRACING or tracing.INSTALLED:
        return []
    return [
        Error(
            "REALTIME['TRACING'] is on, but opentelemetry-api is not installed.",
            hint="Install opentelemetry-sdk and an exporter, or leave it off.",
            id="realtime.E012",
        )
    ]


def _check_names() -> list[CheckMessage]:
    # With a dot or a wildcard the subjects below would be others than the checks here know.
    return [
        Error(
            f"REALTIME[{name!r}] is {value!r}: give it letters, digits, '-' and '_'.",
            id="realtime.E014",
        )
        for name in NAMES
        if not isinstance(value := getattr(settings, name), str) or not is_token(value)
    ]


def _check_topics() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for name in ("OPEN_TOPICS", "REQUEST_TOPICS"):
        for token in _listed(getattr(settings, name)):
            if is_token(token) and token not in RESERVED and token != settings.PREFIX:
                continue
            found.append(
                Error(
                    f"REALTIME[{name!r}] has {token!r}, which cannot be open to clients.",
                    hint="Use leading tokens such as 'user' or 'room', not the gateway's own.",
                    id="realtime.E003",
                )
            )
    found += _check_patterns(settings.DURABLE_TOPICS)
    return found + _check_channels()


def _check_channels() -> list[CheckMessage]:
    return [
        Error(
            f"REALTIME[{name!r}] has {channel!r}: {reason}",
            hint="Name event channels by one or more tokens, for example 'OUT' or 'news.sport'.",
            id="realtime.E009",
        )
        for name in ("INBOUND", "OUTBOUND")
        for channel in _listed(getattr(settings, name))
        if (reason := _why_no_channel(channel))
    ]


def _why_no_channel(channel: object) -> str:
    """Return why this cannot be the name of an event channel; empty: it can."""
    if not isinstance(channel, str):
        return "a name is text."
    leading = channel.partition(".")[0]
    if leading in RESERVED | {settings.PREFIX, settings.NATS_INBOX_PREFIX.partition(".")[0]}:
        return "the gateway and NATS use that name themselves."
    try:
        parse_topic(channel, [leading])
    except BadTopic as exc:
        return exc.message
    durable = [one for one in _listed(settings.DURABLE_TOPICS) if covers(one, channel)]
    if durable:
        return f"the stream stores it ({durable[0]!r}), and event channels are not stored."
    return ""


def _check_patterns(patterns: Sequence[str]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    own = (f"{settings.PREFIX}.>", f"{settings.NATS_INBOX_PREFIX}.>")
    for pattern in _listed(patterns):
        try:
            parse_pattern(pattern)
            bad = any(overlaps(pattern, one) for one in own) or "{" in pattern
            reason = "it would store the gateway's own subjects." if bad else ""
        except BadTopic as exc:
            reason = exc.message
        if reason:
            found.append(
                Error(f"REALTIME['DURABLE_TOPICS'] has {pattern!r}: {reason}", id="realtime.E004")
            )
    return found


def _listed(value: Sequence[str]) -> Sequence[str]:
    """Return a setting's list; a lone string in its place becomes an entry that cannot be."""
    return [f"{value!r}: write a list"] if isinstance(value, str) else value


def _check_origins() -> list[CheckMessage]:
    return [
        Error(
            f"REALTIME['ALLOWED_ORIGINS'] has {origin!r}, which is no origin.",
            hint="Write scheme, host and port, for example 'https://app.example.com'.",
            id="realtime.E007",
        )
        for origin in settings.ALLOWED_ORIGINS
        if parse_origin(origin) is None
    ]


def _check_rates() -> list[CheckMessage]:
    rates, scopes = settings.API_RATES, set(DEFAULTS["API_RATES"])
    if isinstance(rates, dict) and set(rates) == scopes:
        wrong = [one for one in rates.values() if one is not None and not _RATE.fullmatch(str(one))]
    else:
        wrong = [rates]
    return [
        Error(
            f"REALTIME['API_RATES'] has {one!r}.",
            hint=f"Give each of {', '.join(sorted(scopes))} a rate such as '600/min' (a number"
            " over 0, and s, min, h or d), or None for no limit.",
            id="realtime.E008",
        )
        for one in wrong
    ]


def _check_socketio() -> list[CheckMessage]:
    wrong = sorted({str(one) for one in _listed(settings.SOCKETIO)} - SOCKETIO_TRANSPORTS)
    if wrong:
        return [
            Error(
                f"REALTIME['SOCKETIO'] has {wrong[0]!r}, which is no transport of Socket.IO.",
                hint="List 'websocket', or 'websocket' and 'polling'; nothing turns it off.",
                id="realtime.E010",
            )
        ]
    if settings.SOCKETIO and find_spec("socketio") is None:
        return [
            Error(
                "REALTIME['SOCKETIO'] is on, but python-socketio is not installed.",
                hint="Install what requirements.txt lists.",
                id="realtime.E011",
            )
        ]
    return []
