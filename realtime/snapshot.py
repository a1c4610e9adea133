"""A snapshot: what one web process holds and counted, as values that travel.

Workers on one port share their snapshots through files, so that `/metrics` of whichever
answers shows them all, NATS or not.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from .metrics import Metrics
from .supervisor import SNAPSHOTS

logger = logging.getLogger(__name__)

MAX_AGE = 10.0
"""Seconds after which a snapshot counts no more: its worker died or is stuck."""


class Snapshot(Struct):
    """One process at one moment.

    Attributes:
        worker: the process id, as text.
        taken: Unix s; `started`: of the process.
        connections: open sockets; `sessions`: of these, the authenticated ones.
        nats: whether NATS is reachable; `nats_reconnects`: how often it came back.
        memory: resident bytes; `cpu`: seconds used.
    """

    worker: str
    taken: float
    started: float
    connections: int
    sessions: int
    users: int
    subscriptions: int
    topics: int
    ring_bytes: int
    draining: bool
    nats: bool
    nats_reconnects: int
    memory: int
    cpu: float
    metrics: Metrics


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot, dec_hook=lambda kind, found: kind(found)).decode


def resident_bytes() -> int:
    """Return the memory that this process takes, 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def share(snapshot: Snapshot) -> None:
    """Leave a snapshot for the other workers on this port, if there are any."""
    directory = os.environ.get(SNAPSHOTS)
    if not directory:
        return
    target = Path(directory, snapshot.worker)
    fresh = target.with_suffix(".new")
    try:
        fresh.write_bytes(_encode(snapshot))
        fresh.replace(target)
    except OSError as exc:
        logger.warning("snapshot not shared reason=%s", exc)


def shared_by_others() -> list[Snapshot]:
    """Return the latest snapshots of the other workers on this port."""
    directory = os.environ.get(SNAPSHOTS)
    found: list[Snapshot] = []
    for path in Path(directory).iterdir() if directory else ():
        if path.suffix or path.name == str(os.getpid()):
            continue
        try:
            snapshot = _decode(path.read_bytes())
        except OSError:
            # Its worker just ended.
            continue
        if time.time() - snapshot.taken <= MAX_AGE:
            found.append(snapshot)
    return sorted(found, key=lambda snapshot: snapshot.worker)
