"""TCP ports as options of commands."""

from __future__ import annotations

import argparse


def tcp_port(text: str) -> int:
    """Return the port that an option or the environment names.

    Raises:
        argparse.ArgumentTypeError: when it is none.
    """
    if text.isascii() and text.isdigit() and 0 < int(text[:6]) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535.")
