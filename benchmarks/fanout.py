"""Fan-out: many sockets on one topic, events at a steady rate, through `manage.py gateway`.

    python -m benchmarks.fanout --sockets 500 --rate 100 --seconds 10

Prints deliveries a second, whether every socket got every event, and latency from publish
to receipt. Load generator and gateway share the machine, so the figures are the pair's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from realtime.broker import connected
from realtime.embedded import end, free_port, spawn

from .load import SAMPLE, Client, Counter, percentile

ROOT = Path(__file__).resolve().parent.parent
TOPIC = "room.bench"


def start_gateway(directory: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start a gateway with demo accounts; return it, its port and NATS' port."""
    port, nats_port = free_port(), free_port()
    arguments = ["--demo", "--port", str(port), "--nats-port", str(nats_port)]
    process = spawn(
        [sys.executable, "manage.py", "gateway", *arguments, "--data-dir", str(directory)],
        directory / "gateway.log",
        cwd=ROOT,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/login/", timeout=1)
            return process, port, nats_port
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"the gateway did not start: see {directory / 'gateway.log'}")


def token_for(user: str, directory: Path) -> str:
    environment = {**os.environ, "DATA_DIR": str(directory)}
    command = [sys.executable, "manage.py", "token", user]
    return subprocess.check_output(command, cwd=ROOT, env=environment, text=True).strip()


def publish(nats_port: int, rate: float, events: int, padding: int) -> None:
    """Publish at a steady rate; run in a process of its own."""

    async def run() -> None:
        async with connected(f"nats://127.0.0.1:{nats_port}", name="bench") as broker:
            start = time.monotonic()
            for number in range(events):
                wait = start + number / rate - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                event = {"n": number, "pad": "x" * padding, "at": time.time()}
                await broker.publish(TOPIC, json.dumps(event, separators=(",", ":")).encode())
            await broker.flush()

    asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--rate", type=float, default=100, help="events a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--padding", type=int, default=20, help="bytes added to each event")
    options = parser.parse_args()
    events = int(options.rate * options.seconds)
    expected = events * options.sockets
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        gateway, port, nats_port = start_gateway(directory)
        try:
            token = token_for("alice", directory)
            started = time.monotonic()
            clients = []
            for number in range(options.sockets):
                client = Client("127.0.0.1", port, sampled=number % SAMPLE == 0)
                client.open(token, TOPIC)
                clients.append(client)
            opening = time.monotonic() - started
            counter = Counter(clients)
            publisher = multiprocessing.Process(
                target=publish, args=(nats_port, options.rate, events, options.padding)
            )
            publisher.start()
            begun = time.monotonic()
            counter.run(begun + options.seconds + 20, expected)
            took = time.monotonic() - begun
            publisher.join(10)
        finally:
            end(gateway, 8)
    complete = sum(client.events == events for client in clients)
    rate = counter.events / took
    result = {
        "sockets": options.sockets,
        "events_per_second": options.rate,
        "deliveries": counter.events,
        "expected": expected,
        "deliveries_per_second": round(rate),
        "offered_per_second": round(options.rate * options.sockets),
        "sockets_with_every_event": complete,
        "latency_ms_p50": round(percentile(counter.latencies, 0.5) * 1000, 1),
        "latency_ms_p99": round(percentile(counter.latencies, 0.99) * 1000, 1),
        "ms_to_open_one_socket": round(opening / options.sockets * 1000, 1),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
    }
    print(json.dumps(result, indent=2))
    if complete != options.sockets:
        raise SystemExit("some sockets missed events")


if __name__ == "__main__":
    main()
