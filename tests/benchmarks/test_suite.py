"""The suite's parts at work: load generator, a peer, a contest, the way of an event."""

from __future__ import annotations

import json
import shutil
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import path
from benchmarks.contest import Bench, Contestant, Scale, Turn
from benchmarks.figures import Figure
from benchmarks.load import MARKER, Client, Load, mask
from benchmarks.peers.base import Missing, Peer
from benchmarks.peers.gateway import Gateway
from benchmarks.peers.sender import Sender
from benchmarks.publisher import Publisher
from benchmarks.workloads.fanout import TOPIC, sustain
from benchmarks.workloads.unicast import spread

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        tmp_path, Scale(rounds=2, seconds=0.2, sockets=20, room=100), say=lambda line: None
    )


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    Sender.install()
    peer = Sender()
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
    load.run(500 * 20, 10)
    assert [client.events for client in load.clients] == [500] * 20
    assert 0 < max(load.latencies) < 10
    load.close()
    publisher.close()


@needs_gcc
def test_load_notices_that_a_peer_closed(sender: Sender) -> None:
    load = Load(sender.port, sender.dialect(TOPIC))
    load.open(range(3))
    sender.stop()
    load.run(1, 10, turn=lambda: setattr(load, "events", int(load.closed == 3)))
    assert load.closed == 3
    load.close()


@pytest.mark.parametrize("before", [b"", b'\x81\x0a{"at":1.0}'])
def test_client_answers_each_ping_with_its_payload(before: bytes) -> None:
    near, far = socket.socketpair()
    client = Client(0, deque(), MARKER)
    client.sock.close()
    client.sock = near
    for payload in (b"1234", b"5678"):
        far.sendall(before + b"\x89\x04" + payload)
        data = client.read()
        assert data is not None
        client.count(data)
        assert far.recv(100) == mask(payload, 0x8A)
    assert client.events == 2 * before.count(MARKER)
    near.close()
    far.close()


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
            return sustain(contestant, 5, 0.2, lambda: contestant.publisher.publish(TOPIC), 4)

        bench.contest(contestants, [figure], measure)
    assert bench.skipped == {"absent": "it is not to be had"}
    assert len(figure.samples["C send loop"]) == 2
    assert min(figure.samples["C send loop"]) > 0
    assert figure.lost == {"C send loop": 0}


def test_gateway_is_started_and_delivers_to_each_user(bench: Bench) -> None:
    with bench.contestants(Gateway, dialect=lambda peer: peer.dialect(None)) as contestants:
        (contestant,) = contestants
        contestant.open(10)
        turn = spread(contestant, 10, 0.3)
        assert turn.values[0] > 0
        assert turn.lost == 0
        # Ten users take turns, so none is behind by more than the last batch.
        events = [client.events for client in contestant.load.clients]
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
