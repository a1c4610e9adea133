"""Scenarios: lists of messages with a topic and a delay, which may include other scenarios.

A scenario is read whole, with everything that it includes, before the first message is sent: a
mistake in the last file does not show after an hour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .outcome import UsageError
from .payloads import load, require_payload

FIELDS = {"topic", "payload", "file", "scenario", "delay", "messageId"}
MOST_STEPS = 1_000_000
"""Scenarios that include each other twice over grow fast."""
DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Step:
    """One message to send.

    Attributes:
        delay: seconds to wait before it.
    """

    topic: str
    payload: Any
    delay: float = 0.0
    message_id: str | None = None


def read_scenario(path: Path, topic: str | None) -> list[Step]:
    """Return the steps of a scenario, in order.

    Args:
        topic: for messages that name none.

    Raises:
        UsageError: with file and place of the mistake.
    """
    steps: list[Step] = []
    for step in _steps(path, topic, (path.resolve(),)):
        if len(steps) >= MOST_STEPS:
            raise UsageError(f"{path} has more than {MOST_STEPS} messages with what it includes.")
        steps.append(step)
    return steps


def _steps(path: Path, topic: str | None, inside: tuple[Path, ...]) -> Iterator[Step]:
    entries = load(path)
    if not isinstance(entries, list):
        raise UsageError(f"{path} is no scenario: it has to be a list of messages.")
    for number, entry in enumerate(entries, 1):
        where = f"{path}, entry {number}"
        if not isinstance(entry, dict) or (unknown := set(entry) - FIELDS):
            bad = sorted(map(str, unknown)) if isinstance(entry, dict) else type(entry).__name__
            raise UsageError(f"{where}: {bad} is not one of {', '.join(sorted(FIELDS))}.")
        if len({"payload", "file", "scenario"} & set(entry)) != 1:
            raise UsageError(f"{where}: give one of payload, file and scenario.")
        delay = _delay(entry.get("delay", 0), where)
        if "scenario" in entry:
            for step in _included(path, entry, where, topic, inside):
                yield replace(step, delay=step.delay + delay)
                delay = 0.0  # it stands before the first
        else:
            yield _message(path, entry, where, topic, delay)


def _included(
    path: Path, entry: dict[str, Any], where: str, topic: str | None, inside: tuple[Path, ...]
) -> Iterator[Step]:
    other = _beside(path, entry["scenario"], where)
    if other.resolve() in inside:
        chain = " → ".join(one.name for one in (*inside, other))
        raise UsageError(f"{where}: the scenarios include each other in a circle: {chain}.")
    if len(inside) >= DEEPEST:
        raise UsageError(f"{where}: scenarios are at most {DEEPEST} deep.")
    if "messageId" in entry:
        raise UsageError(f"{where}: a messageId belongs to a message.")
    yield from _steps(other, _topic(entry, topic, where), (*inside, other.resolve()))


def _message(
    path: Path, entry: dict[str, Any], where: str, topic: str | None, delay: float
) -> Step:
    name = _topic(entry, topic, where)
    if name is None:
        raise UsageError(f"{where}: there is no topic: name one there, or give -t.")
    payload = entry["payload"] if "payload" in entry else load(_beside(path, entry["file"], where))
    require_payload(payload, where)
    message_id = entry.get("messageId")
    if message_id is not None and not isinstance(message_id, str):
        raise UsageError(f"{where}: messageId is text.")
    return Step(name, payload, delay, message_id)


def _beside(path: Path, name: object, where: str) -> Path:
    """Return a file whose name is relative to the scenario that names it."""
    if not isinstance(name, str) or not name:
        raise UsageError(f"{where}: a file's name is text.")
    return path.parent / name


def _topic(entry: dict[str, Any], default: str | None, where: str) -> str | None:
    topic = entry.get("topic", default)
    if topic is not None and (not isinstance(topic, str) or not topic):
        raise UsageError(f"{where}: the topic is text.")
    return topic


def _delay(value: object, where: str) -> float:
    """Return seconds for a delay in ms."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= float(value) < math.inf:  # type: ignore[arg-type]
        raise UsageError(f"{where}: the delay is a number of milliseconds from 0 on.")
    return float(value) / 1000  # type: ignore[arg-type]
