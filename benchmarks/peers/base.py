"""What a peer is: processes that the suite starts, and how clients and publishers speak to it."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.client import Dialect
from benchmarks.publisher import Way
from realtime.embedded import end, free_port, spawn

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realtime-gateway-bench"
"""Where peers are installed; outlives the run."""
HOST = "127.0.0.1"
_TICK = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """A peer cannot run here; the message says why."""


class Peer:
    """A gateway of some make, running; `name` is as in the table."""

    name = ""

    def __init__(self) -> None:
        self.port = free_port()
        self._children: list[tuple[subprocess.Popen[bytes], bool]] = []
        self.directory = Path()

    @classmethod
    def install(cls) -> None:
        """Install what it needs into the cache.

        Raises:
            Missing: when that is not possible here.
        """

    @classmethod
    def version(cls) -> str:
        """Return the versions of what it is made of, once it is installed."""
        return ""

    def start(self, directory: Path) -> None:
        """Start it with its data in a directory."""
        self.directory = directory
        self.launch()
        self.wait_port(self.port)

    def launch(self) -> None:
        """Start the processes."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the processes, the last one first."""
        for child, _ in reversed(self._children):
            end(child, 5)
        self._children.clear()

    def dialect(self, topic: str | None) -> Dialect:
        """Return how clients open; `topic` None: client N subscribes to its own, `topic_of(N)`."""
        raise NotImplementedError

    def way(self) -> Way:
        """Return how events are published."""
        raise NotImplementedError

    def topic_of(self, number: int) -> str:
        """Return the topic of one user."""
        return f"user.{number + 1}.notifications"

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        serves: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start one process; `serves`: its processor time and memory count as the peer's."""
        child = spawn(
            [str(part) for part in argv],
            self.directory / f"{name}.log",
            env={**os.environ, **(env or {})},
            cwd=cwd or self.directory,
        )
        self._children.append((child, serves))
        return child

    def wait_port(self, port: int, timeout: float = 60.0) -> None:
        """Return when something listens there.

        Raises:
            Missing: when a process ends before, or nothing does in time.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    return
            if any(child.poll() is not None for child, _ in self._children):
                raise Missing(f"{self.name} ended at once: {self._last_words()}")
            time.sleep(0.05)
        raise Missing(f"{self.name} did not start in {timeout:g} s: {self._last_words()}")

    def memory(self) -> int:
        """Return the resident memory of the serving processes, in bytes."""
        return sum(_resident(child.pid) for child, serves in self._children if serves)

    def cpu(self) -> float:
        """Return the processor time that the serving processes used so far, in seconds."""
        return sum(_cpu(child.pid) for child, serves in self._children if serves)

    def _last_words(self) -> str:
        logs = sorted(self.directory.glob("*.log"), key=lambda path: path.stat().st_mtime)
        lines = [line for path in logs for line in path.read_text(errors="replace").splitlines()]
        return " | ".join(lines[-3:]) or "it said nothing"


def allow_many_files() -> int:
    """Raise the soft limit on open files to the hard one, which children inherit; return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def tool(name: str) -> str:
    """Return the path of a program.

    Raises:
        Missing: when it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/go/bin")
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def install(argv: Sequence[str], cwd: Path | str, *, timeout: float = 300.0) -> str:
    """Run an installer; return what it printed.

    Args:
        timeout: in seconds.

    Raises:
        Missing: with its last line when it fails, or takes too long.
    """
    Path(cwd).mkdir(parents=True, exist_ok=True)
    what = " ".join([Path(argv[0]).name, *argv[1:3]])
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as exc:
        raise Missing(f"'{what}' took too long") from exc
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"'{what}' failed: {lines[-1].strip() if lines else 'no word'}")
    return done.stdout


def _resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
