"""`consume --since` on streams that are deleted and made anew."""

from __future__ import annotations

import re

import pytest

from realtime.broker import Broker, connected

from ..support.processes import START
from ..support.waiting import DEADLINE, until
from .test_least_rights import STREAM

RENEWED = "the stream was made anew"


async def make_anew(broker: Broker, *payloads: int) -> str:
    """Make the stream, in place of the one that is there, and return its epoch."""
    await broker.request("$JS.API.STREAM.DELETE.GATEWAY", b"", timeout=DEADLINE)
    info = await broker.ensure_stream(STREAM, timeout=DEADLINE)
    for payload in payloads:
        await broker.store("room.a", b"%d" % payload, headers=None, timeout=DEADLINE)
    return info.created


@pytest.fixture
async def broker(nats_server):
    """Return a connection to a server of the test's own."""
    async with connected(nats_server.url, name="test") as broker:
        yield broker


@pytest.fixture
def consume(tools, nats_server):
    """Return a function that consumes so many messages after a sequence."""

    def run(since: int, count: int, *options: str):
        return tools.run(
            *("consume", "-u", nats_server.url, "-t", "room.a", "--log", "json"),
            *("--since", str(since), "--count", str(count), "--timeout", "60", *options),
        )

    return run


async def test_stream_made_anew_while_it_runs_is_told_and_read_whole(tools, nats_server, broker):
    await make_anew(broker, 1, 2, 3)
    consumer = tools.start(
        *("consume", "-u", nats_server.url, "-t", "room.a", "--since", "0", "--count", "8"),
    )
    await until(lambda: consumer.find(" 3$"), START, what="the old stream's last event")
    # Frozen, it cannot see the new stream before that has gone past the old one's end.
    consumer.pause()
    await make_anew(broker, 4, 5, 6, 7, 8)
    consumer.resume()
    await until(lambda: not consumer.is_alive(), what="the end")
    assert consumer.returncode == 0
    printed = re.findall(r" room\.a seq=(\d+) .* (\d+)$", consumer.text(), re.MULTILINE)
    assert printed == [
        (str(seq), str(n)) for seq, n in zip((1, 2, 3, 1, 2, 3, 4, 5), range(1, 9), strict=True)
    ]
    assert consumer.text().count(RENEWED) == 1


async def test_since_beyond_the_end_is_of_another_stream(broker, consume):
    await make_anew(broker, 1, 2)
    done = consume(50, 2)
    assert (done.code, done.data) == (0, [1, 2])
    assert RENEWED in done.log


async def test_epoch_of_another_stream_is_told_and_all_of_it_read(broker, consume):
    old = await make_anew(broker, 1)
    await make_anew(broker, 2, 3, 4)
    done = consume(1, 3, "--epoch", old)
    assert (done.code, done.data) == (0, [2, 3, 4])
    assert RENEWED in done.log


async def test_epoch_of_the_log_goes_on_from_the_position(broker, consume):
    epoch = await make_anew(broker, 1, 2, 3)
    first = consume(0, 1)
    assert re.search(r"epoch=(\S+?)\"", first.log)[1] == epoch
    done = consume(1, 2, "--epoch", epoch)
    assert (done.code, done.data) == (0, [2, 3])
    assert RENEWED not in first.log + done.log


def test_epoch_without_a_position_is_refused(tools):
    done = tools.run("consume", "-u", tools.nats, "-t", "room.a", "--epoch", "x")
    assert done.code == 2
    assert "--epoch says which stream --since is of" in done.log


def test_epoch_of_another_stream_is_told_by_the_gateway_too(tools, topic):
    for number in range(3):
        tools.run("produce", "-u", tools.nats, "-t", topic, "-m", str(number))
    done = tools.run(
        *("consume", "-u", tools.ws, "-t", topic, "--log", "json", "--count", "3"),
        *("--since", "1", "--epoch", "2020-01-01T00:00:00Z", "--timeout", "60"),
    )
    assert (done.code, done.data) == (0, [0, 1, 2])
    assert "Reset(" in done.log
    assert re.search(r"connection open epoch=20\S+", done.log)
