"""A backend that stands in for ours: who is who, and a publisher that never loses an event."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import jwt

from realtime.broker import Broker
from realtime.nats_client import Message
from realtime.protocol.exceptions import Unavailable
from realtime.protocol.messages import (
    MSG_ID,
    AuthReply,
    AuthRequest,
    encode_message,
    parse_auth_request,
)
from realtime.protocol.rules import Rule
from tests.support.recorder import Run

JWT_KEY = "faults-" + "k" * 40
"""What tokens are signed with, here and by the project's own auth worker."""

Answer = Callable[[AuthRequest], AuthReply | bytes | None]
"""What a stand-in worker answers; None: nothing."""


def token(user_id: int, *, lifetime: float = 3600.0, **claims: object) -> str:
    """Return a JWT of a user."""
    now = int(time.time())
    body = {"sub": str(user_id), "iat": now, "exp": now + int(lifetime), **claims}
    return jwt.encode(body, JWT_KEY, algorithm="HS256")


def allow_rooms(request: AuthRequest) -> AuthReply:
    """Answer who a token belongs to; everyone may talk in every room and hear their own."""
    try:
        claims = jwt.decode(request.token or "", JWT_KEY, algorithms=["HS256"])
    except jwt.InvalidTokenError as exc:
        return AuthReply(success=False, error=str(exc))
    rules = [Rule("allow", action, "room.>") for action in ("subscribe", "publish")]
    rules.append(Rule("allow", "subscribe", "user.{user_id}.>"))
    return AuthReply(success=True, user_id=claims["sub"], expires_at=claims["exp"], rules=rules)


@dataclass
class StandIn:
    """An auth worker in this process, which answers whatever a row wants answered."""

    broker: Broker
    answer: Answer = allow_rooms
    asked: int = 0

    async def start(self, subject: str = "gateway.auth") -> None:
        """Begin to answer."""
        await self.broker.subscribe(subject, self._receive, queue="auth")

    async def _receive(self, message: Message) -> None:
        self.asked += 1
        answer = self.answer(parse_auth_request(message.data))
        if answer is not None:
            data = answer if isinstance(answer, bytes) else encode_message(answer)
            await self.broker.publish(message.reply, data)


@dataclass
class Publisher:
    """Publishes like a backend that cares: again with the same id until it is confirmed.

    Attributes:
        run: names what is published.
        retries: how many attempts were not confirmed in time.
    """

    broker: Broker
    run: Run = field(default_factory=Run)
    retries: int = 0
    timeout: float = 1.0

    @property
    def published(self) -> dict[str, list[str]]:
        """Return the messageIds of each topic; all are confirmed once the calls returned."""
        return self.run.published

    async def publish(self, topic: str, **extra: object) -> int:
        """Publish one event, however long that takes, and return its sequence."""
        message_id, payload = self.run.message(topic)
        payload["at"] = time.time()
        data = json.dumps({**payload, **extra}).encode()
        while True:
            try:
                stored = await self.broker.store(
                    topic, data, headers={MSG_ID: message_id}, timeout=self.timeout
                )
                return stored.sequence
            except Unavailable:
                self.retries += 1
                await asyncio.sleep(0.1)

    async def steady(self, topics: Iterable[str], *, rate: float, seconds: float) -> None:
        """Publish in turn on several topics, at a rate that faults do not slow down."""
        names = tuple(topics)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                wait = begun + number / rate - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                group.create_task(self.publish(names[number % len(names)]))

    async def burst(self, topics: Iterable[str], count: int, *, padding: int = 0) -> None:
        """Publish as fast as the stream confirms, 256 in flight."""
        names = tuple(topics)
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await self.publish(names[number % len(names)], padding="x" * padding)

        async with asyncio.TaskGroup() as group:
            for _ in range(256):
                group.create_task(work())
