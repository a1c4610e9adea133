"""`produce`: send messages, one or a scenario of them, or ask and print the replies."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .outcome import Exit, UsageError
from .output import Output
from .scenario import Step
from .sides import Target, side_for

logger = logging.getLogger(__name__)

QUIET = 5.0
"""Seconds between two lines of progress in a log; on a terminal it is one line, drawn anew."""
DRAW = 0.2


@dataclass(frozen=True)
class Produce:
    """What to send.

    Attributes:
        count: how often all of it is sent.
        rpc: each is a request, whose reply is printed.
    """

    target: Target
    steps: Sequence[Step]
    count: int = 1
    rpc: bool = False


async def produce(job: Produce, output: Output) -> Exit:
    """Send everything, one after the other, each confirmed before the next.

    Raises:
        ToolError, ClientError, GatewayError: when one is refused or not confirmed; what came
            before it was sent.
        PipeClosed: when nobody reads the replies.
    """
    if job.count > 1 and any(step.message_id for step in job.steps):
        raise UsageError("With --count, messages with a messageId would be stored once only.")
    total = len(job.steps) * job.count
    progress = Progress(total)
    async with await side_for(job.target, wait=True) as side:
        for step in job.steps:
            side.check(step)
        for _ in range(job.count):
            for step in job.steps:
                await progress.pause(step.delay)
                if job.rpc:
                    output.reply(step.topic, await side.request(step))
                    progress.done("")
                else:
                    progress.done(f"topic={step.topic} {await side.publish(step)}")
    progress.end()
    return Exit.DONE


class Progress:
    """Says how far it is: each message when there are few, else now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._sent = 0
        self._each = total <= 10
        self._drawing = sys.stderr.isatty() and not self._each
        self._shown_at = asyncio.get_running_loop().time()
        self._began_at = self._shown_at

    async def pause(self, seconds: float) -> None:
        """Wait for a message's delay."""
        if seconds > 0:
            await asyncio.sleep(seconds)

    def done(self, what: str) -> None:
        """Note that one more was sent, and what became of it."""
        self._sent += 1
        if self._each and what:
            logger.info("sent %s", what)
        now = asyncio.get_running_loop().time()
        if not self._each and now - self._shown_at >= (DRAW if self._drawing else QUIET):
            self._shown_at = now
            self._show()

    def end(self) -> None:
        """Say that everything was sent."""
        if self._drawing:
            sys.stderr.write("\r\x1b[K")
        seconds = asyncio.get_running_loop().time() - self._began_at
        logger.info("done sent=%d seconds=%.1f", self._sent, seconds)

    def _show(self) -> None:
        share = 100 * self._sent // self._total
        if self._drawing:
            sys.stderr.write(f"\r\x1b[K{self._sent} of {self._total}, {share} %")
            sys.stderr.flush()
        else:
            logger.info("progress sent=%d of=%d percent=%d", self._sent, self._total, share)
