"""The results of a run: kept as JSON, shown as tables of text or of Markdown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .figures import TARGETS, Figure, Target

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
"""Between these comments of a page stand the tables of the last run."""


@dataclass(frozen=True)
class Results:
    """One run.

    Attributes:
        command: as it was typed.
        skipped: peer -> why it is not there.
        versions: peer -> what it is made of.
        seconds: that the run took.
        path: steps of an event's way, each with its cost in microseconds (path.py).
    """

    command: str
    seconds: float
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    skipped: Mapping[str, str]
    figures: Sequence[Figure]
    path: Sequence[tuple[str, float]]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        data = {**vars(self), "figures": [figure.as_dict() for figure in self.figures]}
        path.write_text(json.dumps(data, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return what `save` wrote."""
        data = json.loads(path.read_text())
        return cls(**{**data, "figures": [Figure(**figure) for figure in data["figures"]]})


def target_rows(results: Results) -> Iterator[tuple[str, str, str]]:
    """Yield each target, what was measured, and whether that is enough."""
    figures = {figure.key: figure for figure in results.figures}
    for target in TARGETS:
        value = target.value(figures)
        if value is None:
            yield target.text, "not measured", absence(results, target, figures)
        else:
            unit = f" {figures[target.figure].unit}" if target.peer is None else " ×"
            said = "reached" if target.reached(value) else "not reached"
            yield target.text, f"{number(value)}{unit}", said


def absence(results: Results, target: Target, figures: Mapping[str, Figure]) -> str:
    """Return why there is no figure for a target."""
    if why := results.skipped.get(target.peer or ""):
        return f"skipped: {why}"
    figure = figures.get(target.figure)
    if figure is not None:
        for name in (figure.ours, target.peer):
            if name in figure.failed:
                return f"failed: {name}: {figure.failed[name]}"
    return "not run"


def figure_rows(figure: Figure) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield each peer with its median, its range, our ratio to it, and what else is to be known."""
    for name, samples in figure.samples.items():
        ratio = None if name == figure.ours else figure.ratio(name)
        notes = []
        if name in figure.busy:
            notes.append(f"{figure.busy[name]:.0%}")
        if figure.lost.get(name):
            notes.append(f"{figure.lost[name]:,} lost")
        if name in figure.failed:
            notes.append(f"failed in turn {len(samples) + 1}: {figure.failed[name]}")
        yield (
            name,
            f"{number(figure.median(name) or 0.0)} {figure.unit}",
            f"{number(min(samples))} to {number(max(samples))}",
            "" if ratio is None else f"{ratio:.2f} ×",
            ", ".join(notes),
        )
    for name, reason in figure.failed.items():
        if name not in figure.samples:
            yield name, "failed", "", "", reason


def number(value: float) -> str:
    """Return a number with three figures or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def as_text(results: Results) -> str:
    """Return the tables for a terminal."""
    lines = []
    for figure in results.figures:
        lines.append(f"\n{figure.title}  (load average {figure.load_average:.1f})")
        for name, middle, spread, ratio, notes in figure_rows(figure):
            lines.append(f"  {name:24}{middle:>23}{spread:>26}{ratio:>10}  {notes}")
    if results.path:
        lines.append("\nThe way of an event through the web process")
        lines += [f"  {step:66}{cost:>11.1f} µs" for step, cost in results.path]
    lines.append("\nTargets")
    lines += [f"  {text:66}{value:>14}  {said}" for text, value, said in target_rows(results)]
    lines += [f"  skipped: {name}: {reason}" for name, reason in results.skipped.items()]
    return "\n".join(lines)


def as_markdown(results: Results) -> str:
    """Return the tables for a page."""
    machine = results.machine
    lines = [
        f"{machine['date']}, {machine['processor']}, {machine['memory']}, {machine['system']},"
        f" Python {machine['python']}, nats-server {machine['nats-server']}, Node"
        f" {machine['node']}; commit {machine['commit']}; {results.seconds / 60:.0f} minutes:",
        "",
        "```sh",
        results.command,
        "```",
        "",
        "### Targets",
        "",
        "| to reach | measured | |",
        "|---|---|---|",
        *(table_row(row) for row in target_rows(results)),
    ]
    for figure in results.figures:
        lines += [
            "",
            f"### {figure.title[0].upper()}{figure.title[1:]}",
            "",
            f"Load average {figure.load_average:.1f}.",
            "",
            "| | median | rounds | ours / theirs | load generator |",
            "|---|---|---|---|---|",
            *(table_row(row) for row in figure_rows(figure)),
        ]
    if results.path:
        lines += [
            "",
            "### The way of an event through the web process",
            "",
            "| step | µs |",
            "|---|---|",
            *(f"| {step} | {cost:.1f} |" for step, cost in results.path),
        ]
    lines += ["", "### Peers", ""]
    lines += [f"- {name}: {version}." for name, version in results.versions.items()]
    lines += [f"- {name}: skipped ({reason})." for name, reason in results.skipped.items()]
    return "\n".join(lines)


def table_row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table; what a peer said may hold anything."""
    escaped = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def rewrite(page: Path, results: Results, pictures: Mapping[str, Path]) -> None:
    """Put tables and pictures into a page, in place of those that it has.

    Args:
        pictures: what each shows -> its file.

    Raises:
        ValueError: when the page has no place for them.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the two lines {BEGIN} and {END}")
    shown = [
        f"![{what}]({os.path.relpath(picture, page.parent)})\n\n"
        for what, picture in pictures.items()
    ]
    page.write_text(f"{before}{BEGIN}\n\n{''.join(shown)}{as_markdown(results)}\n\n{END}{after}")
