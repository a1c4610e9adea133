"""Logs as JSON: every value a field, and no value another's."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from gateway_project.logs import JsonFormatter


def logged(message: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what a log call becomes."""
    record = logging.getLogger("realtime.test").makeRecord(
        "realtime.test", logging.INFO, __file__, 1, message, args, **{"exc_info": None, **kwargs}
    )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_values_become_fields() -> None:
    entry = logged("closed session=%s user=%s code=%d after=%.1fs", "a1", "7", 4001, 2.5)
    assert entry["message"] == "closed session=a1 user=7 code=4001 after=2.5s"
    assert (entry["session"], entry["user"], entry["code"]) == ("a1", "7", 4001)
    assert entry["after"] == 2.5
    assert (entry["level"], entry["logger"]) == ("INFO", "realtime.test")


def test_value_that_looks_like_a_field_forges_none() -> None:
    entry = logged("cookie refused from origin=%s ip=%s", "x user=admin\nlevel=ERROR", "192.0.2.1")
    assert entry["origin"] == "x user=admin\nlevel=ERROR"
    assert entry["ip"] == "192.0.2.1"
    assert "user" not in entry
    assert entry["level"] == "INFO"


def test_field_named_like_one_of_ours_does_not_replace_it() -> None:
    assert logged("odd level=%s", "silly")["level"] == "INFO"


@pytest.mark.parametrize("message", ["100%% of", "no values", "broken %s here"])
def test_message_without_names_has_no_fields(message: str) -> None:
    args = ("x",) if "%s" in message else ()
    assert set(logged(message, *args)) == {"time", "level", "logger", "message", "process"}


def test_exception_is_told() -> None:
    try:
        raise ValueError("why")
    except ValueError as exc:
        entry = logged("failed", exc_info=(type(exc), exc, exc.__traceback__))
    assert "ValueError: why" in entry["exception"]
