"""Print env.example with a fresh secret for every empty *_KEY, *_PASSWORD and *_TOKEN."""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).with_name("env.example")
_SECRET = re.compile(r"^(\w+_(?:KEY|PASSWORD|TOKEN))=$", re.MULTILINE)


def fill(example: str) -> str:
    """Return `example` with its secrets filled in, 200 random bits each.

    A letter comes first, because nats-server reads a value that looks like a number as one. In
    all it is 51 characters: Django warns of a SECRET_KEY below 50.
    """
    return _SECRET.sub(lambda match: f"{match[1]}=s{secrets.token_hex(25)}", example)


if __name__ == "__main__":
    sys.stdout.write(fill(EXAMPLE.read_text(encoding="utf-8")))
