"""Ratios, targets and tables: what the suite makes of its samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import WORKLOADS, parse, scale_of
from benchmarks.figures import Figure, Target
from benchmarks.results import (
    BEGIN,
    END,
    Results,
    as_markdown,
    as_text,
    figure_rows,
    rewrite,
    target_rows,
)


def results(*figures: Figure, **skipped: str) -> Results:
    machine = dict.fromkeys(
        ("date", "processor", "memory", "system", "python", "nats-server", "node", "commit"), "x"
    )
    return Results("command", 60.0, machine, {}, skipped, list(figures), [("a step", 1.5)])


def test_ratio_is_the_median_of_the_ratios_within_the_rounds() -> None:
    # The machine was ten times as slow in the second round, for both.
    figure = Figure("f", "f", "1/s", samples={"gateway": [200, 20, 100], "node": [100, 10, 100]})
    assert figure.ratio("node") == 2


def test_ratio_to_a_peer_that_was_not_there_is_none() -> None:
    assert Figure("f", "f", "1/s", samples={"gateway": [1.0]}).ratio("node") is None


@pytest.mark.parametrize(("at_least", "reached"), [(True, False), (False, True)])
def test_target_below_its_bound_is_reached_only_where_less_is_wanted(
    at_least: bool, reached: bool
) -> None:
    assert Target("f", "f", 1.3, at_least=at_least).reached(1.2) is reached


def test_target_whose_peer_was_skipped_says_why() -> None:
    figure = Figure("fanout-500", "f", "1/s", samples={"gateway": [1.0]})
    rows = {text: said for text, _, said in target_rows(results(figure, centrifugo="no Go"))}
    assert rows["fan-out, 500 sockets: 1.0 × Centrifugo"] == "skipped: no Go"


def test_results_survive_their_file_and_are_shown(tmp_path: Path) -> None:
    figure = Figure("f", "a title", "1/s", samples={"gateway": [1.0]}, lost={"gateway": 7})
    results(figure).save(tmp_path / "results.json")
    text = as_text(Results.read(tmp_path / "results.json"))
    assert "a title" in text
    assert "7 lost" in text


def test_peer_that_failed_is_told_in_its_row_and_beside_its_target() -> None:
    figure = Figure(
        "fanout-500",
        "a title",
        "1/s",
        samples={"gateway": [1.0, 1.0], "nchan": [2.0]},
        failed={"nchan": "reset", "centrifugo": "said | this"},
    )
    rows = [cells for name, *cells in figure_rows(figure)]
    assert rows[1][-1] == "failed in turn 2: reset"
    assert rows[2] == ["failed", "", "", "said | this"]
    targets = {text: said for text, _, said in target_rows(results(figure))}
    assert targets["fan-out, 500 sockets: 1.0 × Centrifugo"] == "failed: centrifugo: said | this"
    assert "| centrifugo | failed |  |  | said \\| this |" in as_markdown(results(figure))


def test_report_is_rewritten_between_its_comments_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    rewrite(page, results(), {"A plot": tmp_path / "images" / "plot.png"})
    first = page.read_text()
    rewrite(page, results(), {"A plot": tmp_path / "images" / "plot.png"})
    assert page.read_text() == first
    assert "![A plot](images/plot.png)" in first
    assert first.startswith("before\n") and first.endswith("\nafter\n")
    assert "old" not in first


def test_report_into_a_page_without_comments_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="needs the two lines"):
        rewrite(page, results(), {})
    assert page.read_text() == "nothing\n"


def test_workload_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "fanout,nonsense"])
    assert "nonsense" in capsys.readouterr().err


def test_sockets_stay_below_the_limit_on_open_files() -> None:
    assert scale_of(parse([]), 4096).sockets < 4096 - 500
    assert set(WORKLOADS) >= {"fanout", "unicast", "connect", "memory", "bridge"}
