"""The commands in docs/api.md do what it says, on a gateway as `make run` starts it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartGateway
from tests.support.processes import PROJECT
from tests.test_docs import FENCE

DOC = PROJECT / "docs" / "api.md"
DEFAULT = "http://127.0.0.1:8000"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
def test_commands_answer_what_the_page_shows(gateway: StartGateway, tmp_path: Path):
    site = gateway()
    blocks = FENCE.findall(DOC.read_text(encoding="utf-8"))
    commands = "\n".join(body for language, body in blocks if language == "sh")
    assert DEFAULT in commands
    script = "set -euo pipefail\n" + commands.replace(DEFAULT, site.url())
    # One answer a line, and one that is an error ends the script.
    script = re.sub(r"\bcurl -s", r"curl -s --fail-with-body -w '\\n' --noproxy '*'", script)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [set(json.loads(line)) for line in done.stdout.splitlines() if line]
    shown = [set(json.loads(body)) for language, body in blocks if language == "json"]
    # The last one shown is a problem, which no command has.
    assert answers == shown[:-1]
