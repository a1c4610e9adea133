"""A contest: several peers up at once, measured in turns, so that noise favours none of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from .client import Dialect
from .figures import OURS, Figure
from .load import Load
from .peers.base import Missing, Peer
from .publisher import Publisher

SPARE_FILES = 1000
"""Open files that are not sockets of the load generator's."""


@dataclass(frozen=True)
class Scale:
    """How long and how much.

    Attributes:
        rounds: how often each peer has its turn.
        seconds: of one turn.
        sockets: the most that one peer holds.
        room: the most that all peers of a workload hold together.
    """

    rounds: int
    seconds: float
    sockets: int
    room: int


@dataclass(frozen=True)
class Turn:
    """What one peer did in one turn; `lost`: events that did not arrive."""

    values: Sequence[float]
    lost: int = 0


@dataclass
class Contestant:
    """A peer that is up, with its load and its publisher."""

    peer: Peer
    load: Load
    publisher: Publisher

    def open(self, count: int) -> None:
        """Open clients 0 to count - 1."""
        self.load.open(range(count), timeout=120)


def tend(contestants: Sequence[Contestant]) -> None:
    """Keep the sockets of those whose turn it is not."""
    for contestant in contestants:
        contestant.load.tend()


Measure = Callable[[Contestant], Turn]


@dataclass
class Bench:
    """One run of the suite.

    Args:
        directory: for the peers' data; each gets one of its own.
        wanted: names of peers to run beside ours; None: all.
        say: where progress is written.
    """

    directory: Path
    scale: Scale
    wanted: frozenset[str] | None = None
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
    skipped: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    _installed: set[str] = field(default_factory=set)
    _started: int = 0

    @contextmanager
    def contestants(
        self, *peers: type[Peer], dialect: Callable[[Peer], Dialect]
    ) -> Iterator[list[Contestant]]:
        """Yield the peers that can run here, started; those that cannot are noted as skipped."""
        with ExitStack() as stack:
            started = []
            for make in peers:
                peer = self._start(make) if self._wants(make.name) else None
                if peer is None:
                    continue
                stack.callback(peer.stop)
                load = stack.enter_context(closing(Load(peer.port, dialect(peer))))
                publisher = stack.enter_context(closing(Publisher(peer.way())))
                started.append(Contestant(peer, load, publisher))
            yield started

    def prepare(
        self,
        contestants: Sequence[Contestant],
        figures: Sequence[Figure],
        step: Callable[[Contestant], object],
    ) -> list[Contestant]:
        """Have each contestant take a step before its turns; return those that could."""
        for contestant in contestants:
            with self._may_fail(contestant, figures):
                step(contestant)
            tend(contestants)
        return standing(contestants, figures)

    def contest(
        self,
        contestants: Sequence[Contestant],
        figures: Sequence[Figure],
        measure: Measure,
        *,
        rounds: int | None = None,
    ) -> None:
        """Give each contestant one turn a round, forwards and backwards by turns.

        One that fails has no more turns in this workload, and the figures say why.

        Args:
            rounds: None: as many as the scale says.
        """
        left = list(contestants)
        busy: dict[str, list[float]] = {}
        for number in range(rounds or self.scale.rounds):
            for contestant in left if number % 2 == 0 else left[::-1]:
                name = contestant.peer.name
                tend(left)
                used, begun = time.process_time(), time.monotonic()
                with self._may_fail(contestant, figures):
                    turn = measure(contestant)
                    share = (time.process_time() - used) / (time.monotonic() - begun)
                    busy.setdefault(name, []).append(share)
                    for figure, value in zip(figures, turn.values, strict=True):
                        figure.samples.setdefault(name, []).append(value)
                        figure.lost[name] = figure.lost.get(name, 0) + turn.lost
            left = standing(left, figures)
        for figure in figures:
            figure.busy = {name: median(shares) for name, shares in busy.items()}
            figure.load_average = os.getloadavg()[0]
            self.say(f"  {figure.title}: {summary(figure)}")

    def skip(self, name: str, reason: str) -> None:
        """Note that a peer is left out."""
        if name not in self.skipped:
            self.skipped[name] = reason
            self.say(f"  skipped: {name}: {reason}")

    @contextmanager
    def _may_fail(self, contestant: Contestant, figures: Sequence[Figure]) -> Iterator[None]:
        """Note what fails within as this contestant's failure, and let go of its sockets."""
        name = contestant.peer.name
        try:
            yield
        except (OSError, Missing) as exc:
            reason = str(exc) or type(exc).__name__
            contestant.load.close()
            for figure in figures:
                figure.failed[name] = reason
            self.say(f"  failed: {name}: {reason}")

    def _wants(self, name: str) -> bool:
        # Every shape of ours stays: without it there is no ratio. Of the others, one word before
        # a comma means every shape: on the command line a comma parts the names.
        if self.wanted is None or name.startswith(OURS):
            return True
        return name in self.wanted or name.partition(",")[0] in self.wanted

    def _start(self, make: type[Peer]) -> Peer | None:
        name = make.name
        if name in self.skipped:
            return None
        try:
            if name not in self._installed:
                make.install()
                self._installed.add(name)
                if version := make.version():
                    self.versions[name] = version
            self._started += 1
            directory = self.directory / str(self._started)
            directory.mkdir()
            peer = make()
            try:
                peer.start(directory)
            except BaseException:
                peer.stop()
                raise
        except Missing as exc:
            if name == OURS:
                raise
            self.skip(name, str(exc))
            return None
        return peer


def standing(contestants: Sequence[Contestant], figures: Sequence[Figure]) -> list[Contestant]:
    """Return the contestants that have not failed."""
    return [one for one in contestants if one.peer.name not in figures[0].failed]


def summary(figure: Figure) -> str:
    """Return the medians of a figure in a line."""
    return ", ".join(f"{name} {figure.median(name):,.4g}" for name in figure.samples)
