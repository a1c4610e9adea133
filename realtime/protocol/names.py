"""Names in a JSON object: a field that comes twice means one thing here and another elsewhere.

RFC 8259 §4 leaves open which of two equal names counts: a proxy, a log and a client may each read
another frame than the gateway does. So a frame has each of its fields once.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator

# Numbers stay text: one in a field that nobody reads may be beyond what int() takes.
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_VALUE = re.compile(r"[^ \t\r\n:]")


def repeated_name(text: str, names: Iterable[str]) -> str | None:
    """Return one of `names` that the object in `text` has twice, None when it has none.

    Args:
        text: a JSON object; it has been decoded before, so that it is known to be one.
        names: in double quotes, as they are in the text.

    Raises:
        RecursionError: when it is nested too deeply.
    """
    # A name may be written with escapes as well.
    escaped = "\\u" in text
    suspects = [name for name in names if escaped or text.count(name) > 1]
    if not suspects:
        return None
    times = Counter(_names(text))
    return next((name for name in suspects if times[name] > 1), None)


def _names(text: str) -> Iterator[str]:
    position = 0
    while (start := text.find('"', position)) >= 0:
        name, end = _scan(text, start)
        value = _VALUE.search(text, end)
        if value is None:
            return
        _, position = _scan(text, value.start())
        yield f'"{name}"'
