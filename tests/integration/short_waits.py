"""The project's settings with short waits and small windows, for gateways of these tests.

What a test needs longer or larger it says in the environment of its gateway.
"""

from __future__ import annotations

import os

from gateway_project.settings import *  # noqa: F403
from gateway_project.settings import REALTIME as _REALTIME

REALTIME = {
    **_REALTIME,
    "ACK_WAIT": float(os.environ.get("ACK_WAIT", "0.3")),
    "ACK_TRIES": int(os.environ.get("ACK_TRIES", "3")),
    "MAX_UNACKED": int(os.environ.get("MAX_UNACKED", "8")),
    "STREAM_MAX_PER_TOPIC": int(os.environ.get("STREAM_MAX_PER_TOPIC", "100")),
    "TOP_CHECK_SECONDS": 0.3,
}
