"""The machine on which a run took place."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from realtime.embedded import find_binary

ROOT = Path(__file__).resolve().parent.parent


def describe() -> dict[str, str]:
    """Return what a reader has to know beside the figures."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{_system()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "nats-server": _output([find_binary(), "--version"]).rpartition("v")[2],
        "node": _output(["node", "--version"]).removeprefix("v"),
        "commit": _output(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _system() -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', _text("/etc/os-release"), re.MULTILINE)
    return found[1] if found else platform.system()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "none"
    return done.stdout.strip()
