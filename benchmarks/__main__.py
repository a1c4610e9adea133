"""Measure this gateway beside its peers, and say which targets are reached.

    python -m benchmarks                    all of it, about ten minutes
    python -m benchmarks --quick            a rough look, about two
    python -m benchmarks --only connect,unicast --peers node

Peers that cannot be had here are skipped with a word.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import machine, path
from .contest import SPARE_FILES, Bench, Scale
from .figures import Figure
from .peers.base import Missing, allow_many_files
from .reader import compiled
from .results import Results, as_text, rewrite
from .workloads import fanout, growth, sockets, unicast, upstream

PATH = "path"
"""Not a workload of several peers: what each step of an event's way costs this one."""
WORKLOADS: dict[str, Callable[[Bench], list[Figure]]] = {
    "fanout": fanout.sustained,
    "fanout-large": fanout.sustained_large,
    "paced": fanout.at_pace,
    "burst": fanout.burst,
    "unicast": unicast.thousand,
    "unicast-large": unicast.ten_thousand,
    "connect": sockets.storm,
    "memory": sockets.memory,
    "publish": upstream.publish,
    "resume": sockets.comeback,
    "bridge": upstream.bridge,
    "growth-sockets": growth.sockets,
    "growth-topics": growth.topics,
    "growth-rules": growth.rules,
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one round, fewer sockets")
    parser.add_argument(
        "--only", type=names, metavar="A,B", help=f"of these: {', '.join([*WORKLOADS, PATH])}"
    )
    parser.add_argument("--peers", type=names, metavar="A,B", help="beside the gateway, just these")
    parser.add_argument("--rounds", type=int, help="turns of each peer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write PNG files here")
    parser.add_argument(
        "--report", type=Path, metavar="PAGE", help="put the tables into this Markdown page"
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="measure nothing, take what --json wrote"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.only or ()) - {*WORKLOADS, PATH}:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    return options


def names(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def scale_of(options: argparse.Namespace, files: int) -> Scale:
    """Return how much to do, where that many files may be open."""
    room = files - SPARE_FILES
    rounds, seconds, sockets = (1, 1.0, 2000) if options.quick else (3, 2.0, 10_000)
    return Scale(options.rounds or rounds, seconds, min(sockets, room), room)


def measure(options: argparse.Namespace, command: str) -> Results:
    """Run the workloads.

    Raises:
        Missing: without what the load generator is compiled with.
    """
    compiled()
    scale = scale_of(options, allow_many_files())
    begun = time.monotonic()
    figures: list[Figure] = []
    described = machine.describe()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        peers = frozenset(options.peers) if options.peers else None
        bench = Bench(Path(directory), scale, peers)
        for name in (name for name in WORKLOADS if name in (options.only or WORKLOADS)):
            bench.say(f"{name} ({time.monotonic() - begun:.0f} s)")
            try:
                figures += WORKLOADS[name](bench)
            except (OSError, Missing) as exc:
                bench.skip(f"workload {name}", str(exc))
        steps = path.measure() if PATH in (options.only or [PATH]) else []
    seconds = time.monotonic() - begun
    return Results(command, seconds, described, bench.versions, bench.skipped, figures, steps)


def main() -> None:
    options = parse(sys.argv[1:])
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    try:
        results = Results.read(options.results) if options.results else measure(options, command)
        print(as_text(results))
        if options.json:
            results.save(options.json)
        pictures: dict[str, Path] = {}
        if options.plots:
            from .plots import draw

            pictures = draw(results.figures, options.plots)
        if options.report:
            rewrite(options.report, results, pictures)
    except (Missing, ValueError, OSError) as exc:
        raise SystemExit(f"error: {exc}") from exc


if __name__ == "__main__":
    main()
