"""The measurement of compression, with few sockets."""

from __future__ import annotations

import json

import pytest

from benchmarks.compression import SIZES, measure, payload_of


@pytest.mark.parametrize("size", SIZES)
def test_payload_of_a_number_is_json_of_about_the_size(size: int) -> None:
    payload = payload_of(1, size)
    assert size - 80 < len(payload) <= size
    assert json.loads(payload)
    assert payload == payload_of(1, size)


async def test_measure_finds_that_larger_events_save_more() -> None:
    costs = await measure(sockets=5, rounds=3)
    saved = [1 - cost.compressed_bytes / cost.plain_bytes for cost in costs]
    assert 0 < saved[0] < saved[1] < 1
    for cost in costs:
        assert min(cost.compression, cost.plain, cost.compressed) > 0
