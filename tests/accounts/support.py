"""Auth requests, keys, and a broker that keeps its messages in memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import cast

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from accounts.worker import AuthWorker
from realtime.broker import Broker
from realtime.nats_client import Message, Subscription
from realtime.protocol.exceptions import Unavailable
from realtime.protocol.messages import AuthReply, AuthRequest, encode_message

DEADLINE = 30.0


def auth_request(token: str | None = None, session_key: str | None = None) -> AuthRequest:
    return AuthRequest(
        token=token,
        session_key=session_key,
        origin="https://example.org",
        ip="192.0.2.1",
        user_agent="test",
    )


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(key: rsa.RSAPrivateKey) -> str:
    """Return the public half of `key` as PEM text."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class FakeBroker:
    """Stands in for realtime.broker.Broker: what is published is kept, nothing is sent."""

    def __init__(self, *, reachable: bool = True) -> None:
        self.subscriptions: list[Subscription] = []
        self.replies: dict[str, bytes] = {}
        self.away = False
        self.closed = False
        self.reachable = asyncio.Event()
        self._changed = asyncio.Condition()
        if reachable:
            self.reachable.set()

    async def connect_forever(self) -> None:
        await self.reachable.wait()

    async def flush(self, timeout: float = 5.0) -> None:
        if self.away:
            raise Unavailable("NATS does not answer.")

    async def close(self) -> None:
        self.closed = True

    async def subscribe(
        self, subject: str, handler: Callable[[Message], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        subscription = Subscription(subject, queue, handler)
        self.subscriptions.append(subscription)
        async with self._changed:
            self._changed.notify_all()
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        self.subscriptions.remove(subscription)
        async with self._changed:
            self._changed.notify_all()

    async def publish(self, subject: str, data: bytes) -> None:
        if self.away:
            raise Unavailable("NATS is out of reach; try again in a moment.")
        async with self._changed:
            self.replies[subject] = data
            self._changed.notify_all()

    async def deliver(self, data: bytes, reply: str) -> None:
        """Hand a message to the only subscriber, as the read loop does."""
        (subscription,) = self.subscriptions
        await subscription.handler(Message(subscription.subject, data, reply=reply))

    async def ask(self, token: str) -> None:
        """Send an auth request whose reply subject is its token."""
        await self.deliver(encode_message(auth_request(token)), token)

    async def reply_to(self, token: str) -> bytes:
        """Return the reply to `ask(token)`, once it is there."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: token in self.replies)
        return self.replies[token]

    async def subscribed(self) -> None:
        """Return once somebody subscribed."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: bool(self.subscriptions))

    async def unsubscribed(self) -> None:
        """Return once nobody is subscribed."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: not self.subscriptions)


def reply_for(request: AuthRequest) -> AuthReply:
    """Return a pass that names its token as the user, for look-ups without a database."""
    return AuthReply(success=True, user_id=request.token)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowLookUp:
    """A look-up that passes everyone, and holds those named "slow…" until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()

    def __call__(self, request: AuthRequest) -> AuthReply:
        if request.token is not None and request.token.startswith("slow"):
            self.entered.release()
            self.released.wait(DEADLINE)
        return reply_for(request)

    async def started(self) -> None:
        """Return once one more of the slow ones is in its thread."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=DEADLINE)


async def started(
    broker: FakeBroker,
    verify: Callable[[AuthRequest], AuthReply],
    clock: Callable[[], float] = time.monotonic,
) -> AuthWorker:
    worker = AuthWorker(cast(Broker, broker), lambda asked: [verify(one) for one in asked], clock)
    await worker.start()
    return worker


async def drained(worker: AuthWorker) -> None:
    """Return once nothing is in flight."""
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*worker._tasks)
