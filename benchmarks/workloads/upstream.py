"""The way up, and the way round: publish to ack, and NATS to socket through Redis."""

from __future__ import annotations

import time
from itertools import count

from benchmarks.client import Client
from benchmarks.contest import Bench, Contestant, Turn
from benchmarks.figures import Figure
from benchmarks.load import percentile
from benchmarks.peers.channels import StockBridge
from benchmarks.peers.gateway import Clustered, Gateway, publish_frame
from benchmarks.peers.node import Node, StoringNode

from .fanout import DRAIN, TOPIC, WARM_UP, sustain

PUBLISHERS = 64
"""So many that none passes the limit on frames a second (FRAME_RATE)."""
BRIDGE_BATCH = 32
BRIDGE_WINDOW = 16
"""Batches on their way at once through the bridge."""
# Never the same messageId twice: that would be a repeat, which is not stored.
_counter = count(1)


def publish(bench: Bench) -> list[Figure]:
    """Clients that publish and wait for the answer, each in turn."""
    rate = Figure("publish", f"publish to ack, {PUBLISHERS} clients", "acks/s")
    half = Figure("publish-p50", "publish to ack: latency, median", "ms", more_is_better=False)

    def measure(contestant: Contestant) -> Turn:
        ping_pong(contestant, WARM_UP)
        return ping_pong(contestant, bench.scale.seconds)

    peers = (Gateway, StoringNode, Node)
    with bench.contestants(*peers, dialect=lambda peer: peer.publishing()) as contestants:
        ready = bench.prepare(contestants, [rate, half], lambda one: one.open(PUBLISHERS))
        bench.contest(ready, [rate, half], measure)
    return [rate, half]


def ping_pong(contestant: Contestant, seconds: float) -> Turn:
    """Publish on every client, and again when it has its answer; return rate and latency in ms."""
    load = contestant.load
    load.forget()
    begun = time.monotonic()
    until = begun + seconds
    published = 0
    latencies: list[float] = []

    def send(client: Client) -> None:
        nonlocal published
        published += 1
        client.since = time.monotonic()
        client.sock.send(publish_frame(client.number, next(_counter)))

    def answer(client: Client) -> None:
        now = time.monotonic()
        latencies.append(now - client.since)
        if now < until:
            send(client)

    for client in load.clients:
        send(client)
    last = load.run(float("inf"), seconds, answer=answer)
    if load.events < published:
        last = load.run(published, DRAIN, answer=answer)
    values = [load.events / (last - begun), percentile(latencies, 0.5) * 1000]
    return Turn(values, published - load.events)


def bridge(bench: Bench) -> list[Figure]:
    """NATS to one socket through a bridge process and Redis."""
    figure = Figure(
        "bridge", "bridge through Redis, to one socket", "events/s", ours=Clustered.name
    )

    def measure(contestant: Contestant) -> Turn:
        def send() -> None:
            contestant.publisher.publish_all([TOPIC] * BRIDGE_BATCH)

        sustain(contestant, BRIDGE_BATCH, WARM_UP, send, BRIDGE_WINDOW)
        return sustain(contestant, BRIDGE_BATCH, bench.scale.seconds, send, BRIDGE_WINDOW)

    peers = (Clustered, StockBridge)
    with bench.contestants(*peers, dialect=lambda peer: peer.dialect(TOPIC)) as contestants:
        ready = bench.prepare(contestants, [figure], lambda one: one.open(1))
        bench.contest(ready, [figure], measure)
    return [figure]
