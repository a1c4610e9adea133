"""Child processes of a test: each ended by its own id, none outliving the test run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from realtime.embedded import end, spawn

from .waiting import DEADLINE, wait_until

T = TypeVar("T")

START = 60.0
"""Seconds until a program that was started serves, or says something."""
PROJECT = Path(__file__).resolve().parents[2]
"""Where manage.py lies."""

# A proxy in the environment is no way to a port of this machine.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def freeze(pid: int) -> None:
    """Freeze a process (SIGSTOP) and return when it stands still, on the other core too."""
    os.kill(pid, signal.SIGSTOP)
    # The state follows the name, which is in parentheses (proc(5)).
    stat = Path(f"/proc/{pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] in "TZ", what="the freeze")


class ChildProcess:
    """A program that a test starts, signals and ends; its output goes to a file.

    Args:
        argv: the program and its arguments.
        env: added to this process's environment.
        cwd: where it runs.
        log: its output is appended to this file; None takes a temporary one.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = PROJECT,
        log: Path | None = None,
    ) -> None:
        self.argv = list(argv)
        self.env = dict(env or {})
        self.cwd = cwd
        # DATA_DIR is the test run's own, removed when it ends (tests/conftest.py).
        self.log = log or Path(tempfile.mkdtemp(dir=os.environ.get("DATA_DIR"))) / "output.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    @property
    def pid(self) -> int:
        """Return the process id of the last start."""
        if self._process is None:
            raise AssertionError(f"{self.argv} was not started")
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status (negative: the signal), None while it runs."""
        return None if self._process is None else self._process.poll()

    def is_alive(self) -> bool:
        """Say whether it runs (or is paused)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, again when it has ended; SIGKILL ends it when this process ends."""
        if self.is_alive():
            return
        self._log_offset = self.log.stat().st_size if self.log.exists() else 0
        self._process = spawn(
            self.argv,
            self.log,
            env={**os.environ, **self.env},
            cwd=self.cwd,
            death_signal=signal.SIGKILL,
        )

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        if self.is_alive():
            self.signal(signal.SIGKILL)
            self.wait()

    def pause(self) -> None:
        """Freeze it (SIGSTOP); its sockets stay open."""
        if self._process is not None and self._process.poll() is None:
            freeze(self._process.pid)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, nothing when it has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout: float = DEADLINE) -> int:
        """Return the exit status once it ends.

        Raises:
            AssertionError: when it did not end in `timeout` seconds.
        """
        wait_until(lambda: not self.is_alive(), timeout, what=f"the end of {self.argv}")
        assert self.returncode is not None
        return self.returncode

    def stop(self, timeout: float = DEADLINE) -> None:
        """End it: SIGTERM, after `timeout` seconds SIGKILL. Does nothing when it has ended."""
        if self._process is not None and self.is_alive():
            self.resume()
            end(self._process, timeout)

    def text(self) -> str:
        """Return what it has written since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_offset)
            return log.read().decode(errors="replace")

    def find(self, pattern: str) -> re.Match[str] | None:
        """Return the first match of a regular expression in what it has written."""
        return re.search(pattern, self.text(), re.MULTILINE)

    def wait_for_line(self, pattern: str, timeout: float = START) -> re.Match[str]:
        """Return the first match of a regular expression in what it writes.

        Raises:
            AssertionError: when it ended or wrote no such thing in `timeout` seconds.
        """

        def found() -> re.Match[str] | None:
            ended = not self.is_alive()  # looked at first: its last words count
            match = self.find(pattern)
            if match is None and ended:
                raise AssertionError(f"{self._end()} before it wrote {pattern!r}")
            return match

        match = self._wait(found, timeout, f"{pattern!r}")
        assert match is not None
        return match

    def wait_http(self, url: str, timeout: float = START) -> None:
        """Return when a GET of `url` is answered with a 2xx status.

        Raises:
            AssertionError: when it ended or did not answer in `timeout` seconds.
        """

        def answered() -> bool:
            if not self.is_alive():
                raise AssertionError(f"{self._end()} before it served {url}")
            try:
                with _open(url, timeout=10):
                    return True
            except (urllib.error.URLError, OSError):
                return False

        self._wait(answered, timeout, url)

    def wait_port(self, port: int, timeout: float = START) -> None:
        """Return when it accepts connections on a port of this machine.

        Raises:
            AssertionError: when it ended or did not in `timeout` seconds.
        """

        def accepted() -> bool:
            if not self.is_alive():
                raise AssertionError(f"{self._end()} before it listened on port {port}")
            with socket.socket() as probe:
                probe.settimeout(10)
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self._wait(accepted, timeout, f"port {port}")

    def _wait(self, condition: Callable[[], T], timeout: float, what: str) -> T:
        try:
            return wait_until(condition, timeout, what=what)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{' '.join(self.argv)}:\n{self.text()[-4000:]}") from None

    def _end(self) -> str:
        return f"{' '.join(self.argv[1:])} ended with {self.returncode}"


class ManageProcess(ChildProcess):
    """`manage.py ARGS` as a child.

    Args:
        args: the command and its arguments.
    """

    def __init__(
        self,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path = PROJECT,
        *,
        log: Path | None = None,
    ) -> None:
        # -u: lines reach the log as they are printed.
        super().__init__([sys.executable, "-u", "manage.py", *args], env=env, cwd=cwd, log=log)


def manage(*args: str, env: Mapping[str, str], timeout: float = 120.0) -> str:
    """Run `manage.py ARGS` to its end and return what it printed to standard output.

    Raises:
        AssertionError: when it fails; says what it printed.
    """
    done = subprocess.run(
        [sys.executable, "manage.py", *args],
        env={**os.environ, **env},
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"manage.py {' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout
