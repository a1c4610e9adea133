"""The suite's parts at work: load generator, a peer, a contest, the way of an event."""

from __future__ import annotations

import json
import select
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import path
from benchmarks.client import MARKER, mask
from benchmarks.contest import Bench, Contestant, Scale, Turn
from benchmarks.figures import Figure
from benchmarks.load import Load
from benchmarks.peers.base import Missing, Peer
from benchmarks.peers.gateway import Gateway
from benchmarks.peers.sender import JoiningSender, Sender
from benchmarks.publisher import HTTP_ANSWER, Publisher, Way, payload_of
from benchmarks.reader import Reader
from benchmarks.workloads.fanout import TOPIC, sustain
from benchmarks.workloads.unicast import spread

EVENT = b'\x81\x23{"n":1,"pad":"@","at":1763750000.5}'
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        tmp_path, Scale(rounds=2, seconds=0.2, sockets=20, room=100), say=lambda line: None
    )


@pytest.fixture(params=[Sender, JoiningSender])
def sender(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sender]:
    peer: Sender = request.param()
    peer.install()
    try:
        peer.start(tmp_path)
        yield peer
    finally:
        peer.stop()


@needs_gcc
def test_load_counts_every_event_on_every_socket(sender: Sender) -> None:
    load = Load(sender.port, sender.dialect(TOPIC))
    load.open(range(20))
    publisher = Publisher(sender.way())
    publisher.publish_all([TOPIC] * 500)
    load.run(500 * 20, 60)
    assert load.counts() == [500] * 20
    assert 0 < max(load.latencies) < 60
    load.close()
    publisher.close()


@needs_gcc
def test_load_notices_that_a_peer_closed(sender: Sender) -> None:
    load = Load(sender.port, sender.dialect(TOPIC))
    load.open(range(3))
    sender.stop()
    load.run(1, 60, turn=lambda: setattr(load, "events", int(load.closed == 3)))
    assert load.closed == 3
    load.close()


@pytest.fixture
def reading() -> Iterator[tuple[Reader, socket.socket, socket.socket]]:
    """A reader, the socket that it reads, and the peer's end of it."""
    near, far = socket.socketpair()
    with near, far, select.epoll() as epoll:
        reader = Reader(epoll.fileno(), MARKER)
        reader.add(near.fileno(), sampled=True)
        epoll.register(near, select.EPOLLIN)
        yield reader, near, far
        reader.close()


Reading = tuple[Reader, socket.socket, socket.socket]


@needs_gcc
@pytest.mark.parametrize("before", [b"", b'\x81\x0d{"a":"@","b":1}', EVENT * 3])
def test_reader_answers_each_ping_with_its_payload(reading: Reading, before: bytes) -> None:
    reader, near, far = reading
    for payload in (b"1234", b"5678", b""):
        far.sendall(before + b"\x89" + bytes([len(payload)]) + payload)
        assert reader.read(5)
        assert far.recv(100) == mask(payload, 0x8A)
    assert reader.events(near.fileno()) == 3 * before.count(MARKER)


@needs_gcc
@pytest.mark.parametrize("room", range(1, 70))
def test_reader_counts_each_event_once_wherever_a_read_ends(reading: Reading, room: int) -> None:
    reader, near, far = reading
    # The length of the last kind is the opcode of a ping.
    data = (EVENT + b"\x81\x89" + EVENT[2:] + EVENT[2:] + b"\n") * 7
    counted = 0
    for start in range(0, len(data), room):
        far.sendall(data[start : start + room])
        found = reader.read(5)
        assert found
        counted += found.events
    assert counted == reader.events(near.fileno()) == 21
    reader.forget(near.fileno())
    assert reader.feed(near.fileno(), data) == reader.events(near.fileno()) == 21


@needs_gcc
def test_reader_says_how_old_the_last_event_of_a_read_is(reading: Reading) -> None:
    reader, _, far = reading
    for seconds in (3600, 60):
        far.sendall(payload_of(1) + b'{"pad":"@","at":%.6f}' % (time.time() - seconds))
        found = reader.read(5)
        assert found
        assert [age // 60 * 60 for age in found.ages] == [seconds]
    far.sendall(b'{"pad":"@","at":17')
    found = reader.read(5)
    assert found
    assert (found.events, found.ages) == (1, [])


@needs_gcc
def test_reader_tells_who_closed_and_whom_something_came_to(reading: Reading) -> None:
    reader, near, far = reading
    assert reader.read(0) is None
    far.sendall(EVENT)
    found = reader.read_one(near.fileno())
    assert (found.came_to, found.closed_by) == ([near.fileno()], [])
    far.close()
    found = reader.read(5)
    assert found
    assert (found.came_to, found.closed_by) == ([], [near.fileno()])


def test_load_says_so_when_nothing_listens() -> None:
    with pytest.raises(ConnectionError):
        Load(1, Sender().dialect(TOPIC)).open([0], timeout=5)


@needs_gcc
def test_contest_measures_each_peer_once_a_round_and_skips_who_is_missing(bench: Bench) -> None:
    class Absent(Peer):
        name = "absent"

        @classmethod
        def install(cls) -> None:
            raise Missing("it is not to be had")

    figure = Figure("f", "f", "deliveries/s")
    peers = (Sender, Absent)
    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(TOPIC)) as contestants:
        for contestant in contestants:
            contestant.open(5)

        def measure(contestant: Contestant) -> Turn:
            return sustain(contestant, 5, 1, lambda: contestant.publisher.publish(TOPIC), 4)

        bench.contest(contestants, [figure], measure)
    assert bench.skipped == {"absent": "it is not to be had"}
    assert len(figure.samples["C send loop"]) == 2
    assert min(figure.samples["C send loop"]) > 0
    assert figure.lost == {"C send loop": 0}


@needs_gcc
def test_contest_goes_on_without_a_peer_that_fails_and_says_why(bench: Bench) -> None:
    class Unready(Sender):
        name = "unready"

    figure = Figure("f", "f", "deliveries/s")
    peers = (Sender, JoiningSender, Unready)

    def step(contestant: Contestant) -> None:
        if isinstance(contestant.peer, Unready):
            raise TimeoutError
        contestant.open(5)

    def measure(contestant: Contestant) -> Turn:
        name = contestant.peer.name
        if name == JoiningSender.name and figure.samples.get(name):
            raise ConnectionResetError("reset by peer")
        return Turn([1.0])

    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(TOPIC)) as contestants:
        ready = bench.prepare(contestants, [figure], step)
        bench.contest(ready, [figure], measure, rounds=3)
        assert contestants[1].load.clients == []
    assert figure.samples == {Sender.name: [1.0] * 3, JoiningSender.name: [1.0]}
    assert figure.failed == {JoiningSender.name: "reset by peer", "unready": "TimeoutError"}
    assert bench.skipped == {}


@pytest.fixture
def publisher() -> Iterator[tuple[Publisher, socket.socket]]:
    """A publisher, and the socket of the peer that it publishes to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        way = Way(listener.getsockname()[1], lambda _, payload: payload, answer=HTTP_ANSWER)
        publisher = Publisher(way)
        far, _ = listener.accept()
        yield publisher, far
        publisher.close()
        far.close()


def test_publisher_settles_when_each_publish_is_answered_wherever_a_read_ends(
    publisher: tuple[Publisher, socket.socket],
) -> None:
    near, far = publisher
    near.publish_all([TOPIC] * 2)
    answers = b"HTTP/1.1 202 Accepted\r\n\r\n" * 2
    with pytest.raises(TimeoutError, match="2 publishes"):
        near.settle(timeout=0.01)
    for end in range(1, len(answers)):
        far.sendall(answers[end - 1 : end])
        near.drain()
    assert near.answered == 2
    near.settle()


def test_publisher_whose_peer_resets_says_so_but_can_be_closed(
    publisher: tuple[Publisher, socket.socket],
) -> None:
    near, far = publisher
    near.publish(TOPIC)
    # Closing with a linger of no time resets the connection.
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    with pytest.raises(ConnectionError):
        near.settle()
    near.close()


def test_gateway_is_started_and_delivers_to_each_user(bench: Bench) -> None:
    with bench.contestants(Gateway, dialect=lambda peer: peer.dialect(None)) as contestants:
        (contestant,) = contestants
        contestant.open(10)
        turn = spread(contestant, 10, 1)
        assert turn.values[0] > 0
        assert turn.lost == 0
        # Ten users take turns, so none is behind by more than the last batch.
        events = contestant.load.counts()
        assert max(events) - min(events) <= 1
        assert contestant.peer.memory() > 1_000_000
        # What a client heard while it opened is what it needs to come back.
        assert json.dumps("sessionId").encode() in contestant.load.clients[0].heard


def test_every_step_of_the_way_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "ROUNDS", 2)
    monkeypatch.setattr(path, "TOPICS", 50)
    *steps, (name, together) = path.measure()
    assert len(steps) == len(path.STEPS)
    assert name == "together"
    assert together == pytest.approx(sum(cost for _, cost in steps))
