"""What a tool prints: messages on standard output, its log on standard error."""

from __future__ import annotations

import base64
import json
import logging
import os
import stat
import sys
import time
from typing import Any, Literal, TextIO

from realtime.client import Message

from .outcome import ToolError

Form = Literal["plain", "json"]
LOGGERS = ("realtime.tools", "realtime.client", "realtime.broker")


class PipeClosed(Exception):
    """Who read standard output has had enough."""


class Output:
    """Standard output, one line a message.

    Args:
        form: `plain` for people, `json` for programs: an object a line.
    """

    def __init__(self, form: Form, stream: TextIO | None = None) -> None:
        self._form = form
        self._stream: TextIO | None = stream or sys.stdout  # None where it was closed: `>&-`

    def message(self, message: Message) -> None:
        """Print a message.

        Raises:
            PipeClosed: when nobody reads any more.
            ToolError: when the disk does not take it.
        """
        if self._form == "json":
            self._write(_json({"topic": message.topic, **_fields(message)}))
            return
        clock = time.strftime("%H:%M:%S", time.localtime(message.ts / 1000))
        words = [clock, message.topic]
        words += [f"seq={message.seq_no}"] if message.seq_no is not None else []
        words += [f"id={message.message_id}"] if message.message_id else []
        self._write(" ".join([*words, _shown(message.data)]))

    def reply(self, topic: str, data: Any) -> None:
        """Print what a backend replied.

        Raises:
            PipeClosed: when nobody reads any more.
            ToolError: when the disk does not take it.
        """
        self._write(
            _json({"topic": topic, **_data(data)}) if self._form == "json" else _shown(data)
        )

    def _write(self, line: str) -> None:
        if self._stream is None:
            raise PipeClosed
        try:
            self._stream.write(f"{_printable(line)}\n")
            self._stream.flush()
        except OSError as exc:
            # Else Python complains when it flushes at the end:
            # https://docs.python.org/3/library/signal.html#note-on-sigpipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(exc, BrokenPipeError):
                raise PipeClosed from exc
            raise ToolError(f"Standard output cannot be written: {exc.strerror}.") from exc


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json(line)


def output_pipe() -> int | None:
    """Return the descriptor of standard output where that is a pipe."""
    if sys.stdout is None:
        return None
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except (OSError, ValueError):  # closed, or replaced by something without one
        return None


def set_up_log(form: Form) -> None:
    """Send the log of the tools, and of what they use, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(_JsonFormatter() if form == "json" else plain)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _fields(message: Message) -> dict[str, Any]:
    fields = {"seqNo": message.seq_no, "messageId": message.message_id or None, "ts": message.ts}
    return {**{name: one for name, one in fields.items() if one is not None}, **_data(message.data)}


def _data(data: Any) -> dict[str, Any]:
    if isinstance(data, bytes):
        return {"encoding": "base64", "data": base64.b64encode(data).decode()}
    return {"data": data}


def _shown(data: Any) -> str:
    return f"base64:{_data(data)['data']}" if isinstance(data, bytes) else _json(data)


def _printable(line: str) -> str:
    """Escape, as JSON does, what would steer a terminal, break the line or not be UTF-8.

    Ids and payloads are whatever their senders chose.
    """
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else _escaped(char) for char in line)


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if ord(char) > 0xFFFF else f"\\u{ord(char):04x}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
