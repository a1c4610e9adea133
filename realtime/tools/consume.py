"""`consume`: print what arrives on topics, answer requests, keep a dump."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dump import Dump
from .outcome import Exit, UsageError
from .output import Output
from .sides import Target, side_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Consume:
    """What to consume.

    Attributes:
        count: messages after which it ends; None: none.
        timeout: seconds after which it ends; None: never.
        since: the last sequence that is not wanted any more.
        rpc: answer requests, with `reply`, or with what each brought where that is None.
    """

    target: Target
    topics: tuple[str, ...]
    count: int | None = None
    timeout: float | None = None
    since: int | None = None
    rpc: bool = False
    reply: Any | None = None
    dump: Path | None = None


async def consume(job: Consume, output: Output) -> Exit:
    """Print messages until there were enough, or the time is up.

    Returns:
        TIMEOUT when the time was up before there were enough.

    Raises:
        ToolError, ClientError, GatewayError: when it cannot go on.
        PipeClosed: when nobody reads the output.
    """
    if job.rpc and job.since is not None:
        raise UsageError("--since has no meaning with --rpc: requests are not stored.")
    dump = Dump(job.dump) if job.dump is not None else None
    got = 0
    try:
        async with asyncio.timeout(job.timeout), await side_for(job.target, wait=False) as side:
            arriving = (
                side.answered(job.topics, job.reply)
                if job.rpc
                else side.messages(job.topics, job.since)
            )
            async with aclosing(arriving) as messages:  # type: ignore[type-var]
                async for message in messages:
                    if dump is not None:
                        dump.write(message, asyncio.get_running_loop().time())
                    output.message(message)
                    got += 1
                    if got == job.count:
                        return Exit.DONE
    except TimeoutError:
        if job.count is None:
            return Exit.DONE
        logger.error("the time is up got=%d wanted=%d", got, job.count)
        return Exit.TIMEOUT
    finally:
        if dump is not None:
            dump.close()
    return Exit.DONE
