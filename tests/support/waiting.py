"""Waiting for a condition with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds for one step: reached only where something is broken, however busy the machine is."""
INTERVAL = 0.01
"""Seconds between two looks at a condition."""


@overload
async def until(
    condition: Callable[[], Awaitable[T]], timeout: float = DEADLINE, *, what: str = ""
) -> T: ...


@overload
async def until(condition: Callable[[], T], timeout: float = DEADLINE, *, what: str = "") -> T: ...


async def until(condition: Callable[[], Any], timeout: float = DEADLINE, *, what: str = "") -> Any:
    """Return what `condition` returns as soon as that is true.

    Args:
        condition: called again and again; may be async.
        timeout: seconds.
        what: what is waited for, named in the failure.

    Raises:
        AssertionError: when it was not true in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        _require_time(deadline, timeout, what)
        await asyncio.sleep(INTERVAL)


def wait_until(condition: Callable[[], T], timeout: float = DEADLINE, *, what: str = "") -> T:
    """Do what `until` does, without an event loop."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        _require_time(deadline, timeout, what)
        time.sleep(INTERVAL)
    return value


def _require_time(deadline: float, timeout: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise AssertionError(f"not within {timeout:g} s: {what or 'the condition'}")
