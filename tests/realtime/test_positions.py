"""Positions of named subscribers, in a key-value bucket of a real nats-server."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from realtime import positions as module
from realtime.broker import Broker, connected
from realtime.embedded import NatsServer
from realtime.fanout import Fanout
from realtime.nats_client import Message
from realtime.positions import Position, Positions
from realtime.protocol.exceptions import Unavailable
from tests.support.processes import freeze
from tests.support.waiting import until

from .support import stream_api

BUCKET = "TEST"
STREAM = "KV_TEST"
EPOCH = "2026-01-01T00:00:00Z"
LATER = "2026-01-02T00:00:00Z"
KEY = ("7", "phone", "room.test")
TIMEOUT = 10.0
DEADLINE = 30.0
"""Seconds in which whatever ends by itself has ended."""


@pytest.fixture(autouse=True)
def written_by_flush_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing written by itself, unless a test says so."""
    monkeypatch.setattr(module, "FLUSH_SECONDS", 3600.0)


@pytest.fixture
def written_soon(monkeypatch: pytest.MonkeyPatch, written_by_flush_only: None) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.02)


def make(broker: Broker, **changes: Any) -> Positions:
    """Return the positions as one more process would see them."""
    given = {"replicas": 1, "max_age": 86400.0, "timeout": TIMEOUT, **changes}
    return Positions(broker, BUCKET, **given)


@pytest.fixture
def positions(broker: Broker) -> Positions:
    return make(broker)


@pytest.fixture
async def other(nats_server: NatsServer) -> AsyncIterator[Positions]:
    """Return the positions of another process."""
    async with connected(nats_server.url, name="other") as broker:
        yield make(broker)


async def write(positions: Positions, sequence: int, epoch: str = EPOCH) -> None:
    """Note a position and write it at once."""
    positions.note(*KEY, sequence, epoch)
    await positions.flush()


async def revision(broker: Broker) -> int:
    """Return how many writes the bucket has taken."""
    info = await broker.stream_info(STREAM, timeout=TIMEOUT)
    return info.state.last if info is not None else 0


async def test_read_never_noted_is_none(positions: Positions) -> None:
    assert await positions.read(*KEY) is None


async def test_read_after_note_knows_it_before_it_is_written(
    positions: Positions, broker: Broker
) -> None:
    await positions.read(*KEY)
    positions.note(*KEY, 5, EPOCH)
    assert await positions.read(*KEY) == Position(5, EPOCH)
    assert await revision(broker) == 0


async def test_read_after_flush_is_seen_by_another_process(
    positions: Positions, other: Positions
) -> None:
    await write(positions, 5)
    assert await other.read(*KEY) == Position(5, EPOCH)


async def test_read_after_a_note_is_seen_by_another_process_without_a_flush(
    positions: Positions, other: Positions, written_soon: None
) -> None:
    positions.note(*KEY, 5, EPOCH)

    async def written() -> bool:
        return await other.read(*KEY) == Position(5, EPOCH)

    await until(written, what="the position written by itself")


async def test_read_sequence_zero_is_a_position(positions: Positions, other: Positions) -> None:
    await write(positions, 0)
    assert await other.read(*KEY) == Position(0, EPOCH)


@pytest.mark.parametrize(
    "key",
    [("8", "phone", "room.test"), ("7", "tablet", "room.test"), ("7", "phone", "room.other")],
    ids=["user", "name", "topic"],
)
async def test_read_of_another_key_is_none(positions: Positions, key: tuple[str, str, str]) -> None:
    await write(positions, 5)
    assert await positions.read(*key) is None


async def test_note_many_in_a_burst_writes_the_last_only(
    positions: Positions, broker: Broker
) -> None:
    for sequence in range(1, 101):
        positions.note(*KEY, sequence, EPOCH)
    await positions.flush()
    assert await positions.read(*KEY) == Position(100, EPOCH)
    assert await revision(broker) == 1


async def test_note_of_many_keys_writes_each(positions: Positions, other: Positions) -> None:
    keys = [("7", "phone", f"room.{number}") for number in range(3 * module.WRITES_AT_ONCE + 1)]
    for number, key in enumerate(keys):
        positions.note(*key, number, EPOCH)
    await positions.flush()
    found = [await other.read(*key) for key in keys]
    assert found == [Position(number, EPOCH) for number in range(len(keys))]


# Never back.


async def test_note_lower_before_the_write_does_not_move_it_back(
    positions: Positions, other: Positions
) -> None:
    positions.note(*KEY, 9, EPOCH)
    await write(positions, 5)
    assert await other.read(*KEY) == Position(9, EPOCH)


async def test_note_lower_after_the_write_does_not_move_it_back(
    positions: Positions, other: Positions, broker: Broker
) -> None:
    await write(positions, 9)
    await write(positions, 5)
    assert await positions.read(*KEY) == await other.read(*KEY) == Position(9, EPOCH)
    assert await revision(broker) == 1


async def test_note_lower_than_another_process_wrote_does_not_move_it_back(
    positions: Positions, other: Positions
) -> None:
    await write(positions, 1)
    await write(other, 9)
    # This process still believes that 1 is stored.
    await write(positions, 5)
    await write(positions, 6)
    assert await positions.read(*KEY) == await other.read(*KEY) == Position(9, EPOCH)


async def test_note_higher_than_another_process_wrote_moves_it(
    positions: Positions, other: Positions, written_soon: None
) -> None:
    await write(positions, 1)
    await write(other, 5)
    # The first write meets another revision than the one it knows; the next one reads it anew.
    positions.note(*KEY, 9, EPOCH)

    async def moved() -> bool:
        return await other.read(*KEY) == Position(9, EPOCH)

    await until(moved, what="the position moved")


@pytest.mark.parametrize("seed", range(3))
async def test_note_two_writers_racing_end_at_the_highest_and_never_go_back(
    broker: Broker, positions: Positions, other: Positions, seed: int
) -> None:
    seen: list[int] = []
    reader = make(broker)
    done = asyncio.Event()
    dice = random.Random(seed)

    async def race(mine: Positions, sequences: list[int]) -> None:
        for sequence in sequences:
            mine.note(*KEY, sequence, EPOCH)
            await mine.flush()

    async def watch() -> None:
        while not done.is_set():
            position = await reader.read(*KEY)
            if position is not None:
                seen.append(position.sequence)

    watching = asyncio.create_task(watch())
    one, two = (sorted(dice.sample(range(1, 200), 40)) for _ in range(2))
    await asyncio.gather(race(positions, one), race(other, two))
    # Who lost the last race still has to write.
    await asyncio.gather(positions.flush(), other.flush())
    await asyncio.gather(positions.flush(), other.flush())
    done.set()
    await watching
    assert await reader.read(*KEY) == Position(max(one + two), EPOCH)
    assert seen == sorted(seen)


async def test_note_of_a_newer_stream_counts_though_its_sequence_is_lower(
    positions: Positions, other: Positions
) -> None:
    await write(positions, 9)
    await write(positions, 1, LATER)
    assert await other.read(*KEY) == Position(1, LATER)


async def test_note_of_an_older_stream_does_not_move_it_back(
    positions: Positions, other: Positions
) -> None:
    await write(positions, 1, LATER)
    await write(other, 9)
    assert await positions.read(*KEY) == Position(1, LATER)


async def test_advance_is_written_when_it_returns(positions: Positions, other: Positions) -> None:
    assert await positions.advance(*KEY, 5, EPOCH) == Position(5, EPOCH)
    assert await other.read(*KEY) == Position(5, EPOCH)


@pytest.mark.parametrize(("sequence", "epoch"), [(4, LATER), (5, LATER), (9, EPOCH)])
async def test_advance_never_goes_back(
    positions: Positions, other: Positions, broker: Broker, sequence: int, epoch: str
) -> None:
    await positions.advance(*KEY, 5, LATER)
    assert await other.advance(*KEY, sequence, epoch) == Position(5, LATER)
    assert await revision(broker) == 1


async def test_advance_many_at_once_end_at_the_highest(broker: Broker) -> None:
    await asyncio.gather(*(make(broker).advance(*KEY, number, EPOCH) for number in (3, 1, 2)))
    assert await make(broker).read(*KEY) == Position(3, EPOCH)


async def test_advance_beside_a_stale_writer_is_not_undone(
    positions: Positions, other: Positions
) -> None:
    await write(other, 1)
    await positions.advance(*KEY, 5, EPOCH)
    await write(other, 3)  # what it knows is outdated
    await other.flush()
    assert await positions.read(*KEY) == Position(5, EPOCH)


async def test_advance_nats_away_is_unavailable(
    broker: Broker, positions: Positions, nats_server: NatsServer
) -> None:
    await positions.advance(*KEY, 1, EPOCH)
    nats_server.kill()
    await until(lambda: not broker.connected, what="the loss noticed")
    with pytest.raises(Unavailable):
        await positions.advance(*KEY, 2, EPOCH)


async def test_noter_notes_under_the_epoch_of_the_moment(positions: Positions) -> None:
    fanout = SimpleNamespace(epoch=EPOCH)
    note = positions.noter(*KEY, cast(Fanout, fanout))
    note(9)
    assert await positions.read(*KEY) == Position(9, EPOCH)
    fanout.epoch = LATER
    note(1)
    assert await positions.read(*KEY) == Position(1, LATER)


# Bounds.


async def test_note_over_the_bound_is_let_go_and_said_so(
    positions: Positions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_DIRTY", 2)
    for topic in ("room.a", "room.b", "room.c"):
        positions.note("7", "phone", topic, 5, EPOCH)
    positions.note("7", "phone", "room.a", 6, EPOCH)
    await positions.flush()
    found = [await positions.read("7", "phone", f"room.{name}") for name in "abc"]
    assert found == [Position(6, EPOCH), Position(5, EPOCH), None]
    assert [one.levelno for one in caplog.records if one.name == module.__name__] == [
        logging.WARNING
    ]


async def test_note_more_keys_than_are_remembered_still_never_goes_back(
    positions: Positions, other: Positions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 2)
    keys = [("7", "phone", f"room.{number}") for number in range(9)]
    for sequence in (5, 4):
        for key in keys:
            positions.note(*key, sequence, EPOCH)
        await positions.flush()
    assert [await other.read(*key) for key in keys] == [Position(5, EPOCH)] * 9


# NATS away.


async def test_note_nats_restarted_before_the_write_is_written_all_the_same(
    broker: Broker,
    positions: Positions,
    nats_server: NatsServer,
    written_soon: None,
) -> None:
    await write(positions, 1)
    nats_server.kill()
    await until(lambda: not broker.connected, what="the loss noticed")
    positions.note(*KEY, 5, EPOCH)
    nats_server.start()
    async with connected(nats_server.url, name="reader") as third:
        reader = make(third)

        async def written() -> bool:
            return await reader.read(*KEY) == Position(5, EPOCH)

        await until(written, what="the position written after the restart")


async def test_flush_nats_away_gives_up(
    broker: Broker, nats_server: NatsServer, positions: Positions
) -> None:
    await write(positions, 1)
    nats_server.kill()
    await until(lambda: not broker.connected, what="the loss noticed")
    async with asyncio.timeout(DEADLINE):
        await write(positions, 5)


async def test_flush_nats_frozen_gives_up_after_the_timeout(
    broker: Broker, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, waited = broker.request, []

    async def asked(*args: Any, timeout: float, **options: Any) -> Message:
        waited.append(timeout)
        return await request(*args, timeout=timeout, **options)

    positions = make(broker)
    await write(positions, 1)
    positions._timeout = 0.3
    assert nats_server.pid is not None
    freeze(nats_server.pid)
    monkeypatch.setattr(broker, "request", asked)
    async with asyncio.timeout(DEADLINE):
        await write(positions, 5)
    assert set(waited) == {0.3}
    os.kill(nats_server.pid, signal.SIGCONT)
    positions._timeout = TIMEOUT
    await write(positions, 6)
    assert await positions.read(*KEY) == Position(6, EPOCH)


async def test_read_nats_away_is_unavailable(
    broker: Broker, nats_server: NatsServer, positions: Positions
) -> None:
    await write(positions, 1)
    nats_server.kill()
    await until(lambda: not broker.connected, what="the loss noticed")
    with pytest.raises(Unavailable):
        await positions.read(*KEY)


async def test_read_what_does_not_parse_is_unavailable(
    broker: Broker, positions: Positions
) -> None:
    await write(positions, 1)
    await broker.store(f"$KV.{BUCKET}.{'.'.join(KEY)}", b"garbage", headers=None, timeout=TIMEOUT)
    with pytest.raises(Unavailable, match="does not parse"):
        await positions.read(*KEY)


async def test_bucket_deleted_is_made_again(broker: Broker, positions: Positions) -> None:
    await write(positions, 5)
    await stream_api(broker, "DELETE", STREAM)

    async def works() -> bool:
        try:
            await positions.read(*KEY)
        except Unavailable:
            return False
        await write(positions, 6)
        return await positions.read(*KEY) == Position(6, EPOCH)

    await until(works, what="positions kept again")


async def test_bucket_is_made_with_its_replicas_and_age(broker: Broker) -> None:
    await write(make(broker, max_age=3600.0), 1)
    info = await broker.stream_info(STREAM, timeout=TIMEOUT)
    assert info is not None
    assert info.config["max_age"] == 3600 * 10**9
    assert info.config["num_replicas"] == 1
    assert info.config["max_msgs_per_subject"] == 1
