"""The project's settings without throttles."""

from __future__ import annotations

from gateway_project.settings import *  # noqa: F403
from gateway_project.settings import REALTIME as _REALTIME

REALTIME = {**_REALTIME, "API_RATES": {"read": None, "write": None, "token": None}}
