"""The broker: the connection to NATS of a process. Addresses and timeouts are arguments.

Everything else speaks to NATS through it; what the library raises becomes an error of ours. What
is asked over it, of backends and of JetStream, is in request_reply.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from nats import errors

from .nats_client import DirectClient, Handler, Subscription
from .protocol.exceptions import Unavailable
from .request_reply import RequestReply

logger = logging.getLogger(__name__)

# One outstanding ping is allowed, so a black hole is noticed within three intervals.
PING_INTERVAL = 4
RECONNECT_WAIT = 0.25
DRAIN_TIMEOUT = 3


class Broker(RequestReply):
    """A connection to NATS that comes back by itself, for as long as the process lives.

    Args:
        url: one address or several, comma-separated; user and password may be in it.
        name: shown in NATS monitoring.
        inbox_prefix: where replies come in; permissions can be tied to it.
        connect_timeout: seconds for the first connection.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        inbox_prefix: str = "_INBOX",
        connect_timeout: float = 5.0,
    ) -> None:
        super().__init__()
        self._servers = [server.strip() for server in url.split(",")]
        self._name = name
        self._inbox_prefix = inbox_prefix
        self._connect_timeout = connect_timeout
        self._client: DirectClient | None = None
        self._closing = False
        self._rebuilding: asyncio.Task[None] | None = None
        self._subscriptions: set[Subscription] = set()
        self.reconnects = 0
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_disconnect: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        """Say whether NATS is reachable right now."""
        return self._client is not None and self._client.is_connected

    async def connect(self) -> None:
        """Connect.

        Raises:
            Unavailable: when no server answers within the connect timeout.
        """
        client = DirectClient()
        try:
            await _in_time(
                client.connect(
                    servers=self._servers,
                    name=self._name,
                    inbox_prefix=self._inbox_prefix,
                    connect_timeout=2,
                    # 60, the default, and it gives up for good.
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT,
                    ping_interval=PING_INTERVAL,
                    max_outstanding_pings=1,
                    drain_timeout=DRAIN_TIMEOUT,
                    error_cb=self._error,
                    disconnected_cb=self._disconnected,
                    reconnected_cb=self._reconnected,
                    closed_cb=self._closed,
                ),
                self._connect_timeout,
            )
        except (TimeoutError, OSError, errors.Error, asyncio.CancelledError) as exc:
            client._closed_cb = client._disconnected_cb = None
            with contextlib.suppress(Exception):
                await client.close()
            if isinstance(exc, asyncio.CancelledError):
                raise
            raise Unavailable(
                f"NATS is not reachable at {self._addresses()}: {client.last_error or 'no answer'}."
            ) from exc
        self._client = client
        self.inbox = client.new_inbox()
        await client.subscribe_direct(Subscription(f"{self.inbox}.*", "", self._reply))
        for subscription in self._subscriptions:
            await client.subscribe_direct(subscription)

    async def connect_forever(self) -> None:
        """Connect, trying again every few seconds until it works."""
        delay = 0.5
        while not self._closing:
            try:
                await self.connect()
                return
            except Unavailable as exc:
                logger.warning("nats unreachable, trying again in=%.1fs reason=%s", delay, exc)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def close(self) -> None:
        """Send what is buffered, then close; gives up after a few seconds."""
        self._closing = True
        if self._rebuilding is not None:
            self._rebuilding.cancel()
        if self._client is None:
            return
        with contextlib.suppress(Unavailable):
            await self.flush(2.0)
        with contextlib.suppress(TimeoutError, OSError, errors.Error):
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await self._client.close()

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        headers: dict[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Publish, unconfirmed.

        Raises:
            Unavailable: when NATS is away or the message is over the server's limit.
        """
        client = self._client
        if client is None or not client.is_connected:
            # nats-py would buffer it and perhaps send it much later, after a deadline passed.
            raise Unavailable("NATS is out of reach; try again in a moment.")
        try:
            await client.publish(subject, data, reply=reply, headers=headers)
        except (errors.Error, OSError) as exc:
            raise Unavailable(f"NATS did not take the message: {exc}.") from exc

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Call `handler` with every message on `subject`, across reconnects.

        Args:
            queue: members of one queue group share the messages.

        Raises:
            Unavailable: when the connection is gone and not coming back.
        """
        subscription = Subscription(subject, queue, handler)
        self._subscriptions.add(subscription)
        if self._client is not None:
            try:
                await self._client.subscribe_direct(subscription)
            except (errors.Error, OSError) as exc:
                self._subscriptions.discard(subscription)
                raise Unavailable(f"NATS refused to subscribe to {subject}: {exc}.") from exc
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        self._subscriptions.discard(subscription)
        if self._client is not None:
            with contextlib.suppress(errors.Error, OSError):
                await self._client.unsubscribe_direct(subscription.sid)

    async def flush(self, timeout: float = 5.0) -> None:
        """Return when the server has seen everything sent so far.

        Raises:
            Unavailable: when it does not say so within `timeout` seconds.
        """
        if self._client is None or not self._client.is_connected:
            raise Unavailable("NATS is out of reach; try again in a moment.")
        try:
            async with asyncio.timeout(timeout):
                # nats-py sends its PING ahead of what is still buffered; the second PING
                # follows what the first one overtook.
                await self._client.flush(timeout)
                await self._client.flush(timeout)
        except (TimeoutError, errors.Error, OSError) as exc:
            raise Unavailable("NATS does not answer.") from exc

    def _addresses(self) -> str:
        return ", ".join(server.rpartition("@")[2] for server in self._servers)

    async def _error(self, exc: Exception) -> None:
        # Reconnecting says this several times a second; the callbacks below say it once.
        logger.debug("nats error=%r", exc)
        if isinstance(exc, errors.Error) and "permissions violation" in str(exc).lower():
            logger.error("nats permissions: %s", exc)

    async def _disconnected(self) -> None:
        if not self._closing:
            logger.warning("nats disconnected servers=%s", self._addresses())
        for callback in self.on_disconnect:
            callback()

    async def _reconnected(self) -> None:
        self.reconnects += 1
        logger.info("nats reconnected reconnects=%d", self.reconnects)
        for callback in self.on_reconnect:
            callback()

    async def _closed(self) -> None:
        # nats-py never revives a closed client (it closes itself when a server rejects the
        # credentials twice), so a new one takes over the subscriptions.
        if self._closing or (self._rebuilding is not None and not self._rebuilding.done()):
            return
        logger.error("nats connection closed, building a new one")
        self._rebuilding = asyncio.create_task(self._rebuild())

    async def _rebuild(self) -> None:
        await self.connect_forever()
        await self._reconnected()


@contextlib.asynccontextmanager
async def connected(url: str, *, name: str, **options: Any) -> AsyncIterator[Broker]:
    """Yield a connected broker and close it afterwards.

    Raises:
        Unavailable: when NATS is not reachable.
    """
    broker = Broker(url, name=name, **options)
    await broker.connect()
    try:
        yield broker
    finally:
        await broker.close()


async def _in_time(work: Coroutine[Any, Any, None], timeout: float) -> None:
    """Await work that may lose its cancellation, for `timeout` seconds at most.

    nats-py connects by `wait_for`, which on Python 3.11 lets a cancellation go that comes
    with the end of what it waits for; with `asyncio.timeout` alone it would then try for ever
    (https://bugs.python.org/issue37658). So this returns only when the work has ended, also
    when it is cancelled itself, and again while it waits: as `asyncio.run` does at the end.

    Raises:
        TimeoutError: when it was not done in time; and what it raises.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    try:
        await asyncio.wait([task], timeout=timeout)
    except asyncio.CancelledError:
        cancelled = True
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait([task], timeout=0.1)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    if task.cancelled():
        raise TimeoutError
    task.result()
