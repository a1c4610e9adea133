"""Plots of a run, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import Figure

OURS_COLOUR, THEIRS_COLOUR = "#0b6e4f", "#9aa5b1"
PANELS = {
    "Fan-out, burst and latency": ("fanout-500", "fanout-alone", "burst", "paced-p99"),
    "Unicast, connects and memory": ("unicast-1000", "unicast-10000", "connect", "memory"),
    "Publish, resume and bridge": ("publish", "resume", "bridge", "cost-rules"),
}
FILES = ("performance-fanout.png", "performance-sockets.png", "performance-streams.png")
GROWTH = "performance-growth.png"


def draw(figures: Sequence[Figure], directory: Path) -> dict[str, Path]:
    """Write the plots of those figures that were measured; return what each shows, and its path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    known = {figure.key: figure for figure in figures if figure.samples}
    written = {}
    directory.mkdir(parents=True, exist_ok=True)
    for name, (title, keys) in zip(FILES, PANELS.items(), strict=True):
        if not any(key in known for key in keys):
            continue
        page, axes = pyplot.subplots(2, 2, figsize=(11, 6.5), layout="constrained")
        for axis, key in zip(axes.flat, keys, strict=True):
            if key in known:
                _bars(axis, known[key])
            else:
                axis.axis("off")
        written[title] = _save(pyplot, page, directory / name)
    grown = [
        what
        for what in ("sockets", "topics")
        if any(key.startswith(f"cost-{what}-") for key in known)
    ]
    if grown:
        page, axes = pyplot.subplots(
            1, len(grown), figsize=(5.5 * len(grown), 3.5), layout="constrained", squeeze=False
        )
        for axis, what in zip(axes.flat, grown, strict=True):
            _growth(axis, known, what)
        written["Cost of a delivery"] = _save(pyplot, page, directory / GROWTH)
    return written


def _save(pyplot: Any, page: Any, path: Path) -> Path:
    # Without the versions that matplotlib writes into it, the same figures make the same file.
    page.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(page)
    return path


def _bars(axis: Any, figure: Figure) -> None:
    names = sorted(
        figure.samples, key=lambda name: figure.median(name) or 0.0, reverse=figure.more_is_better
    )[::-1]
    middles = [figure.median(name) or 0.0 for name in names]
    spread = [
        [middle - min(figure.samples[name]) for name, middle in zip(names, middles, strict=True)],
        [max(figure.samples[name]) - middle for name, middle in zip(names, middles, strict=True)],
    ]
    colours = [OURS_COLOUR if name == figure.ours else THEIRS_COLOUR for name in names]
    axis.barh(names, middles, color=colours, xerr=spread, ecolor="#444444", capsize=2)
    better = "more" if figure.more_is_better else "less"
    axis.set_title(f"{figure.title}\n{figure.unit}, {better} is better", fontsize=10)
    axis.locator_params(axis="x", nbins=5)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.spines[["top", "right"]].set_visible(False)


def _growth(axis: Any, known: Mapping[str, Figure], what: str) -> None:
    prefix = f"cost-{what}-"
    sizes = sorted(int(key.removeprefix(prefix)) for key in known if key.startswith(prefix))
    peers = {name for size in sizes for name in known[f"{prefix}{size}"].samples}
    for name in sorted(peers):
        costs = [known[f"{prefix}{size}"].median(name) for size in sizes]
        ours = known[f"{prefix}{sizes[0]}"].ours == name
        axis.plot(
            sizes, costs, marker="o", label=name, color=OURS_COLOUR if ours else THEIRS_COLOUR
        )
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_title(f"processor time of a delivery, by {what}\nµs, less is better", fontsize=10)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
