"""JSON read as strictly as a browser reads it, and more."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def strict_json(text: str | bytes) -> Any:
    """Return the value of strict JSON text: no NaN, no number that overflows, no surrogates.

    Raises:
        ValueError: when it is not that.
    """
    if isinstance(text, bytes):
        raise ValueError(f"a binary frame: {text[:50]!r}")
    value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} overflows")
    return number
