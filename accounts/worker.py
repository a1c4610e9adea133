"""The auth worker: answers the gateway's auth requests from the database. Fails closed.

What cannot be answered is left unanswered, which the gateway calls AUTH_UNAVAILABLE; nothing
here turns a failure into a pass, nor into a denial that would keep a client away for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import django.db
import msgspec
from asgiref.sync import sync_to_async

from realtime.conf import settings as gateway
from realtime.protocol.exceptions import Unavailable
from realtime.protocol.messages import AuthReply, AuthRequest, encode_message, parse_auth_request
from realtime.protocol.subjects import Subjects

from .authentication import authenticate_all
from .conf import settings

if TYPE_CHECKING:
    from realtime.broker import Broker
    from realtime.nats_client import Message, Subscription

logger = logging.getLogger(__name__)

QUEUE = "auth"
"""Workers share the requests as members of this NATS queue group."""

LOG_SECONDS = 5.0
"""How often each kind of trouble is logged, at most."""

# A token comes in one frame, and JSON may escape its characters.
_MAX_REQUEST_BYTES = 256 * 1024

Clock = Callable[[], float]
Verify = Callable[[Sequence[AuthRequest]], list[AuthReply]]

_MAX_BATCH = 64
"""Requests that one look-up answers, at most."""

_GATHER = 0.002
"""Seconds after a look-up in which requests gather for the next one. A query costs ten times what
one more row of it does, so a storm is answered with fewer, larger look-ups; who comes alone does
not wait, and 64 who wait already do not either."""

_PATIENCE = 0.02
"""Seconds that a request waits for the look-ups under way before one more thread is used."""


class Waiting(NamedTuple):
    """A request that waits for a thread, since when (in the clock's time), and where to answer."""

    request: AuthRequest
    reply: str
    received: float


class ThrottledLog:
    """A warning that is logged at most every LOG_SECONDS, with the number held back between."""

    def __init__(self, text: str, clock: Clock) -> None:
        self._text = text
        self._clock = clock
        self._next = float("-inf")
        self._held = 0

    def warn(self, reason: str) -> None:
        """Log, or count."""
        now = self._clock()
        if now < self._next:
            self._held += 1
            return
        logger.warning("%s reason=%s more=%d", self._text, reason, self._held)
        self._next = now + LOG_SECONDS
        self._held = 0


class AuthWorker:
    """Answers auth requests: AUTH_THREADS look-ups at once, AUTH_QUEUE waiting, the rest dropped.

    A look-up takes all that waits, and answers it with a few queries: in a storm of reconnects
    that costs a tenth of as many single ones.

    Args:
        broker: may still be unconnected; it subscribes when it connects.
        verify: the look-up, run in a thread.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        broker: Broker,
        verify: Verify = authenticate_all,
        clock: Clock = time.monotonic,
    ) -> None:
        self._broker = broker
        self._verify = verify
        self._clock = clock
        self.subject = Subjects(gateway.PREFIX).auth
        self._threads = settings.AUTH_THREADS
        self._limit = settings.AUTH_THREADS + settings.AUTH_QUEUE
        self._waiting: deque[Waiting] = deque()
        self._unanswered = 0
        self._reinforcing: asyncio.TimerHandle | None = None
        self._pool = ThreadPoolExecutor(settings.AUTH_THREADS, thread_name_prefix="auth")
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._overload = ThrottledLog("auth request dropped", clock)
        self._malformed = ThrottledLog("auth request malformed", clock)
        self._failure = ThrottledLog("auth look-up failed, request unanswered", clock)

    async def start(self) -> None:
        """Begin to answer.

        Raises:
            Unavailable: when the broker refuses the subscription.
        """
        self._subscription = await self._broker.subscribe(self.subject, self._receive, queue=QUEUE)

    async def stop(self) -> bool:
        """Take no more requests, and wait DRAIN_SECONDS at most for those in flight.

        Returns:
            False when a look-up still runs: its thread cannot be stopped.
        """
        if self._subscription is not None:
            await self._broker.unsubscribe(self._subscription)
            self._subscription = None
        if self._reinforcing is not None:
            self._reinforcing.cancel()
        pending: set[asyncio.Task[None]] = set()
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=gateway.DRAIN_SECONDS)
        for task in pending:
            task.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if pending:
            logger.warning("auth worker stopped unanswered=%d", self._unanswered)
        return not pending

    async def _receive(self, message: Message) -> None:
        # Awaited in the broker's read loop: whatever takes long is a task of its own.
        if not message.reply:
            self._malformed.warn("nowhere to reply to")
            return
        if self._unanswered >= self._limit:
            self._overload.warn(f"{self._limit} are waiting")
            return
        try:
            if len(message.data) > _MAX_REQUEST_BYTES:
                raise msgspec.DecodeError(f"{len(message.data)} bytes are too many")
            request = parse_auth_request(message.data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            self._malformed.warn(f"{type(exc).__name__}: {exc}")
            return
        self._unanswered += 1
        self._waiting.append(Waiting(request, message.reply, self._clock()))
        if not self._tasks:
            self._start_work()
        else:
            self._reinforce_soon()

    def _start_work(self) -> None:
        task = asyncio.create_task(self._work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reinforce_soon(self) -> None:
        """Use one more thread if requests still wait in a while.

        Threads take turns on Python's lock, so they help only where the database is slow.
        """
        if self._reinforcing is None:
            self._reinforcing = asyncio.get_running_loop().call_later(_PATIENCE, self._reinforce)

    def _reinforce(self) -> None:
        self._reinforcing = None
        if self._waiting and len(self._tasks) < self._threads:
            # A task that has just ended may still be counted when a request comes.
            if not self._tasks or self._clock() - self._waiting[0].received >= _PATIENCE:
                self._start_work()
            self._reinforce_soon()

    async def _work(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            try:
                await self._answer(batch)
            finally:
                self._unanswered -= len(batch)
            if len(self._waiting) < _MAX_BATCH:
                await asyncio.sleep(_GATHER)

    def _next_batch(self) -> list[Waiting]:
        size = min(len(self._waiting), _MAX_BATCH)
        return [self._waiting.popleft() for _ in range(size)]

    async def _answer(self, batch: Sequence[Waiting]) -> None:
        now = self._clock()
        live = [one for one in batch if now - one.received <= gateway.AUTH_TIMEOUT]
        if len(live) < len(batch):
            # The gateway has stopped waiting; the thread is better spent on the next.
            self._overload.warn("it waited too long")
        if not live:
            return
        look_up = sync_to_async(self._look_up, thread_sensitive=False, executor=self._pool)
        try:
            answers = await look_up([one.request for one in live])
            for one, answer in zip(live, answers, strict=True):
                await self._broker.publish(one.reply, encode_message(answer))
        except Unavailable as exc:
            self._failure.warn(exc.message)
        except Exception as exc:
            if len(live) > 1:
                # One of them may be to blame: the others need not suffer for it.
                for one in live:
                    await self._answer([one])
                return
            # Whatever it was, no answer is the safe one.
            self._failure.warn(describe(exc))

    def _look_up(self, requests: Sequence[AuthRequest]) -> list[AuthReply]:
        # What Django does around an HTTP request: a connection that broke is not used again.
        django.db.close_old_connections()
        try:
            return self._verify(requests)
        finally:
            django.db.close_old_connections()


def describe(exc: Exception) -> str:
    """Return what may be logged of an error: its message only where no credential can be in it."""
    name = type(exc).__name__
    if isinstance(exc, django.db.Error):
        return f"{name}: {' '.join(str(exc).split())}"
    frames = traceback.extract_tb(exc.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return name + where


async def serve(broker: Broker, stopping: asyncio.Event) -> bool:
    """Answer auth requests over `broker` until `stopping` is set, then drain and close.

    NATS may be out of reach at the start: the broker goes on trying.

    Returns:
        False when a look-up still runs: its thread cannot be stopped.
    """
    worker = AuthWorker(broker)
    await worker.start()
    connecting = asyncio.create_task(broker.connect_forever())
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({connecting, stop}, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            await connecting
            # Else a request sent on seeing the log line could still find no responder.
            with contextlib.suppress(Unavailable):
                await broker.flush()
            logger.info("auth worker ready subject=%s queue=%s", worker.subject, QUEUE)
            await stop
        logger.info("auth worker stopping")
    finally:
        connecting.cancel()
        stop.cancel()
        drained = await worker.stop()
        await broker.close()
    return drained
