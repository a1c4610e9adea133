"""Run the faults and print the table: `python -m tests.faults --only 1,4 --runs 3`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.support.gateways import make_template

from . import table
from .lab import Lab
from .outcome import Line, Outcome, as_json, markdown_table, text_table
from .rows import Pace, Row


async def run(row: Row, directory: Path, template: Path, pace: Pace) -> Outcome:
    """Run one row once, in a lab of its own."""
    directory.mkdir(parents=True)
    try:
        async with Lab(directory, row.needs, template) as lab:
            outcome = await row.run(lab, pace)
            outcome.must("no traceback logged", lab.tracebacks() == 0)
            return outcome
    except Exception as exc:
        traceback.print_exc()
        failed = Outcome()
        failed.must(f"ran to its end: {type(exc).__name__}: {str(exc)[:200]}", False)
        return failed


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1, help="of each row; the worst is shown")
    parser.add_argument("--only", default="", help="numbers of rows, such as 1,4,10")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    parser.add_argument("--quick", action="store_true", help="the short durations of the tests")
    parser.add_argument("--keep", type=Path, help="keep logs and stores in this new directory")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    wanted = {int(number) for number in options.only.split(",") if number}
    rows = [row for row in table.ROWS if not wanted or row.number in wanted]
    lines: list[Line] = []
    begun = time.time()
    with tempfile.TemporaryDirectory(prefix="gateway-faults-") as temporary:
        home = options.keep or Path(temporary)
        template = make_template(home / "template")
        for position, row in enumerate(rows):
            line = Line(row.number, row.fault, [])
            for number in range(options.runs):
                directory = home / f"{row.number}-{position}-{number}"
                outcome = asyncio.run(run(row, directory, template, Pace(not options.quick)))
                line.runs.append(outcome)
            lines.append(line)
            print(text_table([line]), flush=True)
    failed = [line for line in lines if not line.holds]
    print(f"\n{len(lines) - len(failed)} of {len(lines)} rows hold;", end=" ")
    print(f"{(time.time() - begun) / 60:.1f} minutes; {platform.platform()}")
    if options.json:
        document = {
            "at": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(begun)),
            "command": " ".join(["python -m tests.faults", *sys.argv[1:]]),
            "python": platform.python_version(),
            "rows": as_json(lines),
        }
        options.json.write_text(json.dumps(document, indent=1))
    if options.markdown:
        options.markdown.write_text(markdown_table(lines) + "\n")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
