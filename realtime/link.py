"""The link: this process's own connection to NATS for backend code, in a thread of its own.

Views, tasks and scripts are sync or async, forked or not; one event loop in one daemon thread
serves them all, made on first use, and anew after a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from .broker import Broker
from .conf import settings
from .parts import make_broker
from .protocol.exceptions import Unavailable

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Work = Callable[[Broker], Awaitable[Result]]


class Link:
    """A broker in a thread of its own.

    Args:
        broker: a connected one; None has one made on first use.
    """

    def __init__(self, broker: Any = None) -> None:
        self.key = _key()
        self._loop = asyncio.new_event_loop()
        self._broker = broker
        self._connecting: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        threading.Thread(target=self._loop.run_forever, name="realtime-link", daemon=True).start()

    def submit(self, work: Work[Result]) -> Future[Result]:
        """Run `work` with the broker in the link's thread."""
        return asyncio.run_coroutine_threadsafe(self._run(work), self._loop)

    def close(self) -> None:
        """Close the connection and end the thread, soon; what runs is given a moment."""

        async def close() -> None:
            # A loop that stops would leave them hanging in mid-air, and whoever waits for them.
            running = set(self._running)
            if running and self._broker is not None:
                _, running = await asyncio.wait(running, timeout=CLOSE_SECONDS)
            if self._connecting is not None:
                running.add(self._connecting)
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=CLOSE_SECONDS)
            if self._broker is not None:
                await self._broker.close()
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(close(), self._loop)

    async def _run(self, work: Work[Result]) -> Result:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if self._broker is None:
            # One attempt for all that wait: each would take the whole timeout while NATS is away.
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
                # Whoever waited may have given up, and nobody is left to hear that it failed.
                self._connecting.add_done_callback(
                    lambda task: task.cancelled() or task.exception()
                )
            await asyncio.shield(self._connecting)
        return await work(self._broker)

    async def _connect(self) -> None:
        try:
            broker = make_broker("backend")
            await broker.connect()
            self._broker = broker
        finally:
            self._connecting = None


MAX_POSTED = 1000
"""Posts that may wait; further ones are let go."""
CLOSE_SECONDS = 1.0
"""How long a link that is closed waits for what runs, and then for that to end when cancelled."""
FINISH_SECONDS = 2.0
"""How long a process that ends waits for its posts."""

_lock = threading.Lock()
_current: Link | None = None
_stand_in: Link | None = None
_posted: set[Future[object]] = set()


def run(work: Work[Result], timeout: float | None = None) -> Result:
    """Run `work` with a connected broker and return its result, from sync code.

    What it sends is at the server when this returns: a script may end right after.

    Args:
        work: what to do; has its own timeouts, as connecting has.
        timeout: seconds to wait for all of it, if less.

    Raises:
        Unavailable: when NATS cannot be reached; and what `work` raises.
    """
    future = _submit(_flushed(work))
    try:
        return future.result(timeout)
    except FutureTimeout as exc:
        future.cancel()
        raise Unavailable("NATS does not answer in time.") from exc


async def arun(work: Work[Result]) -> Result:
    """Run `work` with a connected broker and return its result, from any event loop.

    Raises:
        Unavailable: when NATS cannot be reached; and what `work` raises.
    """
    return await asyncio.wrap_future(_submit(work))


def post(work: Work[object], what: str) -> None:
    """Run `work` with a connected broker and do not wait; a failure is logged.

    Args:
        work: as for `run`.
        what: what it does, for the log.
    """

    def done(future: Future[object]) -> None:
        _posted.discard(future)
        if not future.cancelled() and (exc := future.exception()) is not None:
            logger.warning("%s failed reason=%s", what, exc)

    if len(_posted) >= MAX_POSTED:
        logger.warning("%s let go: NATS does not take what waits already", what)
        return
    future = _submit(_flushed(work))
    _posted.add(future)
    future.add_done_callback(done)


def _flushed(work: Work[Result]) -> Work[Result]:
    """Return `work` that ends when the server has seen what it sent."""

    async def flushed(broker: Broker) -> Result:
        result = await work(broker)
        await broker.flush()
        return result

    return flushed


@atexit.register
def _finish() -> None:
    """Let a script's last posts go out before its process ends."""
    if _posted:
        wait(tuple(_posted), timeout=FINISH_SECONDS)


@contextlib.contextmanager
def standing_in(broker: Any) -> Iterator[None]:
    """Have everything sent through `broker` meanwhile: for tests without a NATS server."""
    global _stand_in
    before, _stand_in = _stand_in, Link(broker)
    try:
        yield
    finally:
        with _lock:
            _stand_in.close()
            _stand_in = before


def _key() -> tuple[int, str]:
    return os.getpid(), settings.NATS_URL


def _submit(work: Work[Result]) -> Future[Result]:
    """Run `work` on the link of now: nobody closes it in between."""
    with _lock:
        return _link().submit(work)


def _link() -> Link:
    """Return this process's link; after a fork, or with another NATS_URL, a new one."""
    global _current
    if _stand_in is not None:
        return _stand_in
    if _current is None or _current.key != _key():
        # The parent's thread did not come along in a fork: nothing is there to be closed.
        if _current is not None and _current.key[0] == os.getpid():
            _current.close()
        _current = Link()
    return _current


def _after_fork() -> None:
    """Forget the lock too: another thread of the parent may have held it."""
    global _current, _lock
    _current, _lock = None, threading.Lock()
    _posted.clear()


os.register_at_fork(after_in_child=_after_fork)
