"""A client of the gateway for Python programs: asyncio and `websockets`, no Django.

    from realtime.client import GatewayClient

    async with GatewayClient("ws://127.0.0.1:8000/ws/", token=token) as client:
        async for message in await client.subscribe("user.7.notifications"):
            print(message.seq_no, message.data)

It keeps sequences, comes back by itself, and tells of what cannot be had: docs/client.md.
"""

from .backoff import Backoff
from .client import GatewayClient
from .errors import (
    ClientError,
    Closed,
    Denied,
    Disconnected,
    LoginFailed,
    NoAnswer,
    QueueFull,
    Refused,
    Unsubscribed,
)
from .frames import (
    Confirmation,
    Dropped,
    Gap,
    Message,
    Notice,
    PresenceChange,
    Reset,
    Session,
)
from .link import State
from .login import fetch_token, log_in
from .options import Timing
from .subscription import Subscription

__all__ = [
    "Backoff",
    "ClientError",
    "Closed",
    "Confirmation",
    "Denied",
    "Disconnected",
    "Dropped",
    "Gap",
    "GatewayClient",
    "LoginFailed",
    "Message",
    "NoAnswer",
    "Notice",
    "PresenceChange",
    "QueueFull",
    "Refused",
    "Reset",
    "Session",
    "State",
    "Subscription",
    "Timing",
    "Unsubscribed",
    "fetch_token",
    "log_in",
]
