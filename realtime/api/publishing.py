"""A batch of events on its way to the stream: each topic in order, each failure told by itself."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Sequence

from msgspec import Struct

from .. import publish
from ..broker import Broker
from ..conf import settings
from ..protocol.exceptions import ErrorCode, GatewayError, Unavailable
from ..protocol.messages import MESSAGE_ID, MSG_ID, USER
from .access import GRACE, run
from .bodies import Delivery, DeliveryError, DeliveryStatus, EventInput
from .inputs import InputError, InvalidInput

AT_ONCE = 64
"""Confirmations of the stream that one request waits for at once."""

NOT_SENT = "It was not sent, to keep the order: the event before it on this topic failed."

KEY_PATTERN = '^("[A-Za-z0-9._:~-]{1,100}"|[A-Za-z0-9._:~-]{1,100})$'
_KEY = re.compile(r'("?)([A-Za-z0-9._:~-]{1,100})\1')


class Plan(Struct, frozen=True):
    """One event for one topic.

    Attributes:
        user_id: who publishes it.
        recipient: whose notifications the topic is of, where a user was named.
    """

    event: int
    topic: str
    message_id: str
    payload: bytes
    user_id: str
    recipient: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The NATS headers. JetStream deduplicates over all topics, so the topic is in the key."""
        return {
            MSG_ID: f"{self.user_id}:{self.message_id}:{self.topic}",
            MESSAGE_ID: self.message_id,
            USER: self.user_id,
        }

    def failed(self, exc: GatewayError) -> Delivery:
        """Return the result of a failure."""
        error = DeliveryError(exc.code, exc.message)
        return Delivery(self.event, self.topic, self.message_id, "failed", error=error)


def plans_for(events: Sequence[EventInput], user_id: str, key: str | None) -> list[Plan]:
    """Return what is to be published, in the order of the request.

    Args:
        user_id: who publishes it.
        key: the Idempotency-Key, if any.

    Raises:
        InvalidInput: when it is more than API_MAX_DELIVERIES, or the key is malformed.
    """
    prefix = str(uuid.uuid4()) if key is None else _parse_key(key)
    plans = []
    for number, event in enumerate(events):
        message_id = event.message_id or f"{prefix}:{number}"
        payload = bytes(event.data)
        for topic, recipient in _targets_of(event).items():
            plans.append(Plan(number, topic, message_id, payload, user_id, recipient))
    if len(plans) > settings.API_MAX_DELIVERIES:
        detail = (
            f"These are {len(plans)} deliveries (events times topics); a request has at most"
            f" {settings.API_MAX_DELIVERIES}: send several."
        )
        raise InvalidInput(InputError(detail, "#/events"))
    return plans


def publish_all(plans: Sequence[Plan]) -> list[Delivery]:
    """Publish and return what became of each, in the same order.

    Raises:
        Unavailable: when none of them was confirmed, for want of NATS.
    """
    deadline = time.monotonic() + settings.API_TIMEOUT
    results = run(lambda broker: deliver(broker, plans, deadline), grace=GRACE)
    reasons = [one.error for one in results if one.error]
    if len(reasons) == len(results) and all(one.code == ErrorCode.UNAVAILABLE for one in reasons):
        raise Unavailable(
            f"No event was confirmed: {reasons[0].detail} Send the request again, with the same"
            " Idempotency-Key."
        )
    return results


async def deliver(broker: Broker, plans: Sequence[Plan], deadline: float) -> list[Delivery]:
    """Publish each topic's events in order, many topics at once.

    Args:
        deadline: in seconds of `time.monotonic`; what is not confirmed by then has failed.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    results: dict[int, Delivery] = {}
    topics: dict[str, list[int]] = {}
    for number, plan in enumerate(plans):
        topics.setdefault(plan.topic, []).append(number)

    async def deliver_topic(numbers: list[int]) -> None:
        unsure = False
        for number in numbers:
            plan = plans[number]
            if unsure:
                results[number] = plan.failed(Unavailable(NOT_SENT))
                continue
            try:
                async with gate, asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                    results[number] = await _publish(broker, plan)
            except TimeoutError:
                unsure = True
                results[number] = plan.failed(Unavailable("The stream did not confirm it in time."))
            except GatewayError as exc:
                # What is wrong by itself (its size, say) holds up nothing.
                unsure = isinstance(exc, Unavailable)
                results[number] = plan.failed(exc)

    await asyncio.gather(*map(deliver_topic, topics.values()))
    return [results[number] for number in range(len(plans))]


async def _publish(broker: Broker, plan: Plan) -> Delivery:
    if plan.recipient is not None:
        # 'a.b' would make a topic too, but nobody's notifications.
        publish.notifications_of(plan.recipient)
    payload = publish.encode(plan.topic, plan.payload)
    stored = await publish.send_with(broker, plan.topic, payload, plan.headers)
    if not stored.sequence:
        return Delivery(plan.event, plan.topic, plan.message_id, "sent")
    status: DeliveryStatus = "duplicate" if stored.duplicate else "stored"
    return Delivery(plan.event, plan.topic, plan.message_id, status, stored.sequence)


def _parse_key(key: str) -> str:
    """Return an Idempotency-Key, which may be quoted as a structured field (RFC 8941)."""
    found = _KEY.fullmatch(key)
    if found is None:
        detail = "An Idempotency-Key is 1 to 100 letters, digits or '._:~-', quoted or not."
        raise InvalidInput(InputError(detail, parameter="Idempotency-Key"))
    return found[2]


def _targets_of(event: EventInput) -> dict[str, str | None]:
    """Return each topic once, and whose notifications it is of."""
    topics: dict[str, str | None] = dict.fromkeys(event.topics or ())
    return topics | {f"user.{user}.notifications": str(user) for user in event.users or ()}
