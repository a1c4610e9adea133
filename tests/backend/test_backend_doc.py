"""docs/backend.md shows the very programs that the tests here run."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOC = HERE.parents[1] / "docs" / "backend.md"
FENCES = {".py": "python", ".mjs": "js", ".php": "php"}


@pytest.mark.parametrize("suffix", FENCES)
@pytest.mark.parametrize("program", ["plain_worker", "plain_publish"])
def test_program_in_the_documentation_is_the_tested_one(program: str, suffix: str) -> None:
    text = (HERE / f"{program}{suffix}").read_text(encoding="utf-8")
    assert f"```{FENCES[suffix]}\n{text}```\n" in DOC.read_text(encoding="utf-8")
