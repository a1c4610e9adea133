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
import struct
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import defer, reactor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection as TcpConnection
from zope.interface import implementer

from .conf import settings
from .consumers import WRITER
from .protocol.exceptions import CloseCode
from .protocol.websocket import frame_text
from .runtime import get_runtime

logger = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that wait to be accepted. At Twisted's 50 a reconnect storm waits for SYN
retries."""
USER_TIMEOUT = 30_000
"""Milliseconds after which unacknowledged data ends a TCP connection (RFC 5482)."""
CLOSE_TIMEOUT = 5
"""Seconds that the other side has to answer a close frame."""
HANDSHAKE_TIMEOUT = 10
"""Seconds for the HTTP upgrade."""
MAX_FRAGMENTS = 4096
"""Fragments of one message; they could be empty, so bytes do not bound them."""
MAX_AFTER_FAILURE = 64
"""Steps of parsing for a socket that we fail already: its close frame is waited for."""
MESSAGE_OVERHEAD = 512
"""Bytes that a waiting message costs beyond its text."""
RECEIVE = "websocket.receive"
GC_THRESHOLD = (10_000, 20, 50)
"""Allocations until a young collection, and how many of these until an older one."""

Beside = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


@implementer(IPushProducer)
class DirectSocket:
    """Writes to one socket: at once where nothing waits, into the transport's buffer else.

    Non-blocking `send` on the socket is six times as fast as `transport.write`, which goes
    through the reactor for every frame. Order is kept, since both are used in turn only when
    the buffer is empty. It is the transport's producer, so it hears when the buffer is.

    Args:
        max_buffer: bytes that may wait before the reader counts as too slow.
    """

    __slots__ = (
        "_closing",
        "_drained",
        "_max_buffer",
        "_paused",
        "_protocol",
        "_send",
        "_transport",
    )

    def __init__(self, protocol: WebSocketProtocol, max_buffer: int) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._max_buffer = max_buffer
        self._closing = False
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        # A TLS transport encrypts on its way, so there only its own write will do.
        plain = isinstance(self._transport, TcpConnection) and not self._transport.TLS
        self._send = self._transport.socket.send if plain else None
        if plain:
            self._transport.socket.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT
            )
        self._transport.unregisterProducer()
        self._transport.registerProducer(self, True)

    def write(self, frames: bytes, texts: Sequence[bytes]) -> None:
        """Write framed bytes."""
        if self._closing or self._protocol.state != WebSocketProtocol.STATE_OPEN:
            return
        transport = self._transport
        if self._send is None or transport._tempDataLen or transport.dataBuffer:
            transport.write(frames)
            self._check()
            return
        try:
            sent = self._send(frames)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The reactor meets the same error and ends the connection in its own way.
            sent = 0
        if sent < len(frames):
            transport.write(frames[sent:])
            self._check()

    def write_text(self, text: bytes) -> None:
        """Frame and write one JSON text."""
        self.write(frame_text(text), (text,))

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""
        if not self._closing:
            self._closing = True
            self._wake()
            self._protocol.sendClose(code=int(code), reason=_short(reason))

    @property
    def congested(self) -> bool:
        """Say whether much waits to be written."""
        return self._paused

    async def drained(self) -> bool:
        """Return when nothing waits to be written; False when the socket closes."""
        while self._paused and not self._closing:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        return not self._closing

    def stop(self) -> None:
        """Write nothing more: the socket is gone."""
        self._closing = True
        self._wake()

    def pauseProducing(self) -> None:
        """Hear from the transport that its buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Hear from the transport that its buffer is empty."""
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """Hear from the transport that the connection is lost."""
        self.stop()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _check(self) -> None:
        """Close a reader that is too slow; the stream has what it misses."""
        transport = self._transport
        waiting = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        if waiting <= self._max_buffer:
            return
        logger.info("slow reader closed client=%s waiting=%d", self._protocol.client_addr, waiting)
        # Whole writes that have not begun are let go, so that the close frame gets through
        # soon; the first may be the rest of a frame.
        keep = 0 if transport.dataBuffer else 1
        del transport._tempDataBuffer[keep:]
        transport._tempDataLen = sum(map(len, transport._tempDataBuffer))
        # Not from within a fan-out's loop over its sockets.
        asyncio.get_running_loop().call_soon(
            self.close, CloseCode.SLOW_CONSUMER, "too much waits to be read"
        )
        self._send = None


class GatewayProtocol(WebSocketProtocol):  # type: ignore[misc]
    """Daphne's WebSocket protocol with bounds on what comes in, and a heartbeat of its own."""

    after_failure = 0

    # Autobahn copies these to every socket, and formats them for a debug line that nobody
    # reads: a tenth of the time of a handshake, and 2 KB. `with_options` puts them here.
    CONFIG_ATTRS = ()

    @classmethod
    def with_options(cls, factory: Any) -> type[GatewayProtocol]:
        """Return this class with a factory's options as its attributes."""
        options = {name: getattr(factory, name) for name in WebSocketProtocol.CONFIG_ATTRS}
        return type(
            cls.__name__,
            (cls,),
            {name: staticmethod(it) if callable(it) else it for name, it in options.items()},
        )

    def onOpen(self) -> None:
        """Start the heartbeat, and let go of what only the handshake needed."""
        self.pinged = self.heard = time.monotonic()
        # A browser's request takes kilobytes, in bytes and in text; the scope has it too.
        self.http_request_data = b""
        self.http_headers.clear()
        # An empty deque of 760 bytes; it is appended to only by sends that are chopped or
        # synchronous, of which there are none.
        self.send_queue = ()
        super().onOpen()

    def onMessageBegin(self, isBinary: bool) -> None:
        """Count fragments anew."""
        self.fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """Refuse a message of endless fragments."""
        self.fragments += 1
        if self.fragments > MAX_FRAGMENTS and not self.failedByMe:
            self._max_message_size_exceeded(0, 0, f"more than {MAX_FRAGMENTS} fragments")
        super().onMessageFrameBegin(length)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Queue a message for the application."""
        if not self.muted:
            self.application_queue.put_message(payload, isBinary)

    def onPing(self, payload: bytes) -> None:
        """Answer while the other side reads; not every ping has to be (RFC 6455 §5.5.3)."""
        if not self.writer.congested:
            super().onPing(payload)

    def processData(self) -> bool:
        """Parse what came; of a socket that failed just enough for its close frame."""
        if self.failedByMe:
            self.after_failure += 1
            if self.after_failure > MAX_AFTER_FAILURE:
                self.data = b""
                return False
        return bool(super().processData())

    def onPong(self, payload: bytes) -> None:
        """Note that the other side reads."""
        self.heard = time.monotonic()

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        """Stop writing, then let Daphne tell the application."""
        writer = getattr(self, "writer", None)
        if writer is not None:
            writer.stop()
        super().onClose(wasClean, code, reason)

    def check_timeouts(self) -> None:
        """Ping on time, and close a socket whose other side does not answer.

        Daphne pings only those that are silent, so a dead reader that sends a tiny frame a
        second would live for ever.
        """
        if self.state != self.STATE_OPEN:
            if self.state == self.STATE_CONNECTING:
                super().check_timeouts()
            return
        now = time.monotonic()
        if now - self.heard > settings.HEARTBEAT_TIMEOUT:
            logger.info("heartbeat lost client=%s", self.client_addr)
            self.sendClose(code=int(CloseCode.HEARTBEAT_LOST), reason="no answer to pings")
        elif now - self.pinged >= settings.HEARTBEAT:
            self.pinged = now
            self.sendPing(struct.pack("!d", now))


class InboundQueue:
    """What waits for the application: over the byte budget the transport stops reading.

    It has what is used here of an asyncio.Queue, whose four deques take 3 KB a socket.
    """

    __slots__ = ("_bytes", "_held_back", "_max_bytes", "_news", "_protocol", "_waiting")

    def __init__(self, protocol: WebSocketProtocol, max_bytes: int) -> None:
        self._protocol = protocol
        self._max_bytes = max_bytes
        self._bytes = 0
        # Bounded by the budget to a few hundred, so taking the first one is cheap.
        self._waiting: list[tuple[dict[str, Any], int]] = []
        self._news: asyncio.Future[None] | None = None
        self._held_back = False

    def put_nowait(self, message: dict[str, Any], size: int = 0) -> None:
        """Queue one message for the application."""
        self._waiting.append((message, size))
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def put_message(self, payload: bytes, binary: bool) -> None:
        """Queue one message from the client."""
        size = len(payload) + MESSAGE_OVERHEAD
        self._bytes += size
        if binary:
            self.put_nowait({"type": RECEIVE, "bytes": payload}, size)
        else:
            self.put_nowait({"type": RECEIVE, "text": payload.decode()}, size)
        if self._bytes > self._max_bytes and not self._held_back:
            self._held_back = True
            self._protocol.transport.pauseProducing()

    async def get(self) -> dict[str, Any]:
        """Return the next message, and read on when enough was taken; for one reader."""
        while not self._waiting:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        message, size = self._waiting.pop(0)
        self._bytes -= size
        if self._held_back and self._bytes <= self._max_bytes // 2:
            self._held_back = False
            self._protocol.transport.resumeProducing()
        return message


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
        super().__init__(
            application,
            endpoints=endpoints,
            ready_callable=self._configure,
            websocket_timeout=-1,
            websocket_handshake_timeout=HANDSHAKE_TIMEOUT,
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
            return super().create_application(protocol, scope)
        queue = InboundQueue(protocol, settings.MAX_INBOUND)
        protocol.writer = DirectSocket(protocol, settings.MAX_BUFFER)
        scope["extensions"] = {WRITER: protocol.writer}
        scope.setdefault("asgi", {"version": "3.0"})
        self.connections[protocol]["application_instance"] = asyncio.ensure_future(
            self.application(
                scope=scope, receive=queue.get, send=partial(self.handle_reply, protocol)
            )
        )
        return queue

    def kill_all_applications(self) -> defer.Deferred[None]:
        """Drain before Daphne's reactor stops."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._shut_down()))

    def _configure(self) -> None:
        self.ws_factory.setProtocolOptions(
            autoPingTimeout=0,
            # Say why, by a close code, instead of dropping the connection.
            failByDrop=False,
            closeHandshakeTimeout=CLOSE_TIMEOUT,
            tcpNoDelay=True,
            # Which origins may use a cookie is the consumer's to say; False by default here.
            allowNullOrigin=True,
        )
        self.ws_factory.protocol = GatewayProtocol.with_options(self.ws_factory)
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


def _short(reason: str) -> str:
    """Return a close reason that fits in its frame (RFC 6455 §5.5: 123 bytes)."""
    return reason.encode()[:120].decode("utf-8", "ignore")
