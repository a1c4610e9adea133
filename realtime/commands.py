"""What a backend can tell every gateway: end a user's sessions, ask again what they may.

Sent on NATS' control subjects; every gateway acts on its own sockets. Unconfirmed: a gateway
that is away from NATS at that moment asks again when the session's credential expires.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.dispatch import Signal
from msgspec import Struct

from . import link
from .broker import Broker
from .conf import settings
from .protocol.messages import ControlAcl, ControlUser, encode_message
from .protocol.subjects import Subjects

disconnected = Signal()
"""Sent when every gateway was told to close a user's sockets, with `user_id` and `reason`."""


def disconnect(user_id: int | str, reason: str = "") -> None:
    """Close all sockets of a user with 4502; they do not come back by themselves.

    Raises:
        Unavailable: when NATS cannot be reached.
    """
    subject, data = _user(user_id, ControlUser("disconnect", reason=reason or None))
    link.run(lambda broker: broker.publish(subject, data))
    disconnected.send(sender=disconnect, user_id=user_id, reason=reason)


def unsubscribe(user_id: int | str, topic: str) -> None:
    """Take a topic away from all sockets of a user.

    Raises:
        Unavailable: when NATS cannot be reached.
    """
    subject, data = _user(user_id, ControlUser("unsubscribe", topic=topic))
    link.run(lambda broker: broker.publish(subject, data))


def reauthorize(user_id: int | str) -> None:
    """Have the gateways ask again who a user's sockets are, soon; does not wait.

    A socket whose credential is no longer good is closed with 4502.
    """
    subject, data = _user(user_id, ControlUser("reauthorize"))
    link.post(lambda broker: broker.publish(subject, data), f"reauthorize user={user_id}")


def rules_changed(users: Iterable[int | str] | None) -> None:
    """Have the gateways ask again what users may, soon; does not wait. None: everyone."""
    subject = Subjects(settings.PREFIX).control_acl
    data = encode_message(ControlAcl(users=None if users is None else list(users)))

    async def send(broker: Broker) -> None:
        await broker.publish(subject, data)

    link.post(send, "rules_changed")


def _user(user_id: int | str, control: Struct) -> tuple[str, bytes]:
    return f"{Subjects(settings.PREFIX).control_user}.{user_id}", encode_message(control)
