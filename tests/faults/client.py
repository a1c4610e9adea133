"""A client that comes back: what docs/protocol.md asks of one, in as few lines as it takes.

It keeps the last sequence of every topic, drops repeats, comes back with backoff to the same
web process or the next, and sends a publish again with the same messageId until it is
confirmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Self

from websockets.exceptions import WebSocketException

from tests.support.client import Frame, TestClient
from tests.support.waiting import until

from .book import Book

PASSING = {"UNAVAILABLE", "RATE_LIMITED", "TIMEOUT", "AUTH_UNAVAILABLE"}
"""Errors after which the same may be tried again."""
COMES_BACK = range(4500, 5000)
"""Close codes after which a client must not come back."""
BACKOFF, LONGEST_BACKOFF = 0.1, 2.0
JOIN = "join "
REST = 0.25
"""Seconds before something refused for now is tried again."""


class Follower(Book):
    """Follows topics across reconnects. Use it as `async with Follower(...) as follower`.

    Args:
        urls: web processes; the first is tried first.
        topics: to subscribe to.
        since: positions to start from; the top of a topic when it is not among them.
        resume: come back by `connect` with `sessionId`, else by `subscribe` with `since`.
        acks: with QoS 1, confirm what arrives.
        durable: the gateway keeps its positions under this name; implies QoS 1.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: str,
        topics: Sequence[str] = (),
        *,
        since: Mapping[str, int] | None = None,
        epoch: str | None = None,
        resume: bool = False,
        qos: int = 0,
        acks: bool = True,
        durable: str | None = None,
    ) -> None:
        super().__init__(topics, since, epoch)
        self.closes: list[int] = []
        self.readies = 0
        self.client: TestClient | None = None
        self._urls = itertools.cycle(urls)
        self._url = next(self._urls)
        self._token = token
        self._resume = resume
        self._qos = 1 if durable else qos
        self._durable = durable
        self._acks = acks
        self.session_id: str | None = None
        self._outbox: dict[str, tuple[Frame, asyncio.Future[Frame]]] = {}
        self._deaf: set[str] = set()
        self._afterwards: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._wait: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    @property
    def joined(self) -> bool:
        """Say whether it is connected and holds every topic."""
        return self.client is not None and self.held >= set(self.topics)

    async def start(self, timeout: float = 60.0) -> None:
        """Connect, for the first time or again, and return when every topic is held."""
        self._stopping = False
        self._task = asyncio.create_task(self._run())
        await until(lambda: self.joined, timeout, what="the topics to be held")

    async def stop(self) -> None:
        """Disconnect for good."""
        self._stopping = True
        tasks = {*self._afterwards, *([self._task] if self._task else [])}
        while tasks:
            # More than once: the closing handshake under way takes a cancellation for its own.
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=1)

    def cut(self) -> None:
        """Lose the connection, as in a tunnel."""
        if self.client is not None:
            self.client.abort()

    async def publish(
        self,
        topic: str,
        message_id: str,
        payload: object,
        *,
        lose_ack: bool = False,
        timeout: float = 90.0,
    ) -> Frame:
        """Publish until it is confirmed, and return the `ack`.

        Args:
            lose_ack: the connection is lost just before the first confirmation arrives.
        """
        frame = {"type": "publish", "topic": topic, "messageId": message_id, "payload": payload}
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._outbox[message_id] = frame, answer
        if lose_ack:
            self._deaf.add(message_id)
        await self._post(message_id)
        async with asyncio.timeout(timeout):
            return await answer

    # The connection.

    async def _run(self) -> None:
        while not self._stopping:
            client = TestClient(self._url, connect=False, recorder=self.raw, timeout=15.0)
            try:
                async with client:
                    await self._serve(client)
                    self.closes.append(await client.closed(timeout=3600))
            except (AssertionError, OSError, WebSocketException):
                self._note_close(client)
            finally:
                self.client = None
                self.held.clear()
            if self.closes and self.closes[-1] in COMES_BACK:
                return
            await asyncio.sleep(self._delay())
            self._url = next(self._urls)

    def _note_close(self, client: TestClient) -> None:
        with contextlib.suppress(AssertionError):  # it never connected
            if client.close_code is not None:
                self.closes.append(client.close_code)

    def _delay(self) -> float:
        if self._wait is not None:
            delay, self._wait = self._wait, None
            return delay
        self._failures += 1
        return random.uniform(0, min(BACKOFF * 2**self._failures, LONGEST_BACKOFF))

    async def _serve(self, client: TestClient) -> None:
        fields: dict[str, Any] = {"token": self._token}
        before = 0
        resuming = self._resume and self.session_id is not None
        if resuming:
            before = self.told["resumed"] + self.told["SESSION_EXPIRED"]
            fields |= {"sessionId": self.session_id, "lastSeqPerTopic": self.last}
        await client.send("connect", **fields)
        ready = await client.expect("ready", timeout=30)
        self.session_id = ready["sessionId"]
        self.readies += 1
        self._failures = 0
        self.client = client
        if resuming:
            await until(
                lambda: self.told["resumed"] + self.told["SESSION_EXPIRED"] > before,
                30,
                what="resumed",
            )
        for topic in self.topics:
            if topic not in self.held:
                await self._join(client, topic)
        for message_id in list(self._outbox):
            await self._post(message_id)

    async def _join(self, client: TestClient, topic: str) -> None:
        fields: dict[str, Any] = {"topic": topic, "id": JOIN + topic}
        if self._durable:
            fields["durable"] = self._durable
        elif topic in self.last:
            fields["since"] = self.last[topic]
            if self.epoch is not None:
                fields["epoch"] = self.epoch
        if self._qos:
            fields["qos"] = self._qos
        await client.send("subscribe", **fields)

    async def _post(self, message_id: str) -> None:
        if self.client is None or message_id not in self._outbox:
            return
        with contextlib.suppress(OSError, WebSocketException):
            # Else it is sent again when the connection is back.
            await self.client.send(**self._outbox[message_id][0])

    def _soon(self, act: Callable[[], Coroutine[Any, Any, None]], rest: float = 0.0) -> None:
        async def run() -> None:
            await asyncio.sleep(rest)
            with contextlib.suppress(OSError, WebSocketException):
                await act()

        task = asyncio.create_task(run())
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)

    # Frames in, beside what the book does with them.

    def on_message(self, frame: Frame) -> None:
        sequence = frame.get("seqNo")
        if sequence is not None and self._qos and self._acks and self.client is not None:
            ack = partial(self.client.send, "ack", topic=frame["topic"], seqNo=sequence)
            self._soon(ack)
        super().on_message(frame)

    def on_reconnect(self, frame: Frame) -> None:
        super().on_reconnect(frame)
        self._wait = frame["afterMs"] / 1000

    def on_ack(self, frame: Frame) -> None:
        if frame["messageId"] in self._deaf:
            self._deaf.discard(frame["messageId"])
            self.cut()
            return
        _, answer = self._outbox.pop(frame["messageId"], (None, None))
        if answer is not None and not answer.done():
            answer.set_result(frame)

    def on_error(self, frame: Frame) -> None:
        passing = frame["code"] in PASSING
        message_id = frame.get("messageId")
        topic = str(frame.get("id", "")).removeprefix(JOIN)
        if message_id in self._outbox:
            if passing:
                self._soon(partial(self._post, message_id), REST)
            else:
                _, answer = self._outbox.pop(message_id)
                answer.set_exception(AssertionError(f"{frame}"))
        elif topic in self.topics and passing and self.client is not None:
            self._soon(partial(self._join, self.client, topic), REST)
