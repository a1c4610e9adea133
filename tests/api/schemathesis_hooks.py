"""What schemathesis is not to try."""

from __future__ import annotations

from typing import Any

import schemathesis


def has_whole_float(value: Any) -> bool:
    """Say whether a number such as 1.0 is in a value, apart from `data`, which is any JSON."""
    if isinstance(value, dict):
        return any(has_whole_float(one) for key, one in value.items() if key != "data")
    if isinstance(value, list):
        return any(map(has_whole_float, value))
    return isinstance(value, float) and value.is_integer()


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Leave out 1.0 for an integer: JSON Schema takes it for one, the API does not."""
    return not has_whole_float(body)
