"""docs/security.md: no threat without a proof, and no proof that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THREATS = (
    (ROOT / "docs" / "security.md").read_text().split("## Threats")[1].split("## The audit")[0]
)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in THREATS.splitlines()
    if line.startswith("| ") and not line.startswith("| threat")
]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def faults() -> set[int]:
    """Return the numbers of the rows that `make faults` runs."""
    files = (ROOT / "tests" / "faults").glob("rows_*.py")
    return {int(n) for file in files for n in re.findall(r"@fault\((\d+)", file.read_text())}


def named(cell: str) -> set[int]:
    """Return the rows of the fault table that a cell names."""
    found: set[int] = set()
    for words in re.findall(r"rows? ([\d]+(?: (?:and|to) \d+)?)", cell):
        numbers = [int(one) for one in re.findall(r"\d+", words)]
        found |= set(range(numbers[0], numbers[-1] + 1) if "to" in words else numbers)
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_threat_is_stopped_by_something_that_a_test_shows(row: list[str]) -> None:
    threat, defence, proof = row
    tests = TEST.findall(proof)
    assert threat
    assert defence
    assert tests or named(proof)
    for file, name in tests:
        assert re.search(rf"def {name}\(", (ROOT / file).read_text()), f"{file} has no {name}"
    assert named(proof) <= faults()


def test_threats_are_read() -> None:
    """The rest proves nothing about what it does not see."""
    assert len(ROWS) > 30
    assert any(named(row[2]) == {13, 14, 15, 16} for row in ROWS)
