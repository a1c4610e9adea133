"""The side of the clients: a WebSocket of the gateway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from realtime.client import Denied, GatewayClient, Message, NoAnswer, Notice, State, Timing
from realtime.client.entered import Entered

from .credentials import Access
from .outcome import Exit, ToolError, UsageError
from .scenario import Step

logger = logging.getLogger(__name__)


class WebSocketSide(Entered):
    """A client of the gateway.

    Args:
        timeout: seconds for answers and confirmations.
        wait: entering waits for the connection, as long.
        compression: offer permessage-deflate.
    """

    def __init__(
        self, url: str, access: Access, *, timeout: float, wait: bool, compression: bool
    ) -> None:
        try:
            self._client = GatewayClient(
                url,
                token=access.token,
                headers=access.headers,
                on_state=self._note,
                on_notice=_log_notice,
                compression=compression,
                timing=Timing(reply=timeout, publish=timeout, connect=max(timeout, 1.0)),
            )
        except ValueError as exc:
            raise UsageError(str(exc)) from exc
        self.reached = False
        self._timeout = timeout
        self._wait = wait

    async def connect(self) -> None:
        """Connect in the background; return at once, or when the session is open.

        Raises:
            ToolError: when the gateway is not reached in time.
            ClientError: when it does not want this client.
        """
        if not self._wait:
            self._client.start()
            return
        try:
            await self._client.connect(self._timeout)
        except NoAnswer as exc:
            raise ToolError(exc.message, Exit.UNREACHABLE) from exc

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    async def messages(
        self, topics: Sequence[str], since: int | None, epoch: str | None
    ) -> AsyncIterator[Message]:
        """Yield what arrives on topics; over reconnects, each once.

        Raises:
            ClientError: when the gateway ends it.
        """
        # Room for one: what waits beyond it waits in the subscription, which is bounded.
        arrived: asyncio.Queue[Message] = asyncio.Queue(1)

        async def read(topic: str) -> None:
            options: Any = {"since": since, "epoch": epoch, "wait": False}
            async for message in await self._client.subscribe(topic, **options):
                await arrived.put(message)
            raise Denied("The subscription ended.", topic=topic)

        readers = [asyncio.create_task(read(topic)) for topic in topics]
        getting = asyncio.create_task(arrived.get())
        try:
            while True:
                await asyncio.wait({getting, *readers}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    next(reader for reader in readers if reader.done()).result()
                message = getting.result()
                getting = asyncio.create_task(arrived.get())
                yield message
        finally:
            for task in (getting, *readers):
                task.cancel()
            await asyncio.gather(getting, *readers, return_exceptions=True)

    def answered(self, topics: Sequence[str], reply: Any | None) -> AsyncIterator[Message]:
        """Refuse: clients ask, backends answer.

        Raises:
            UsageError: always.
        """
        raise UsageError("Clients cannot answer requests: consume --rpc wants a nats:// address.")

    def check(self, step: Step) -> None:
        """Return when a message can be sent by a client.

        Raises:
            UsageError: when it is bytes.
        """
        if isinstance(step.payload, bytes):
            raise UsageError("Clients publish JSON: bytes go over a nats:// address only.")

    async def publish(self, step: Step) -> str:
        """Publish, and return in words what became of it.

        Raises:
            ClientError: when the gateway refuses it, or does not confirm it in time.
        """
        done = await self._client.publish(step.topic, step.payload, message_id=step.message_id)
        where = "handed on" if done.seq_no is None else f"seq={done.seq_no}"
        return f"{where} (stored before)" if done.duplicate else where

    async def request(self, step: Step) -> Any:
        """Ask a backend through the gateway.

        Raises:
            ClientError: when it is refused or not answered.
        """
        timeout = min(self._timeout, 60.0)  # the most that the frame can say
        return await self._client.request(step.topic, step.payload, timeout=timeout)

    def _note(self, state: State) -> None:
        if state.name == "open" and self._client.session is not None:
            self.reached = True
            logger.info("connection open epoch=%s", self._client.session.epoch)
        else:
            _log_state(state)


def _log_state(state: State) -> None:
    if state.name == "reconnecting":
        logger.warning(
            "connection lost, coming back in=%.1fs code=%s reason=%s",
            state.retry_in or 0.0,
            state.code,
            state.reason or "none given",
        )
    elif state.name != "denied":  # that ends the tool, which says so
        logger.info("connection %s", state.name)


def _log_notice(notice: Notice) -> None:
    logger.warning("not everything can be had: %r", notice)
