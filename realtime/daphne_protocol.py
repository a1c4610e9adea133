"""Daphne's WebSocket protocol with the bounds that it lacks, and a heartbeat of its own."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any, NamedTuple

import autobahn.util
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol

from .conf import settings
from .protocol.deflate import EXTENSION, inflate, negotiate
from .protocol.exceptions import BadFrame, CloseCode, TooLarge

MAX_FRAGMENTS = 4096
"""Fragments of one message; they could be empty, so bytes do not bound them."""
MAX_CONTROL_FRAMES = 500
"""Pings and pongs taken between two of our own pings. They are the smallest frames there are,
so a flood of them would cost the most."""
MAX_AFTER_FAILURE = 64
"""Steps of parsing for a socket that we fail already: its close frame is waited for."""
MESSAGE_OVERHEAD = 512
"""Bytes that a waiting message costs beyond its text."""
RECEIVE = "websocket.receive"

RESTING: dict[str, Any] = {
    **dict.fromkeys(
        (
            "_isMessageCompressed",
            "closedByMe",
            "droppedByMe",
            "failedByMe",
            "inside_message",
            "triggered",
            "wasClean",
            "wasCloseHandshakeTimeout",
            "wasMaxFramePayloadSizeExceeded",
            "wasMaxMessagePayloadSizeExceeded",
            "wasOpenHandshakeTimeout",
            "wasServerConnectionDropTimeout",
            "wasServingFlashSocketPolicyFile",
        ),
        False,
    ),
    **dict.fromkeys(
        (
            "_perMessageCompress",
            "autoPingPending",
            "autoPingPendingCall",
            "autoPingPendingSent",
            "autoPingTimeoutCall",
            "closeHandshakeTimeoutCall",
            "current_frame",
            "localCloseCode",
            "localCloseReason",
            "openHandshakeTimeoutCall",
            "remoteCloseCode",
            "remoteCloseReason",
            "trackedTimings",
            "wasNotCleanReason",
        ),
        None,
    ),
    "autoPingPendingSeq": 0,
    "send_state": 0,
}
"""What most of an open socket's attributes are, told once, by its class."""
HANDSHAKE = frozenset(
    (
        "_raw_query_string",
        "_results",
        "_transport_details",
        "_valid_events",
        "_wskey",
        "clean_headers",
        "http_headers",
        "http_request_data",
        "http_request_host",
        "http_request_params",
        "http_request_path",
        "http_request_uri",
        "http_response_data",
        "http_status_line",
        "protocol_to_accept",
        "root_path",
        "server_addr",
        "trafficStats",
        "websocket_extensions",
        "websocket_extensions_in_use",
        "websocket_origin",
        "websocket_protocol_in_use",
        "websocket_protocols",
    )
)
"""What nobody asks an open socket for; `trafficStats` is one for all, for nobody reads it."""


class Opened(NamedTuple):
    """What Daphne asks of the request once the socket is open."""

    path: str


# Where `click` is installed, Autobahn colours what it says in debug lines, logged or not.
autobahn.util._HAS_CLICK = False


class Deferred:
    """Stands where Autobahn keeps an extension: it lets compressed messages pass as they are.

    Autobahn itself would inflate each piece that is read. Where a message is a little over the
    limit it cuts it off instead of refusing it, and an inflater of 10 to 40 KB stays with each
    socket. So `GatewayProtocol.onMessage` inflates whole messages.
    """

    EXTENSION_NAME = EXTENSION

    def start_decompress_message(self) -> None:
        """Begin a message."""

    def decompress_message_data(self, data: bytes, max_output_len: int) -> bytes:
        """Return what came."""
        return data

    def end_decompress_message(self) -> None:
        """End it."""


DEFERRED = Deferred()


class GatewayProtocol(WebSocketProtocol):  # type: ignore[misc]
    """Daphne's WebSocket protocol with bounds on what comes in, and a heartbeat of its own."""

    after_failure = 0
    control_frames = 0
    refused: tuple[int, str] | None = None
    address: str | None = None
    extension: str | None = None
    websocket_extensions: list[Any]

    # Autobahn copies these to every socket, and formats them for a debug line that nobody
    # reads: a tenth of the time of a handshake, and 2 KB. `with_options` puts them here.
    CONFIG_ATTRS = ()
    trafficStats = TrafficStats()  # type: ignore[no-untyped-call]  # noqa: N815
    message_data: Any
    request: Any

    @classmethod
    def with_options(cls, factory: Any) -> type[GatewayProtocol]:
        """Return this class with a factory's options, and what is at rest, as its attributes."""
        options = {name: getattr(factory, name) for name in WebSocketProtocol.CONFIG_ATTRS}
        return type(
            cls.__name__,
            (cls,),
            RESTING
            | {name: staticmethod(it) if callable(it) else it for name, it in options.items()},
        )

    def onConnect(self, request: Any) -> Any:
        """Let Daphne start the application, unless the connection is one too many."""
        if settings.COMPRESSION:
            self.extension = negotiate(self.websocket_extensions)
        # Autobahn would fail the handshake over an offer that it does not understand, where
        # RFC 7692 §7.1 has it declined.
        self.websocket_extensions = []
        accepted = super().onConnect(request)
        if self.refused is not None:
            raise ConnectionDeny(*self.refused)  # type: ignore[no-untyped-call]
        return accepted

    def serverAccept(self, subprotocol: str | None = None) -> None:
        """Accept the handshake, with the extension that was agreed to."""
        if self.extension is None:
            super().serverAccept(subprotocol)
        else:
            super().serverAccept((subprotocol, {"Sec-WebSocket-Extensions": self.extension}))

    def onOpen(self) -> None:
        """Start the heartbeat, and let go of what only the handshake needed."""
        self.pinged = self.heard = time.monotonic()
        if self.extension is not None:
            self._perMessageCompress = DEFERRED
        # An empty deque of 760 bytes; it is appended to only by sends that are chopped or
        # synchronous, of which there are none.
        self.send_queue = ()
        super().onOpen()
        self.request = Opened(self.request.path)
        # Without this a socket's dictionary grows to 3 KB with the first ping, and the request
        # of a browser, in bytes and in text, comes on top (the scope has it too).
        self.__dict__ = {
            name: value
            for name, value in self.__dict__.items()
            if name not in HANDSHAKE and RESTING.get(name, self) is not value
        }

    def dataReceived(self, data: bytes) -> None:
        """Take what came; Autobahn would prepare a debug line about it each time."""
        self._dataReceived(data)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write what Autobahn frames itself, in order with what goes past the transport."""
        writer = getattr(self, "writer", None)
        if writer is None:
            super().sendData(data, sync, chopsize)
        else:
            writer.enqueue(data)

    def onMessageBegin(self, isBinary: bool) -> None:
        """Count fragments anew."""
        self.fragments = 0
        if self._isMessageCompressed:
            self.utf8validateIncomingCurrentMessage = False
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """Refuse a message of endless fragments."""
        self.fragments += 1
        if self.fragments > MAX_FRAGMENTS and not self.failedByMe:
            self._max_message_size_exceeded(0, 0, f"more than {MAX_FRAGMENTS} fragments")
        super().onMessageFrameBegin(length)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Queue a message for the application."""
        if self.muted:
            return
        try:
            if self._isMessageCompressed:
                payload = inflate(payload, settings.MAX_FRAME_BYTES)
            self.application_queue.put_message(payload, isBinary)
        except TooLarge as exc:
            self._max_message_size_exceeded(0, 0, exc.message)
        except (BadFrame, UnicodeDecodeError) as exc:
            self._invalid_payload(str(exc))

    def sendMessage(self, payload: bytes, isBinary: bool = False) -> None:
        """Send what another application of this server wrote: uncompressed."""
        super().sendMessage(payload, isBinary, doNotCompress=True)

    def onMessageEnd(self) -> None:
        """Hand a message over; Autobahn would also prepare to tell listeners, of whom are none."""
        if not self.failedByMe:
            self._onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = None

    def onPing(self, payload: bytes) -> None:
        """Answer while the other side reads; not every ping has to be (RFC 6455 §5.5.3)."""
        if self._admit_control() and not self.writer.congested:
            super().onPing(payload)

    def processData(self) -> bool:
        """Parse what came; of a socket that failed just enough for its close frame."""
        if self.failedByMe:
            self.after_failure += 1
            if self.after_failure > MAX_AFTER_FAILURE:
                self.data = b""
                return False
        # What is read already can be a thousand times as much when it is inflated.
        if self.extension is not None and self.application_queue.held_back:
            return False
        return bool(super().processData())

    def onPong(self, payload: bytes) -> None:
        """Note that the other side reads."""
        self._admit_control()
        self.heard = time.monotonic()

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        """Stop writing, then let Daphne tell the application."""
        writer = getattr(self, "writer", None)
        if writer is not None:
            writer.stop()
        self.server.disconnected(self)
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
            self.writer.close(CloseCode.HEARTBEAT_LOST, "no answer to pings")
        elif now - self.pinged >= settings.HEARTBEAT:
            self.pinged = now
            self.control_frames = 0
            self.sendPing(struct.pack("!d", now))

    def _admit_control(self) -> bool:
        self.control_frames += 1
        if self.control_frames <= MAX_CONTROL_FRAMES:
            return True
        self.writer.close(CloseCode.PROTOCOL_VIOLATION, "too many pings or pongs")
        self.failedByMe = True
        return False


class InboundQueue:
    """What waits for the application: over the byte budget the transport stops reading.

    It has what is used here of an asyncio.Queue, whose four deques take 3 KB a socket.

    Attributes:
        held_back: whether it is over the budget.
    """

    __slots__ = ("_bytes", "_max_bytes", "_news", "_protocol", "_waiting", "held_back")

    def __init__(self, protocol: WebSocketProtocol, max_bytes: int) -> None:
        self._protocol = protocol
        self._max_bytes = max_bytes
        self._bytes = 0
        # Bounded by the budget to a few hundred, so taking the first one is cheap.
        self._waiting: list[tuple[dict[str, Any], int]] = []
        self._news: asyncio.Future[None] | None = None
        self.held_back = False

    def put_nowait(self, message: dict[str, Any], size: int = 0) -> None:
        """Queue one message for the application."""
        self._waiting.append((message, size))
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def put_message(self, payload: bytes, binary: bool) -> None:
        """Queue one message from the client.

        Raises:
            UnicodeDecodeError: when a text is not UTF-8.
        """
        content = {"bytes": payload} if binary else {"text": payload.decode()}
        size = len(payload) + MESSAGE_OVERHEAD
        self._bytes += size
        self.put_nowait({"type": RECEIVE, **content}, size)
        if self._bytes > self._max_bytes and not self.held_back:
            self.held_back = True
            self._protocol.transport.pauseProducing()

    async def get(self) -> dict[str, Any]:
        """Return the next message, and read on when enough was taken; for one reader."""
        while not self._waiting:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        message, size = self._waiting.pop(0)
        self._bytes -= size
        if self.held_back and self._bytes <= self._max_bytes // 2:
            self.held_back = False
            self._protocol.transport.resumeProducing()
            if self._protocol.data:
                self._protocol.consumeData()
        return message
