"""Runs a tool to its end: signals, errors, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable

from realtime.client import ClientError
from realtime.protocol.exceptions import GatewayError

from .outcome import Exit, ToolError, failure_of
from .output import Form, PipeClosed, output_pipe, set_up_log

logger = logging.getLogger(__name__)

_EXITS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


def run(work: Callable[[], Awaitable[Exit]], *, form: Form, endless: bool, prints: bool) -> Exit:
    """Return how a tool's work ended; what goes wrong is one line in the log.

    Args:
        form: of the log.
        endless: the work has no end of its own, so that a signal, or nobody reading any more, is
            the way to end it.
        prints: what it prints is what it is for, so that it ends when nobody reads it.
    """
    set_up_log(form)
    try:
        return asyncio.run(_until_signal(work, endless=endless, prints=prints))
    except ToolError as exc:
        logger.error("%s", exc.message)
        return exc.code
    except (ClientError, GatewayError) as exc:
        failure = failure_of(exc)
        logger.error("%s", failure.message)
        return failure.code
    except PipeClosed:
        return Exit.DONE if endless else Exit.UNREAD


async def _until_signal(
    work: Callable[[], Awaitable[Exit]], *, endless: bool, prints: bool
) -> Exit:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[Exit] = loop.create_future()

    def note(exit_code: Exit) -> None:
        if not came.done():
            came.set_result(exit_code)

    for number, exit_code in _EXITS.items():
        loop.add_signal_handler(number, note, Exit.DONE if endless else exit_code)
    pipe = output_pipe() if prints else None
    if pipe is not None:
        # The writing end of a pipe becomes readable when the reading end is closed: so it is
        # noticed at once, and not at the next message.
        loop.add_reader(pipe, note, Exit.DONE if endless else Exit.UNREAD)
    task = asyncio.ensure_future(work())
    task.add_done_callback(lambda _: came.cancel())
    try:
        await asyncio.wait([came])
        if task.done():
            return task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return came.result()
    finally:
        if pipe is not None:
            loop.remove_reader(pipe)
        for number in _EXITS:
            loop.remove_signal_handler(number)
