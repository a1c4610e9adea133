"""The dashboard, the alarms and the scrape example: they parse, and name what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from realtime.prometheus import COUNTERS, GAUGES, HISTOGRAMS, LABELLED, NAMES

DEPLOY = Path(__file__).parents[2] / "deploy"
EVERY = {"worker"}
# What the web processes expose, and by which labels.
METRICS: dict[str, set[str]] = {
    **{f"gateway_{NAMES.get(name, name)}": EVERY for name in GAUGES},
    **{f"gateway_{NAMES.get(name, name)}_total": EVERY for name in COUNTERS},
    **{
        f"gateway_{NAMES.get(name, name)}_total": {label, *EVERY}
        for name, (label, _) in LABELLED.items()
    },
    **{f"gateway_{name}_bucket": {"le", *EVERY} for name, _ in HISTOGRAMS.values()},
    "gateway_sessions": {"state", *EVERY},
    "gateway_canary_seconds": EVERY,
    "gateway_nats_reconnects_total": EVERY,
    "gateway_slow_readers_total": EVERY,
    "up": set(),
}
# What says how things go; the rest says how the process is.
SHOWN = {
    *("connections", "sessions", "subscriptions", "topics", "events_total", "deliveries_total"),
    *("delivery_latency_seconds_bucket", "auth_seconds_bucket", "auth_total"),
    *("holes_repaired_total", "redeliveries_total", "slow_readers_total", "closes_total"),
    *("errors_total", "refused_total", "layer_reconnects_total", "nats_reconnects_total"),
    *("loop_lag_seconds_bucket", "canary_seconds", "canary_failures_total", "published_total"),
}
VALUES = {
    "state": {"connecting", "authenticated", "draining"},
    "source": {"relay", "ephemeral"},
    "outcome": {"accepted", "denied", "unavailable", "ok", "duplicate", "failed"},
    "reason": {"total", "user", "address"},
}
SCRAPED = {"job", "instance"}
FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "by", "label_values"}
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SELECTOR = re.compile(rf"({NAME})\s*\{{([^}}]*)\}}")
MATCHER = re.compile(rf'({NAME})\s*(=~|!~|!=|=)\s*"([^"]*)"')


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "gateway.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    """Return the alarms."""
    text = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    """Yield every expression there is."""
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
    yield from (alert["expr"] for alert in alerts())


EXPRESSIONS = sorted(set(expressions()))


def test_metrics_are_all_shown() -> None:
    used = set(re.findall(r"gateway_\w+", " ".join(EXPRESSIONS)))
    assert used == {f"gateway_{name}" for name in SHOWN}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_names_what_there_is(expression: str) -> None:
    for metric, matchers in SELECTOR.findall(expression):
        for label, _, value in MATCHER.findall(matchers):
            assert label in METRICS[metric] | SCRAPED, f"{metric} has no label {label}"
            assert value.startswith("$") or value in VALUES.get(label, {value})
        assert MATCHER.sub("", matchers).strip(" ,") == ""
    metrics = set(re.findall(NAME, expression)) & set(METRICS)
    labels = set().union(*(METRICS[name] for name in metrics)) | SCRAPED
    bare = re.sub(r'"[^"]*"|\$\w+|\[\w+\]|\[\$\w+\]', "", expression)
    assert set(re.findall(NAME, bare)) - metrics - labels - FUNCTIONS == set()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_closes_what_it_opens(expression: str) -> None:
    pairs = {")": "(", "]": "[", "}": "{"}
    opened: list[str] = []
    for sign in re.sub(r'"[^"]*"', "", expression):
        if sign in pairs.values():
            opened.append(sign)
        elif sign in pairs:
            assert opened.pop() == pairs[sign]
    assert opened == []


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_takes_counters_by_rate(expression: str) -> None:
    """A counter by itself says only how long ago the process was started."""
    for name in re.findall(r"gateway_\w+(?:_total|_bucket)\b", expression):
        assert re.search(rf"(?:rate|increase)\({name}(?:\{{[^}}]*\}})?\[", expression)


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alarm_says_what_to_do_and_whom_it_wakes(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert set(alert["annotations"]) == {"summary", "action"}
    labels = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
    grouped = set(re.findall(r"by \(([^)]*)\)", alert["expr"]))
    kept = {one.strip() for names in grouped for one in names.split(",")}
    if "sum" in alert["expr"]:
        assert labels <= kept
    else:
        assert labels <= SCRAPED


def test_scrape_example_names_the_web_processes_and_the_alarms() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"]
    (job,) = config["scrape_configs"]
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    targets = {target.split(":")[0] for target in job["static_configs"][0]["targets"]}
    assert targets == {name for name in services if name.startswith("web")}
    assert {f'job="{job["job_name"]}"'} == set(re.findall(r'job="\w+"', str(alerts())))
