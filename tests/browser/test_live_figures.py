"""What the live page makes of what processes tell, as figures; without a gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from realtime.metrics import Histogram, Metrics
from realtime.snapshot import Snapshot

Module = Callable[..., Any]
TELL = """const history = new m.History();
for (const [ts, processes] of arg) history.add(ts, processes);
const last = (name) => history.points(name).at(-1)?.values;"""


def process(name: str, taken: float, *, started: float = 0.0, **counted: Any) -> dict[str, Any]:
    """Return what a process tells, as it travels."""
    numbers: dict[str, Any] = dict.fromkeys(Snapshot.__struct_fields__, 0)
    gauges = {key: counted.pop(key) for key in tuple(counted) if key in numbers}
    own = {"worker": name, "taken": taken, "started": started, "metrics": Metrics(**counted)}
    return {"name": name, "figures": msgspec.to_builtins(Snapshot(**{**numbers, **gauges, **own}))}


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("values", [[], [0.002], [0.0005, 0.02, 0.3, 0.3, 99.0]])
def test_quantile_is_that_of_the_gateway(module: Module, values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    arg = [msgspec.to_builtins(histogram), share]
    assert module("live-figures", "return m.quantile(...arg)", arg) == pytest.approx(
        histogram.quantile(share)
    )


def test_gauges_and_rates_of_processes_add_up(module: Module) -> None:
    told = [
        [2000 * tick, [
            process("a", 2.0 * tick, sessions=3, deliveries=100 * tick),
            process("b", 2.0 * tick, sessions=4, deliveries=10 * tick),
        ]]
        for tick in (1, 2)
    ]  # fmt: skip
    got = module("live-figures", f"{TELL} return [last(''), last('a'), history.names]", told)
    assert [(one["sessions"], one["deliveries"]) for one in got[:2]] == [(7, 55), (3, 50)]
    assert got[2] == ["a", "b"]


def test_process_that_began_anew_takes_nothing_back(module: Module) -> None:
    told = [
        [2000, [process("a", 2.0, deliveries=1000)]],
        [4000, [process("a", 4.0, started=3.0, deliveries=5)]],
        [6000, [process("a", 6.0, started=3.0, deliveries=25)]],
    ]
    got = module(
        "live-figures", f"{TELL} return history.points('a').map((one) => one.values)", told
    )
    assert [one["deliveries"] for one in got] == [None, None, 10]


def test_process_that_tells_no_more_is_left_out_after_a_while(module: Module) -> None:
    told = [
        [2000, [process("a", 2.0, sessions=1), process("b", 2.0, sessions=1)]],
        [4000, [process("a", 4.0, sessions=1)]],
        [30000, [process("a", 30.0, sessions=1)]],
    ]
    body = f"{TELL} return [history.names, history.points('').map((one) => one.values.sessions)]"
    assert module("live-figures", body, told) == [["a"], [2, 2, 1]]


def test_points_older_than_a_chart_go(module: Module) -> None:
    told = [[2000 * tick, [process("a", 2.0 * tick)]] for tick in range(400)]
    assert module("live-figures", f"{TELL} return history.points('').length", told) == 151
