"""Request and reply over NATS: one answer, all that come, and what JetStream is asked by it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from .nats_client import Message
from .protocol.exceptions import NoResponder, RequestTimeout, Unavailable
from .protocol.jetstream import Stored, StreamInfo, parse_stored, parse_stream


class RequestReply(ABC):
    """Asks over a connection to NATS, which is whoever derives from this.

    Attributes:
        inbox: the connection hands what comes on the subjects below it to `_reply`.
    """

    def __init__(self) -> None:
        self.inbox = ""
        self._replies: dict[str, Callable[[Message], None]] = {}
        self._tokens = itertools.count()

    @abstractmethod
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

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: dict[str, str] | None = None
    ) -> Message:
        """Return the first reply.

        Args:
            timeout: seconds to wait for it.

        Raises:
            NoResponder: nobody listens on the subject.
            RequestTimeout: no reply in time.
            Unavailable: NATS is away.
        """
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def receive(message: Message) -> None:
            if not answer.done():
                answer.set_result(message)

        with self._expecting(receive) as inbox:
            await self.publish(subject, data, headers=headers, reply=inbox)
            try:
                async with asyncio.timeout(timeout):
                    message = await answer
            except TimeoutError as exc:
                raise RequestTimeout(f"No reply within {timeout:g} s.") from exc
        if message.status == 503:
            raise NoResponder("Nobody answers there.")
        return message

    async def gather(self, subject: str, data: bytes, *, wait: float) -> list[Message]:
        """Return all replies that come within `wait` seconds.

        Raises:
            Unavailable: NATS is away.
        """
        replies: list[Message] = []

        def receive(message: Message) -> None:
            if message.status == 0:
                replies.append(message)

        with self._expecting(receive) as inbox:
            await self.publish(subject, data, reply=inbox)
            await asyncio.sleep(wait)
        return replies

    async def store(
        self, subject: str, data: bytes, *, headers: dict[str, str] | None, timeout: float
    ) -> Stored:
        """Publish and wait until JetStream has stored it.

        Raises:
            Unavailable: when no stream confirms it within `timeout` seconds; it may be stored
                all the same, so try again with the same `Nats-Msg-Id`.
        """
        try:
            message = await self.request(subject, data, timeout=timeout, headers=headers)
        except (NoResponder, RequestTimeout) as exc:
            raise Unavailable("The stream did not confirm the message; try again.") from exc
        return parse_stored(message.data)

    async def direct_get(
        self, stream: str, query: Mapping[str, Any], *, timeout: float
    ) -> list[Message]:
        """Return the stored messages that a batched direct get answers with (NATS ADR-31).

        Raises:
            Unavailable: when the answer is not complete within `timeout` seconds.
        """
        batch: list[Message] = []
        end: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def receive(message: Message) -> None:
            if message.status == 0:
                batch.append(message)
            elif not end.done():
                end.set_result(message)

        with self._expecting(receive) as inbox:
            await self.publish(
                f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(query), reply=inbox
            )
            try:
                async with asyncio.timeout(timeout):
                    last = await end
            except TimeoutError as exc:
                raise Unavailable("The stream does not answer; try again.") from exc
        if last.status not in (204, 404):
            raise Unavailable(f"The stream refused to be read: status {last.status}.")
        if batch and last.headers.get("Nats-Last-Sequence") != batch[-1].headers["Nats-Sequence"]:
            raise Unavailable("The stream's answer was cut short; try again.")
        return batch

    async def direct_last(self, stream: str, pattern: str, *, timeout: float) -> Message | None:
        """Return the last stored message whose subject matches, None when there is none.

        Raises:
            Unavailable: when the stream does not answer within `timeout` seconds.
        """
        query = msgspec.json.encode({"last_by_subj": pattern})
        try:
            message = await self.request(f"$JS.API.DIRECT.GET.{stream}", query, timeout=timeout)
        except (NoResponder, RequestTimeout) as exc:
            raise Unavailable("The stream does not answer; try again.") from exc
        if message.status not in (0, 404):
            raise Unavailable(f"The stream refused to be read: status {message.status}.")
        return message if message.status == 0 else None

    async def stream_info(self, stream: str, *, timeout: float) -> StreamInfo | None:
        """Return a stream, None when there is none.

        Raises:
            Unavailable: when JetStream does not answer.
        """
        return await self._stream_api("INFO", stream, None, timeout)

    async def ensure_stream(self, config: Mapping[str, Any], *, timeout: float) -> StreamInfo:
        """Make the stream, or bring its configuration up to date; keeps what it holds.

        Raises:
            Unavailable: when JetStream does not answer, or refuses the configuration.
        """
        name = config["name"]
        info = await self.stream_info(name, timeout=timeout)
        if info is None:
            info = await self._stream_api("CREATE", name, config, timeout)
        elif any(info.config.get(key) != value for key, value in config.items()):
            info = await self._stream_api("UPDATE", name, {**info.config, **config}, timeout)
        if info is None:
            raise Unavailable(f"JetStream could not make the stream {name}.")
        return info

    async def _stream_api(
        self, verb: str, stream: str, body: Mapping[str, Any] | None, timeout: float
    ) -> StreamInfo | None:
        data = msgspec.json.encode(body) if body is not None else b""
        try:
            message = await self.request(f"$JS.API.STREAM.{verb}.{stream}", data, timeout=timeout)
        except NoResponder as exc:
            raise Unavailable("JetStream is not enabled on this NATS server.") from exc
        except RequestTimeout as exc:
            raise Unavailable("JetStream does not answer.") from exc
        return parse_stream(stream, message.data)

    @contextlib.contextmanager
    def _expecting(self, receive: Callable[[Message], None]) -> Iterator[str]:
        token = str(next(self._tokens))
        self._replies[token] = receive
        try:
            yield f"{self.inbox}.{token}"
        finally:
            del self._replies[token]

    async def _reply(self, message: Message) -> None:
        receive = self._replies.get(message.subject.rpartition(".")[2])
        if receive is not None:
            receive(message)
