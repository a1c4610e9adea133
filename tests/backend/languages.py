"""The languages of the examples in docs/backend.md, and how their programs are started.

Python's always run; PHP's where `php` is installed; Node's where the variable NODE_MODULES names
the directory into which `npm install @nats-io/transport-node jsonwebtoken` put its packages.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE_MODULES = os.environ.get("NODE_MODULES", "")

LANGUAGES = [
    "python",
    pytest.param(
        "node",
        marks=pytest.mark.skipif(
            not (shutil.which("node") and NODE_MODULES), reason="NODE_MODULES is not set"
        ),
    ),
    pytest.param(
        "php",
        marks=pytest.mark.skipif(shutil.which("php") is None, reason="php is not installed"),
    ),
]


def command(language: str, program: str, directory: Path) -> list[str]:
    """Return how an example is started.

    Args:
        program: its file name without suffix.
        directory: an empty one.
    """
    if language == "python":
        return [sys.executable, str(HERE / f"{program}.py")]
    if language == "php":
        return ["php", str(HERE / f"{program}.php")]
    # Node looks for packages beside the file.
    shutil.copy(HERE / f"{program}.mjs", directory)
    (directory / "node_modules").symlink_to(Path(NODE_MODULES).resolve())
    return ["node", str(directory / f"{program}.mjs")]
