"""What a row found: figures, what had to hold, and the table of it all."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Figure = float | int | str


@dataclass(frozen=True)
class Check:
    """Something that must hold.

    Attributes:
        timed: it depends on the speed of the machine, so that tests do not assert it.
    """

    text: str
    holds: bool
    timed: bool = False


@dataclass
class Outcome:
    """One run of one row."""

    figures: dict[str, Figure] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def must(self, text: str, holds: bool, *, timed: bool = False) -> None:
        """Note something that must hold, and whether it did."""
        self.checks.append(Check(text, bool(holds), timed))

    def violations(self, *, timed: bool = True) -> list[str]:
        """Return what did not hold.

        Args:
            timed: also what depends on the speed of the machine.
        """
        return [one.text for one in self.checks if not one.holds and (timed or not one.timed)]


@dataclass
class Line:
    """One row of the table, over all its runs."""

    number: int
    fault: str
    runs: list[Outcome]

    @property
    def passed(self) -> int:
        """Return in how many runs everything held."""
        return sum(not run.violations() for run in self.runs)

    @property
    def holds(self) -> bool:
        """Say whether everything held in every run."""
        return self.passed == len(self.runs)

    @property
    def figures(self) -> dict[str, Figure]:
        """Return the worst of each figure over all runs."""
        worst: dict[str, Figure] = {}
        for run in self.runs:
            for name, value in run.figures.items():
                before = worst.get(name)
                if isinstance(value, str) or isinstance(before, str) or before is None:
                    worst[name] = value
                else:
                    worst[name] = max(before, value)
        return worst

    @property
    def criteria(self) -> list[str]:
        """Return what had to hold; what did not in some run is marked."""
        broken = {text for run in self.runs for text in run.violations()}
        texts = dict.fromkeys(check.text for run in self.runs for check in run.checks)
        return [f"VIOLATED: {text}" if text in broken else text for text in texts]


def show(value: Figure) -> str:
    """Return a figure as it is printed."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text_table(lines: Iterable[Line], width: int = 100) -> str:
    """Return the table for a terminal."""
    shown: list[str] = []
    for line in lines:
        verdict = "pass" if line.holds else "FAIL"
        runs = f" {line.passed}/{len(line.runs)}" if len(line.runs) > 1 else ""
        figures = ", ".join(f"{name} {show(value)}" for name, value in line.figures.items())
        shown.append(f"{line.number:>3}  {verdict}{runs}  {line.fault}")
        for text in (figures, "; ".join(line.criteria)):
            shown += textwrap.wrap(text, width, initial_indent=" " * 5, subsequent_indent=" " * 5)
    return "\n".join(shown)


def markdown_table(lines: Sequence[Line]) -> str:
    """Return the table for docs/reliability.md."""
    shown = ["| # | fault | figures | held |", "|---|---|---|---|"]
    for line in lines:
        figures = ", ".join(f"{name} {show(value)}" for name, value in line.figures.items())
        verdict = f"{line.passed}/{len(line.runs)}" if line.holds else "**no**"
        shown.append(f"| {line.number} | {line.fault} | {figures} | {verdict} |")
    return "\n".join(shown)


def as_json(lines: Iterable[Line]) -> list[dict[str, object]]:
    """Return the lines as JSON takes them."""
    return [
        {
            "row": line.number,
            "fault": line.fault,
            "holds": line.holds,
            "runs": [
                {
                    "figures": run.figures,
                    "checks": [
                        {"text": one.text, "holds": one.holds, "timed": one.timed}
                        for one in run.checks
                    ],
                }
                for run in line.runs
            ],
        }
        for line in lines
    ]
