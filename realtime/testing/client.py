"""A client of a running gateway that waits for frames, each time with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any, NoReturn

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ..client.entered import Entered

Frame = dict[str, Any]

DEADLINE = 30.0
"""Seconds for one step: reached only where something is broken, however busy the machine is."""
_MISSING = object()


class RealtimeClient(Entered):
    """A WebSocket client for tests: `async with RealtimeClient(url, token=...) as client`.

    It connects, authenticates and waits for `ready`. Frames wait until `expect` takes them; those
    of other types stay where they are.

    Args:
        url: `ws://HOST:PORT/ws/`.
        token: the credential; None leaves it out, so that the cookie in `headers` counts.
        headers: of the upgrade request.
        origin: of the upgrade request.
        compression: offer permessage-deflate, as browsers do.
        timeout: seconds until it must be connected.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        compression: bool = True,
        timeout: float = DEADLINE,
    ) -> None:
        self.url = url
        self.ready: Frame = {}
        self.frames: list[Frame] = []  # all but messages, as they came
        self._token = token
        self._headers = dict(headers or {})
        self._origin = origin
        self._compression = compression
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._inbox: dict[str, deque[Frame]] = {}
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._broken: Exception | None = None
        self._ws: ClientConnection | None = None

    @property
    def ws(self) -> ClientConnection:
        """Return the connection of the websockets library."""
        if self._ws is None:
            raise AssertionError("the client is not connected")
        return self._ws

    async def connect(self) -> None:
        """Connect, authenticate and wait for `ready`."""
        await self.open()
        await self.authenticate()

    async def open(self, **options: Any) -> None:
        """Make the WebSocket connection, without a frame.

        Args:
            options: further ones of the websockets library.
        """
        self._ws = await connect(
            self.url,
            origin=self._origin,  # type: ignore[arg-type]
            additional_headers=self._headers,
            max_size=None,
            ping_interval=None,
            close_timeout=2,
            open_timeout=self._timeout,
            proxy=None,
            compression="deflate" if self._compression else None,
            **options,
        )
        self._reader = asyncio.create_task(self._read_frames())

    async def authenticate(self, **fields: Any) -> None:
        """Send `connect` and wait for `ready`; `fields` are more of its fields."""
        if self._token is not None:
            fields["token"] = self._token
        await self.send("connect", **fields)
        self.ready = await self.expect("ready", timeout=self._timeout)

    async def close(self, code: int = 1000) -> None:
        """Close the connection properly; does nothing when it is closed."""
        if self._ws is not None:
            await self._ws.close(code)
        if self._reader is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    @property
    def close_code(self) -> int | None:
        """Return the close code, 1006 when there was no close frame, None while open."""
        return self.ws.close_code

    async def closed(self, timeout: float = DEADLINE) -> int:
        """Return the close code once the connection is closed.

        Raises:
            AssertionError: when it is not within `timeout` seconds.
        """
        try:
            await asyncio.wait_for(self.ws.wait_closed(), timeout)
        except TimeoutError:
            self._fail(f"the connection was not closed within {timeout:g} s")
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
        return self.ws.close_code or 1006

    async def send(self, type: str, **fields: Any) -> None:
        """Send one frame with just these fields."""
        await self.ws.send(json.dumps({"type": type, **fields}))

    async def ask(
        self, type: str, reply: str, *, timeout: float = DEADLINE, **fields: Any
    ) -> Frame:
        """Send a frame with an id and return its reply of type `reply`.

        Raises:
            AssertionError: when an `error` answers it, or nothing in time.
        """
        fields.setdefault("id", next(self._ids))
        await self.send(type, **fields)
        return await self.expect(reply, timeout=timeout, id=fields["id"])

    async def subscribe(self, topic: str, **fields: Any) -> Frame:
        """Subscribe and return `subscribed`; `fields` are since, epoch, qos, durable, presence."""
        return await self.ask("subscribe", "subscribed", topic=topic, **fields)

    async def unsubscribe(self, topic: str) -> Frame:
        """Unsubscribe and return `unsubscribed`."""
        return await self.ask("unsubscribe", "unsubscribed", topic=topic)

    async def publish(self, topic: str, payload: Any, *, message_id: str | None = None) -> Frame:
        """Publish and return `ack`."""
        message_id = message_id or uuid.uuid4().hex
        return await self.ask("publish", "ack", topic=topic, messageId=message_id, payload=payload)

    async def expect(self, type: str, *, timeout: float = DEADLINE, **fields: Any) -> Frame:
        """Return the first frame of that type and those fields that was not yet taken.

        Args:
            type: the frame's type; frames of other types stay where they are.
            timeout: seconds.
            fields: by their names on the wire, such as `seqNo`.

        Raises:
            AssertionError: when none came in time, the connection was closed, or an `error`
                with the expected `id` came instead.
        """
        wanted = f"{type} {fields}"
        try:
            async with asyncio.timeout(timeout):
                while True:
                    news = self._news
                    if (frame := self._take(type, fields)) is not None:
                        return frame
                    if "id" in fields and (error := self._take("error", {"id": fields["id"]})):
                        self._fail(f"instead of {wanted} came {error}")
                    if self._reader is None or self._reader.done():
                        self._fail(f"closed with {self.close_code} while waiting for {wanted}")
                    await news.wait()
        except TimeoutError:
            self._fail(f"no {wanted} within {timeout:g} s")

    async def expect_nothing(self, type: str, *, fence: float = DEADLINE, **fields: Any) -> None:
        """Require that no such frame came before the answer to a ping sent now.

        It holds for what the gateway had sent or would answer before the ping, so publish and
        wait for the effect elsewhere first.

        Args:
            fence: seconds to wait for the pong.
        """
        await self.ask("ping", "pong", timeout=fence)
        if (frame := self._take(type, fields)) is not None:
            self._fail(f"came unexpectedly: {frame}")

    def _take(self, type: str, fields: Mapping[str, Any]) -> Frame | None:
        inbox = self._inbox.get(type, ())
        for index, frame in enumerate(inbox):
            if all(frame.get(name, _MISSING) == value for name, value in fields.items()):
                del self._inbox[type][index]
                return frame
        return None

    def parse(self, text: str | bytes) -> Frame:
        """Return the frame of a text that came."""
        frame: Frame = json.loads(text)
        return frame

    def received(self, frame: Frame) -> None:
        """Take in a frame that came."""
        if frame["type"] != "message":
            self.frames.append(frame)
        self._inbox.setdefault(frame["type"], deque()).append(frame)

    async def _read_frames(self) -> None:
        try:
            async for text in self.ws:
                self.received(self.parse(text))
                self._tell()
        except ConnectionClosed:
            pass
        except Exception as exc:  # what is no frame fails the next expect
            self._broken = exc
        finally:
            asyncio.get_running_loop().call_soon(self._tell)  # when this task is done

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _fail(self, reason: str) -> NoReturn:
        seen = "".join(f"\n  {frame}" for frame in self.frames[-10:])
        raise AssertionError(f"{reason}; the last frames:{seen or ' none'}") from self._broken
