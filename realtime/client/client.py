"""The client: one connection that comes back by itself, topics without loss or repeats."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from .core import ClientCore
from .errors import Disconnected, NoAnswer, Refused
from .frames import (
    Confirmation,
    Frame,
    Message,
    PresenceChange,
    Reply,
    Session,
    message_from,
)
from .options import SubscribeOptions
from .subscription import Subscription
from .topics import closed

T = TypeVar("T")


class GatewayClient(ClientCore):
    """A client of the gateway. Use it as `async with GatewayClient(url, token=…) as client`."""

    # Topics.

    async def subscribe(
        self,
        topic: str,
        *,
        since: int | None = None,
        epoch: str | None = None,
        qos: int = 0,
        durable: str | None = None,
        ack: str = "auto",
        queue: int = 1000,
        on_presence: Callable[[PresenceChange], None] | None = None,
        wait: bool = True,
    ) -> Subscription:
        """Join a topic, and join it again after every reconnect from where it was left.

        Args:
            since: last sequence already processed: what the stream holds after it comes first.
            epoch: of the stream that `since` belongs to.
            qos: 1: every event is confirmed, and sent again until it is.
            durable: name under which the gateway keeps the confirmed position; implies QoS 1.
            ack: `auto`: a message is confirmed when the next one is asked for; `manual`: by
                `ack`.
            queue: messages that may wait to be taken: see Subscription.
            on_presence: called with who comes to the topic and who leaves it; begin with what
                `presence` returns, and ask that again after a reconnect.
            wait: False: do not wait for the gateway's word; a refusal ends the iteration.

        Raises:
            Refused, Denied, Closed, NoAnswer: then it is not held.
            ValueError: when it is held already, or an option has a wrong value.
        """
        self._require_running(topic)
        options = SubscribeOptions(since, epoch, qos, durable, ack, queue, on_presence)
        subscription = self._topics.hold(topic, options)
        if not wait:
            return subscription
        try:
            async with asyncio.timeout(self._timing.reply):
                await subscription.settled.wait()
        except BaseException as exc:
            self._topics.drop(subscription, closed(topic))
            if isinstance(exc, TimeoutError):
                message = f"The subscription was not confirmed within {self._timing.reply:g} s."
                raise NoAnswer(message, topic=topic) from exc
            raise
        subscription.require_held()
        return subscription

    async def unsubscribe(self, topic: str) -> None:
        """Leave a topic; its iteration ends. Nothing happens when it is not held.

        Raises:
            NoAnswer: the gateway did not confirm it; it is not joined again all the same.
        """
        subscription = self._topics.get(topic)
        if subscription is None:
            return
        self._topics.drop(subscription, closed(topic))
        if not self._link.connected:
            return
        try:
            await self._ask("unsubscribe", {"topic": topic})
        except Disconnected:
            return
        except Refused as exc:
            if exc.code != "NOT_SUBSCRIBED":
                raise

    def ack(self, message: Message) -> None:
        """Confirm an event, and all before it on its topic (QoS 1, `ack="manual"`)."""
        if (subscription := self._topics.get(message.pattern or message.topic)) is not None:
            subscription.ack(message)

    # Questions.

    async def refresh(self, token: str) -> Session:
        """Give the open session a new token.

        Raises:
            Refused, Disconnected, NoAnswer: the session goes on as it was.
        """
        frame = await self._ask("refresh", {"token": token})
        return _expected(Session, frame)

    async def publish(
        self,
        topic: str,
        payload: Any,
        *,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Confirmation:
        """Store and deliver a payload, exactly once however often the connection is lost.

        Args:
            payload: anything that JSON can say.
            message_id: the same one within the deduplication window is stored once.
            timeout: seconds, over reconnects.

        Raises:
            Refused: the gateway refused it for good.
            NoAnswer: it was not confirmed in time; it may be stored all the same.
            QueueFull, Denied, Closed: it was not taken.
        """
        self._require_running(topic)
        return await self._outbox.post(
            self._replies.next_id(),
            topic,
            message_id or uuid.uuid4().hex,
            payload,
            timeout=self._timing.publish if timeout is None else timeout,
        )

    async def request(self, topic: str, payload: Any = None, *, timeout: float = 5.0) -> Any:
        """Ask a backend, and return what it answered.

        Args:
            timeout: seconds that the backend may take, at most 60.

        Raises:
            Refused: with the code `NO_RESPONDER` nobody listens there, with `TIMEOUT` somebody
                does, but did not answer in time.
            Disconnected, NoAnswer: it may have been handled all the same.
        """
        fields = {"topic": topic, "payload": payload, "timeout": timeout}
        frame = await self._ask("request", fields, timeout + self._timing.reply)
        return _expected(Reply, frame).data

    async def history(
        self, topic: str, *, limit: int | None = None, before: int | None = None
    ) -> list[Message]:
        """Return a page of stored events, newest last; `before`: only smaller sequences."""
        frame = await self._ask("history", {"topic": topic, "limit": limit, "before": before})
        return [message_from(one) for one in _expected(Reply, frame).data]

    async def presence(self, topic: str) -> list[dict[str, Any]]:
        """Return who is subscribed: `userId`, `connections` and `info` of each."""
        return list(_expected(Reply, await self._ask("presence", {"topic": topic})).data)


def _expected(type_: type[T], frame: Frame) -> T:
    """Return the answer, which has to be of that type."""
    if isinstance(frame, type_):
        return frame
    raise Refused("INTERNAL", f"The gateway answered with {type(frame).__name__}.")
