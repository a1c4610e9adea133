"""The project's settings with limits that a test reaches soon."""

from __future__ import annotations

from gateway_project.settings import *  # noqa: F403
from gateway_project.settings import REALTIME as _REALTIME

REALTIME = {
    **_REALTIME,
    "AUTH_DEADLINE": 8.0,
    "STREAM_MAX_PER_TOPIC": 50,
    "MAX_SUBSCRIPTIONS": 20,
    "MAX_PATTERNS": 5,
    "MAX_UNACKED": 5,
}
