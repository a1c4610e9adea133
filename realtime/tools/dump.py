"""A file of what arrived, as a scenario that `produce -s` sends again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Self, TextIO

import yaml

from realtime.client import Message

from .outcome import ToolError, UsageError


class Dump:
    """Writes one entry a message, complete at every moment.

    Args:
        path: a new file; its name ends in .yaml, for that is what it holds.

    Raises:
        UsageError: when it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".yaml", ".yml"):
            raise UsageError(f"A dump is YAML: call it {path.stem}.yaml.")
        try:
            self._file: TextIO = path.open("x", encoding="utf-8")
        except FileExistsError as exc:
            raise UsageError(f"{path} exists already: choose another name.") from exc
        except OSError as exc:
            raise UsageError(f"{path} cannot be written: {exc.strerror}.") from exc
        self._path = path
        self._last: float | None = None

    def write(self, message: Message, now: float) -> None:
        """Add a message.

        Args:
            now: seconds of any steady clock.

        Raises:
            ToolError: when the disk does not take it.
        """
        delay = 0 if self._last is None else round((now - self._last) * 1000)
        self._last = now
        entry: dict[str, Any] = {"topic": message.topic, "delay": delay, "payload": message.data}
        # Not allow_unicode: PyYAML then writes line breaks such as U+0085 as they are, and
        # reads them back as spaces.
        self._put(yaml.safe_dump([entry], sort_keys=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the file; one without messages is an empty list.

        Raises:
            ToolError: when the disk does not take it.
        """
        if self._last is None:
            self._put("[]\n")
        self._file.close()

    def _put(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as exc:
            with contextlib.suppress(OSError):  # to close it tries to write once more
                self._file.close()
            raise ToolError(f"{self._path} cannot be written: {exc.strerror}.") from exc
