"""The topics that a client wants, joined on every connection from where they were left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from .errors import ClientError, Closed, NoAnswer, Refused, Unsubscribed
from .frames import (
    Failure,
    Frame,
    Gap,
    Left,
    Message,
    Notice,
    PresenceChange,
    Reset,
    Subscribed,
    encode_frame,
)
from .options import SubscribeOptions
from .subscription import Subscription

logger = logging.getLogger(__name__)

REASONS = {
    "acl": "The rules no longer allow it.",
    "server": "The backend ended the subscription.",
}


class Ask(Protocol):
    """Send a question and return its answer, or raise a ClientError."""

    def __call__(self, type_: str, fields: Mapping[str, Any]) -> Awaitable[Frame]:
        """Ask."""


class Topics:
    """The subscriptions of one client; what each of them needs of it (its Hooks).

    Args:
        send: says whether there was a connection to send a frame over.
        connected: says whether there is one.
        notify: tells the application of a Gap, a Reset or Dropped events.
        again: seconds after a refusal that may pass.
        patience: seconds without progress, before a hole is asked for again.
    """

    def __init__(
        self,
        *,
        send: Callable[[bytes], bool],
        ask: Ask,
        connected: Callable[[], bool],
        notify: Callable[[Notice], None],
        again: float,
        patience: float,
    ) -> None:
        self.notify = notify
        self._send = send
        self._ask = ask
        self._connected = connected
        self._again = again
        self._patience = patience
        self._held: dict[str, Subscription] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The topics that are wanted."""
        return tuple(self._held)

    def get(self, topic: str) -> Subscription | None:
        """Return the subscription to a topic, if it is held."""
        return self._held.get(topic)

    def hold(self, topic: str, options: SubscribeOptions) -> Subscription:
        """Want a topic from now on.

        Raises:
            ValueError: when it is wanted already.
        """
        if topic in self._held:
            raise ValueError(f"{topic!r} is subscribed to already: iterate over that.")
        subscription = self._held[topic] = Subscription(topic, options, self, self._patience)
        self.join(subscription)
        return subscription

    def drop(self, subscription: Subscription, error: ClientError) -> None:
        """Want a topic no longer; its iteration ends with the error."""
        if self._held.get(subscription.topic) is subscription:
            del self._held[subscription.topic]
        subscription.end(error)

    def ready(self) -> None:
        """Join everything: a connection is open."""
        for subscription in self._held.values():
            if not subscription.paused:
                self.join(subscription)

    def disconnected(self) -> None:
        """Note that the connection is gone."""
        for subscription in self._held.values():
            subscription.restart()

    async def close(self, error: Callable[[], ClientError]) -> None:
        """End every iteration, and what runs for it."""
        for subscription in tuple(self._held.values()):
            self.drop(subscription, error())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def receive(self, frame: Frame) -> None:
        """Take in a frame about a topic."""
        topic: str | None = getattr(frame, "pattern", None) or getattr(frame, "topic", None)
        subscription = self._held.get(topic) if topic is not None else None
        if subscription is None:
            return  # left meanwhile, or granted by the backend and not asked for
        match frame:
            case Message():
                subscription.receive(frame)
            case Subscribed(id=frame_id):
                # Without an id the backend granted the topic; this client's own `subscribe`,
                # which says from where, is on its way.
                if frame_id is not None and not subscription.paused:
                    subscription.subscribed(frame)
            case Gap():
                subscription.skip(frame)
            case Reset():
                subscription.reset(frame.epoch)
            case PresenceChange():
                subscription.present(frame)
            case Left(reason=reason) if reason != "client":
                message = REASONS.get(reason, "The gateway ended the subscription.")
                self.drop(
                    subscription, Unsubscribed(message, reason=reason, topic=subscription.topic)
                )
            case Failure(code=code, message=message, id=None):
                if Refused(code, message).passing:
                    subscription.excuse()

    # What a subscription asks for.

    def send(self, type_: str, **fields: Any) -> bool:
        """Send a frame; say whether there was a connection to send it over."""
        return self._send(encode_frame(type_, fields))

    def join(self, subscription: Subscription) -> None:
        """Send `subscribe`; without a connection the next one does."""
        if self._connected():
            self._spawn(self._join(subscription))

    def replay(self, subscription: Subscription, from_seq: int) -> None:
        """Ask for what the stream holds from a sequence on."""
        self._spawn(self._replay(subscription, from_seq))

    async def _join(self, subscription: Subscription) -> None:
        topic = subscription.topic
        while self._wants(subscription):
            try:
                await self._ask("subscribe", subscription.fields())
                return
            except Refused as exc:
                if not exc.passing:
                    error: ClientError = exc
                    if subscription.settled.is_set():
                        error = Unsubscribed(exc.message, reason=exc.code, topic=topic)
                    self.drop(subscription, error)
                    return
            except NoAnswer:
                logger.warning("no answer to subscribe, asking again topic=%s", topic)
            except ClientError:
                return  # the connection is gone: the next one joins it
            await asyncio.sleep(self._again)

    def _wants(self, subscription: Subscription) -> bool:
        wanted = self._held.get(subscription.topic) is subscription
        return wanted and self._connected() and not subscription.joined and not subscription.paused

    async def _replay(self, subscription: Subscription, from_seq: int) -> None:
        # It has no answer of its own, only a refusal. Frames are handled in order: once a ping
        # sent behind it is answered, it has been taken up.
        fields = {"topic": subscription.topic, "fromSeq": from_seq}
        refusal = asyncio.ensure_future(self._ask("replay", fields))
        taken = asyncio.ensure_future(self._ask("ping", {}))
        try:
            await asyncio.wait({refusal, taken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            refusal.cancel()
            taken.cancel()
            results = await asyncio.gather(refusal, taken, return_exceptions=True)
        if isinstance(results[0], Refused) and results[0].passing:
            subscription.excuse()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def closed(topic: str) -> Closed:
    """Return the error that ends the iteration over a topic quietly."""
    return Closed("It was unsubscribed from.", topic=topic)
