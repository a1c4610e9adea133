"""Logs as JSON, one object a line, for whoever collects them."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

_PLACE = re.compile(r"(?:(?P<name>\w+)=)?%(?!%)[-+ #0]*[\d.]*[a-zA-Z]")
_PLAIN = (bool, int, float, str, type(None))


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON; what the message names as `key=%s` becomes a field of its own.

    The fields come from the record's arguments, not from its text: a value with spaces or
    quotes in it cannot forge another field.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        for name, value in _fields(record).items():
            entry.setdefault(name, value)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    if not isinstance(record.msg, str) or not isinstance(record.args, tuple):
        return {}
    names = [match["name"] for match in _PLACE.finditer(record.msg)]
    return {
        name: value if isinstance(value, _PLAIN) else str(value)
        for name, value in zip(names, record.args, strict=False)
        if name
    }
