"""The register of rows, and how long each may take its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .lab import Lab, Needs, changed
from .outcome import Outcome


class Pace(NamedTuple):
    """How long things last: as they should in `make faults`, shortened in tests."""

    full: bool

    def of(self, full: float, quick: float) -> float:
        """Return one of two durations or numbers."""
        return full if self.full else quick


RowFunction = Callable[[Lab, Pace], Awaitable[Outcome]]


class Row(NamedTuple):
    """One line of the table."""

    number: int
    fault: str
    needs: Needs
    run: RowFunction


ROWS: list[Row] = []

LOCAL = Needs(web=2)
"""Two web processes with a bridge each, no Redis, a stand-in for the backend."""
ONE = Needs(web=1)
"""One web process with a bridge of its own."""
PROXIED = Needs(web=1, proxied=True)
"""One web process that reaches NATS through a proxy."""
CLUSTER = Needs(web=2, bridges=2, accounts=True)
"""Two web processes, Redis, two bridges, the project's own auth worker."""
COMPRESSING = Needs(web=1, settings=changed(COMPRESSION=True, COMPRESSION_MIN_BYTES=1024))
"""One web process that agrees to compression; the short answers to a test stay readable."""
THREE = Needs(web=2, nats=3)
"""Two web processes round a cluster of three NATS servers."""
ACCOUNTS = Needs(web=1, accounts=True)
"""One web process and the project's own auth worker with its database."""
IMPATIENT = Needs(web=1, proxied=True, settings=changed(ACK_WAIT=1.0, ACK_TRIES=3))
"""One web process that soon repeats what is not acknowledged."""


def fault(number: int, text: str, needs: Needs = LOCAL) -> Callable[[RowFunction], RowFunction]:
    """Register a row."""

    def register(run: RowFunction) -> RowFunction:
        ROWS.append(Row(number, text, needs, run))
        ROWS.sort(key=lambda row: row.number)
        return run

    return register
