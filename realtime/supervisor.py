"""The supervisor: several worker processes on one listening socket, restarted when they die.

The parent keeps the socket open, so connections wait in its backlog while a worker restarts.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from types import FrameType

from .embedded import die_with

logger = logging.getLogger(__name__)

SNAPSHOTS = "GATEWAY_SNAPSHOTS"
"""Environment variable with the directory where workers leave what they counted."""
RESTART_WAIT = 1.0
"""Seconds before a dead worker is replaced, so that a broken one does not spin."""
GRACE = 10.0
"""Seconds that workers have to end after SIGTERM, before SIGKILL."""


class Supervisor:
    """Runs `manage.py COMMAND --fd N` several times.

    Args:
        listener: the listening socket they inherit.
        workers: how many.
    """

    def __init__(self, command: str, listener: socket.socket, workers: int) -> None:
        self._argv = [sys.executable, sys.argv[0], command, "--fd", str(listener.fileno())]
        self._listener = listener
        self._wanted = workers
        self._children: list[subprocess.Popen[bytes]] = []
        self._stopping = False
        self._snapshots = ""

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then end the workers."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        with tempfile.TemporaryDirectory(prefix="gateway-") as self._snapshots:
            self._children = [self._spawn() for _ in range(self._wanted)]
            while not self._stopping:
                self._children = [self._replaced(child) for child in self._children]
                time.sleep(0.1)
            self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # In a group of its own, so that Ctrl-C reaches just this process; the kernel ends it
        # with its parent, however that ends.
        child = subprocess.Popen(
            self._argv,
            pass_fds=[self._listener.fileno()],
            process_group=0,
            env={**os.environ, SNAPSHOTS: self._snapshots},
            preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),
        )
        logger.info("worker started pid=%d", child.pid)
        return child

    def _replaced(self, child: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        status = child.poll()
        if status is None or self._stopping:
            return child
        logger.error("worker ended pid=%d status=%d; replacing it", child.pid, status)
        time.sleep(RESTART_WAIT)
        return self._spawn()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _end(self) -> None:
        for child in self._children:
            child.terminate()
        deadline = time.monotonic() + GRACE
        for child in self._children:
            try:
                child.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                logger.error("worker killed pid=%d: it did not end in time", child.pid)
                child.kill()
                child.wait()
