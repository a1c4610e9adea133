"""The server: Daphne with a direct write path and the bounds that it lacks.

Daphne is subclassed through its own seams. What is added: a writer in
`scope["extensions"]`, with which the fan-out writes framed bytes to the socket; a bound on
what waits to be written (then 4001) and on what waits to be handled (then reading pauses); a
heartbeat that a chatty client cannot dodge; close codes instead of dropped connections; a
drain on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from daphne.server import Server
from twisted.internet import defer, reactor, tcp

from . import lifecycle
from .compression import Compressor
from .conf import settings
from .consumers import WRITER
from .daphne_protocol import GatewayProtocol
from .direct_socket import CompressingSocket, DirectSocket
from .entrance import Accepted, Entrance
from .inbound import InboundQueue
from .metrics import Metrics
from .runtime import get_runtime
from .sse import REQUEST

logger = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that wait to be accepted. At Twisted's 50 a reconnect storm waits for SYN
retries."""
CLOSE_TIMEOUT = 5
"""Seconds that the other side has to answer a close frame."""
CHECK_SECONDS = 2
"""Seconds until connections are looked at again, as in Daphne."""
HANDSHAKE_TIMEOUT = 10
"""Seconds in which the application accepts."""
REFUSALS = {
    "total": (503, "Too many connections here: try again later"),
    "address": (429, "Too many connections from this address"),
}
"""HTTP status and reason of upgrades that are refused, by the limit that was reached."""
GC_THRESHOLD = (10_000, 20, 50)
"""Allocations until a young collection, and how many of these until an older one."""

Beside = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


class GatewayServer(Server):  # type: ignore[misc]
    """Daphne, serving sockets that the fan-out writes to itself.

    Args:
        endpoints: Twisted endpoint descriptions, as for Daphne.
        beside: what runs in the same process, each until the event it is given is set.
        ready: called once when sockets are served.
        options: further arguments of Daphne's Server.
    """

    def __init__(
        self,
        application: Any,
        endpoints: list[str],
        *,
        beside: Sequence[Beside] = (),
        ready: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        self._beside = beside
        self._ready = ready
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._compressor: Compressor | None = None
        self._entrance: Entrance | None = None
        super().__init__(
            application,
            endpoints=endpoints,
            ready_callable=self._configure,
            websocket_timeout=-1,
            # Autobahn's own timer, for a request that does not come whole: here it always does.
            websocket_handshake_timeout=0,
            websocket_connect_timeout=HANDSHAKE_TIMEOUT,
            websocket_max_message_size=settings.MAX_FRAME_BYTES,
            websocket_max_frame_size=settings.MAX_FRAME_BYTES,
            server_name="",
            proxy_forwarded_address_header=settings.FORWARDED_HEADER or None,
            **options,
        )

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Run the application for one connection; sockets get a writer and a bounded queue."""
        if scope["type"] != "websocket":
            scope["extensions"] = {REQUEST: protocol}
            return super().create_application(protocol, scope)
        queue = InboundQueue(protocol, settings.MAX_INBOUND)
        runtime = get_runtime()
        address = scope["client"][0] if scope["client"] else ""
        refused = runtime.admission.enter(address)
        if refused is not None:
            protocol.refused = REFUSALS[refused]
            lifecycle.refused(address, str(REFUSALS[refused][0]), REFUSALS[refused][1])
            return queue
        protocol.address = address
        protocol.writer = self._writer(protocol, runtime.metrics)
        scope["extensions"] = {WRITER: protocol.writer}
        scope.setdefault("asgi", {"version": "3.0"})
        self.connections[protocol]["application_instance"] = asyncio.ensure_future(
            self.application(
                scope=scope, receive=queue.get, send=partial(self.handle_reply, protocol)
            )
        )
        return queue

    def disconnected(self, protocol: GatewayProtocol) -> None:
        """Count a socket that is gone no more."""
        if protocol.address is not None:
            get_runtime().admission.leave(protocol.address)
            protocol.address = None

    def timeout_checker(self) -> None:
        """Look for connections whose time is over; Daphne calls this every 2 seconds."""
        assert self._entrance is not None
        self._entrance.end_silent()
        try:
            super().timeout_checker()
        except Exception:
            # Daphne would look no more, for none of them.
            logger.exception("looking for silent connections failed")
            reactor.callLater(CHECK_SECONDS, self.timeout_checker)

    def listen_success(self, port: Any) -> None:
        """Have what a port accepts notice its end."""
        if getattr(port, "transport", None) is tcp.Server:
            port.transport = Accepted
        super().listen_success(port)

    def kill_all_applications(self) -> defer.Deferred[None]:
        """Drain before Daphne's reactor stops."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._shut_down()))

    def _writer(self, protocol: GatewayProtocol, metrics: Metrics) -> DirectSocket:
        if protocol.extension is None:
            return DirectSocket(protocol, metrics, settings.MAX_BUFFER)
        if self._compressor is None:
            self._compressor = Compressor(metrics, settings.COMPRESSION_MIN_BYTES)
        return CompressingSocket(protocol, metrics, settings.MAX_BUFFER, self._compressor)

    def _configure(self) -> None:
        self.ws_factory.setProtocolOptions(
            autoPingTimeout=0,
            # Say why, by a close code, instead of dropping the connection.
            failByDrop=False,
            closeHandshakeTimeout=CLOSE_TIMEOUT,
            tcpNoDelay=True,
            # A message is decoded when it is whole (`InboundQueue.put_message`).
            utf8validateIncoming=False,
            # Which origins may use a cookie is the consumer's to say; False by default here.
            allowNullOrigin=True,
        )
        self.ws_factory.protocol = GatewayProtocol.with_options(self.ws_factory)
        self._entrance = Entrance(self.http_factory, self.ws_factory)
        self.http_factory.buildProtocol = self._entrance.enter
        reactor.callLater(0, self._started)

    def _started(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work(self._stopping)) for work in self._beside]
        self._tasks.append(loop.create_task(self._announce()))

    async def _announce(self) -> None:
        await get_runtime().started.wait()
        # What is loaded by now stays: the collector need not walk it again and again while
        # sockets come, whose own objects seldom form cycles.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        self._ready()

    async def _shut_down(self) -> None:
        """Accept no more, ask every client to come back later, then end what is left."""
        runtime = get_runtime()
        runtime.draining = True
        for listener in self.listeners:
            listener.addCallback(lambda port: port.stopListening())
            listener.addErrback(lambda failure: None)
        logger.info("draining sockets=%d", len(self.connections))
        await runtime.drain(settings.DRAIN_SECONDS)
        running = [
            details["application_instance"]
            for details in self.connections.values()
            if "application_instance" in details
        ]
        for task in running:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*running, return_exceptions=True)
        self._stopping.set()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=settings.DRAIN_SECONDS)
            for task in stuck:
                task.cancel()
        await runtime.stop()
        logger.info("stopped")


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: when the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def serve(
    listener: socket.socket,
    *,
    beside: Sequence[Beside] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve the configured ASGI application until SIGTERM or SIGINT.

    Args:
        listener: a listening socket.
        beside: what runs in the same process, each until the event it is given is set.
        ready: called once when sockets are served.
    """
    from channels.routing import get_default_application

    # Every socket is an open file, and the soft limit is often 1,024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    GatewayServer(
        get_default_application(), [f"fd:fileno={listener.fileno()}"], beside=beside, ready=ready
    ).run()
