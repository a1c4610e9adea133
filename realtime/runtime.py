"""The runtime: the parts of one web process, made once per event loop and wired here."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from channels.layers import get_channel_layer

from .conf import settings
from .connection import Connection
from .control import Control
from .holders import Holders
from .metrics import Metrics
from .options import connection_options
from .parts import (
    bridge_in_process,
    make_admission,
    make_authenticator,
    make_bridge,
    make_broker,
    make_fanout,
    make_history,
    make_positions,
    make_presence,
    make_selfcheck,
)
from .protocol.subjects import Subjects
from .services import Services
from .snapshot import Snapshot, resident_bytes, share
from .watch import Watch

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
RECONNECT_SPREAD_MS = 2000
"""Milliseconds over which drained clients come back."""


class Runtime:
    """One web process: broker, layer, bridge, fan-out, authenticator, connections."""

    def __init__(self) -> None:
        self.subjects = Subjects(settings.PREFIX)
        self.metrics = Metrics()
        self._began = time.time()
        self.admission = make_admission(self.metrics)
        self.broker = make_broker("gateway-web")
        self.layer = get_channel_layer()
        self.history = make_history(self.broker)
        self.in_process = bridge_in_process(self.layer)
        bridge = make_bridge(self.broker, self.layer) if self.in_process else None
        self.fanout = make_fanout(self.layer, self.broker, self.history, bridge, self.metrics)
        self.positions = make_positions(self.broker)
        self.connections: dict[str, set[Connection]] = {}
        self.holders = Holders()
        self.control = Control(self.broker, self.subjects, self.connections, self.holders)
        self.presence = make_presence(self.broker, self.holders, self.control.presence)
        self.authenticator = make_authenticator(self.broker, self.metrics)
        self.services = Services(
            broker=self.broker,
            authenticator=self.authenticator,
            fanout=self.fanout,
            positions=self.positions,
            options=connection_options(),
            holders=self.holders,
            presence=self.presence,
            connections=self.connections,
            admission=self.admission,
            metrics=self.metrics,
            changes=lambda: self.control.changes,
        )
        self.selfcheck = make_selfcheck(
            self.broker, self.fanout, self.metrics, lambda: share(self.snapshot())
        )
        self.watch = Watch(
            self.broker, self.fanout, self.subjects.watch, self.connections, self.snapshot
        )
        self.draining = False
        self.started = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect and serve; NATS may come later, sockets are told so until then."""
        if hasattr(self.layer, "on_loss"):
            self.layer.on_loss += [self.fanout.check_soon, self._count_loss]
        self.broker.on_reconnect.append(self.fanout.check_soon)
        self.broker.on_reconnect.append(self.control.reauthorize_all)
        self.broker.on_reconnect.append(self.presence.renew)
        await _until_done(self.fanout.start, "channel layer")
        await self.broker.connect_forever()
        await _until_done(self.control.start, "control")
        await _until_done(self.presence.start, "presence")
        info = await _until_done(self.history.open, "stream")
        self.selfcheck.start()
        await _until_done(self.watch.start, "watch")
        self.started.set()
        logger.info(
            "serving sockets stream=%s last=%d bridge=%s layer=%s",
            settings.STREAM,
            info.state.last,
            "process" if self.in_process else "worker",
            type(self.layer).__name__,
        )

    def snapshot(self) -> Snapshot:
        """Return what this process holds and counted."""
        sessions = [one for mine in self.connections.values() for one in mine]
        return Snapshot(
            worker=str(os.getpid()),
            taken=time.time(),
            started=self._began,
            connections=self.admission.open,
            sessions=len(sessions),
            users=len(self.connections),
            subscriptions=sum(len(one.topics) for one in sessions),
            topics=len(self.fanout.feeds),
            ring_bytes=self.fanout.ring_bytes,
            draining=self.draining,
            nats=self.broker.connected,
            nats_reconnects=self.broker.reconnects,
            memory=resident_bytes(),
            cpu=time.process_time(),
            metrics=self.metrics,
        )

    def _count_loss(self) -> None:
        self.metrics.layer_losses += 1

    async def drain(self, seconds: float) -> None:
        """Ask every client to come back a little later, each at its own time.

        Args:
            seconds: how long they have to close.
        """
        self.draining = True
        open_now = [one for mine in self.connections.values() for one in mine]
        for connection in open_now:
            connection.drain(random.randint(100, RECONNECT_SPREAD_MS))
        if open_now:
            await asyncio.wait([connection.closed for connection in open_now], timeout=seconds)

    async def stop(self) -> None:
        """End what runs in the background."""
        if self._starting is not None:
            self._starting.cancel()
        await self.selfcheck.stop()
        await self.presence.stop()
        await self.watch.stop()
        await self.fanout.stop()
        await self.positions.flush()
        await self.broker.close()

    def start_soon(self) -> None:
        """Start in the background."""
        self._starting = asyncio.get_running_loop().create_task(self.start())


async def _until_done(work: Callable[[], Awaitable[Result]], what: str) -> Result:
    """Do what may fail while a server is away, again and again until it works."""
    while True:
        try:
            return await work()
        except Exception as exc:
            logger.warning("%s not ready, trying again reason=%r", what, exc)
            await asyncio.sleep(1.0)


_runtimes: dict[asyncio.AbstractEventLoop, Runtime] = {}


def get_runtime() -> Runtime:
    """Return the runtime of this event loop, started when it is first asked for."""
    loop = asyncio.get_running_loop()
    runtime = _runtimes.get(loop)
    if runtime is None:
        for closed in [other for other in _runtimes if other.is_closed()]:
            del _runtimes[closed]
        runtime = _runtimes[loop] = Runtime()
        runtime.start_soon()
    return runtime
