"""`consume`: print what arrives on topics, answer requests, keep a dump."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dump import Dump
from .outcome import Exit, UsageError
from .output import Output
from .sides import Side, Target, side_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Consume:
    """What to consume.

    Attributes:
        count: messages after which it ends; None: none.
        timeout: seconds after which it ends; None: never.
        since: the last sequence that is not wanted any more.
        epoch: of the stream that `since` belongs to.
        rpc: answer requests, with `reply`, or with what each brought where that is None.
    """

    target: Target
    topics: tuple[str, ...]
    count: int | None = None
    timeout: float | None = None
    since: int | None = None
    epoch: str | None = None
    rpc: bool = False
    reply: Any | None = None
    dump: Path | None = None


async def consume(job: Consume, output: Output) -> Exit:
    """Print messages until there were enough, or the time is up.

    Returns:
        TIMEOUT when the time was up before there were enough, UNREACHABLE when there never was
        a connection.

    Raises:
        ToolError, ClientError, GatewayError: when it cannot go on.
        PipeClosed: when nobody reads the output.
    """
    if job.rpc and job.since is not None:
        raise UsageError("--since has no meaning with --rpc: requests are not stored.")
    if job.epoch is not None and job.since is None:
        raise UsageError("--epoch says which stream --since is of: give that as well.")
    with contextlib.ExitStack() as stack:
        dump = stack.enter_context(Dump(job.dump)) if job.dump is not None else None
        side: Side | None = None
        try:
            async with (
                asyncio.timeout(job.timeout) as deadline,
                await side_for(job.target, wait=False) as side,
            ):
                await _print(job, side, output, dump)
        except TimeoutError:
            if not deadline.expired():
                raise
            return _time_up(job, side)
    return Exit.DONE


async def _print(job: Consume, side: Side, output: Output, dump: Dump | None) -> None:
    arriving = (
        side.answered(job.topics, job.reply)
        if job.rpc
        else side.messages(job.topics, job.since, job.epoch)
    )
    got = 0
    async with contextlib.aclosing(arriving) as messages:  # type: ignore[type-var]
        async for message in messages:
            if dump is not None:
                dump.write(message, asyncio.get_running_loop().time())
            output.message(message)
            got += 1
            if got == job.count:
                return


def _time_up(job: Consume, side: Side | None) -> Exit:
    if side is None or not side.reached:
        logger.error("the time is up, and there was no connection")
        return Exit.UNREACHABLE
    if job.count is None:
        return Exit.DONE
    logger.error("the time is up before there were enough wanted=%d", job.count)
    return Exit.TIMEOUT
