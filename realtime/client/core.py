"""The core of a client: its parts, wired; its life, from `connect` to `close`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from .backoff import Backoff
from .entered import Entered
from .errors import ClientError, Closed, Denied, NoAnswer
from .frames import Confirmation, Expiring, Failure, Frame, Notice, Session
from .link import Link, State
from .options import Timing, Token, address_of
from .outbox import Outbox
from .replies import Replies
from .topics import Topics

logger = logging.getLogger(__name__)

TOO_BIG = 1009  # RFC 6455 §7.4.1


class ClientCore(Entered):
    """Wires the parts of a client, and holds them together from `connect` to `close`.

    Args:
        url: `ws(s)://HOST:PORT/ws/`; `http(s)://HOST:PORT` means the same.
        token: a token, or a function (async or not) that gives one: it is called before every
            connection, and when one expires. None: the cookie in `headers` is the credential.
        headers: of the upgrade request, as `log_in` returns them.
        on_state: called with every new State.
        on_notice: called with every Gap, Reset and Dropped, in its place between the messages
            of its subscription. Without it they are logged.
        timing: deadlines.
        backoff: the delays between connections.
        compression: offer permessage-deflate, which the gateway takes where COMPRESSION is on.
        max_size: bytes of the largest frame that is taken, inflated where it was compressed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        headers: Mapping[str, str] | None = None,
        on_state: Callable[[State], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
        timing: Timing | None = None,
        backoff: Backoff | None = None,
        compression: bool = True,
        max_size: int = 16 * 1024**2,
    ) -> None:
        self.session: Session | None = None
        self._timing = timing or Timing()
        self._on_state = on_state
        self._renews = callable(token)
        self._link = Link(
            address_of(url),
            token=token,
            headers=headers or {},
            compression=compression,
            max_size=max_size,
            timing=self._timing,
            backoff=backoff or Backoff(),
            handlers=self,
        )
        self._replies = Replies(self._link.send)
        self._outbox = Outbox(self._link.send, self._timing.again)
        self._topics = Topics(
            send=self._link.send,
            ask=self._ask,
            connected=lambda: self._link.connected,
            notify=on_notice or _log_notice,
            again=self._timing.again,
            patience=self._timing.replay,
        )
        self._running: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._link.state

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are subscribed to."""
        return self._topics.names

    # The connection.

    def start(self) -> None:
        """Connect in the background, and come back from now on; needs a running loop."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    async def connect(self, timeout: float | None = None) -> Session:
        """Connect, and return when the session is open.

        Args:
            timeout: seconds, over several attempts; None: the connect deadline.

        Raises:
            Denied: the gateway does not want this client.
            Closed: `close` was called meanwhile.
            NoAnswer: it could not be reached in time. It is tried on until `close`.
        """
        self.start()
        seconds = self._timing.connect if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds):
                while self.state.name != "open" or self.session is None:
                    if self._running is None or self._running.done():
                        raise self._ended()
                    await self._news.wait()
        except TimeoutError as exc:
            why = f": {self.state.reason}" if self.state.reason else "."
            raise NoAnswer(f"The gateway was not reached within {seconds:g} s{why}") from exc
        return self.session

    async def close(self) -> None:
        """Disconnect for good; what is open is refused, iterations end."""
        running, self._running = self._running, None
        for task in (self._renewing, running):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self.state.name != "closed":
            self._link.change(State("closed"))
        await self._refuse()

    # What the link tells.

    def received(self, frame: Frame) -> None:
        """Take in a frame."""
        answered = self._replies.settle(getattr(frame, "id", None), frame)
        match frame:
            case Session():
                self.session = frame
                if not answered:  # else it answers `refresh`: the session goes on
                    self._topics.ready()
                    self._replies.flush()
                    self._outbox.flush()
            case Confirmation():
                self._outbox.settle(frame)
            case Expiring():
                if self._renews and (self._renewing is None or self._renewing.done()):
                    self._renewing = asyncio.create_task(self._renew())
            case Failure():
                self._topics.receive(frame)
                if not answered and not self._outbox.settle(frame):
                    logger.warning(
                        "gateway error code=%s topic=%s %s", frame.code, frame.topic, frame.message
                    )
            case _:
                self._topics.receive(frame)

    def lost(self, code: int) -> None:
        """Note that the connection, or the attempt, ended."""
        if code == TOO_BIG:
            self._outbox.too_big()
        self._outbox.disconnected()
        self._topics.disconnected()
        self._replies.disconnected()

    def changed(self, state: State) -> None:
        """Note a new state."""
        self._wake()
        if self._on_state is not None:
            try:
                self._on_state(state)
            except Exception:
                logger.exception("on_state failed")  # the application's own

    async def _run(self) -> None:
        try:
            await self._link.run()
        except Exception:
            logger.exception("the client failed")
            self._link.change(State("denied", reason="The client failed: see its log."))
        await self._refuse()
        self._wake()  # who waits in `connect` looks whether this has ended

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _renew(self) -> None:
        # Where it fails the session ends at its time, and the next connection asks again.
        try:
            async with asyncio.timeout(self._timing.connect):
                token = await self._link.token()
            if token is not None:
                await self._ask("refresh", {"token": token})
        except Exception as exc:
            logger.warning("token not renewed reason=%r", exc)

    async def _ask(
        self, type_: str, fields: Mapping[str, Any], timeout: float | None = None
    ) -> Frame:
        self._require_running(fields.get("topic"))
        return await self._replies.ask(type_, fields, timeout or self._timing.reply)

    def _require_running(self, topic: str | None) -> None:
        if self._running is None or self.state.name == "denied":
            error = self._ended()
            error.topic = topic
            raise error

    def _ended(self) -> ClientError:
        if self.state.name == "denied":
            reason = self.state.reason or "The gateway refused the connection."
            return Denied(reason, close_code=self.state.code or 0)
        return Closed("The client is not connected: call connect() first.")

    async def _refuse(self) -> None:
        self._replies.refuse(self._ended)
        self._outbox.refuse(self._ended)
        await self._topics.close(self._ended)


def _log_notice(notice: Notice) -> None:
    logger.warning("notice topic=%s %r", notice.topic, notice)
