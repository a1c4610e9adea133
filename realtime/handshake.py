"""The handshake: from the request for a WebSocket until it is open."""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple, Self

import autobahn.util
from autobahn.wamp.types import TransportDetails
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.defer import maybeDeferred
from twisted.internet.tcp import Connection as TcpConnection
from twisted.python.failure import Failure

from .conf import settings
from .protocol.deflate import EXTENSION, negotiate
from .protocol.upgrade import VERSION, Upgrade

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
    # Appended to only by sends that are chopped or synchronous, of which there are none.
    "send_queue": (),
    "send_state": 0,
}
"""What most of an open socket's attributes are, told once, by its class."""
HANDSHAKE = frozenset(
    (
        "_raw_query_string",
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


class Nobody:
    """Stands where Autobahn keeps a Deferred for whoever waits until a socket opens or closes."""

    def callback(self, result: object) -> None:
        """Tell nobody."""


class Handshake(WebSocketProtocol):  # type: ignore[misc]
    """Daphne's WebSocket protocol until the socket is open.

    A request comes on one of two ways: parsed, by `begin`; or as bytes that Twisted's HTTP
    parser has read and Daphne writes anew, which Autobahn parses (`processHandshake`).
    """

    # Daphne's, once a request is being answered.
    server: Any = None
    refused: tuple[int, str] | None = None
    extension: str | None = None
    websocket_extensions: list[Any]
    request: Any

    # Autobahn makes these for every socket; here nobody asks for them.
    _transport_details = TransportDetails()
    is_closed = is_open = Nobody()
    trafficStats = TrafficStats()  # type: ignore[no-untyped-call]  # noqa: N815
    # Autobahn copies these to every socket, and formats them for a debug line that nobody
    # reads: a tenth of the time of a handshake, and 2 KB. `with_options` puts them here.
    CONFIG_ATTRS = ()

    @classmethod
    def with_options(cls, factory: Any) -> type[Self]:
        """Return this class with a factory's options, and what is at rest, as its attributes."""
        options = {name: getattr(factory, name) for name in WebSocketProtocol.CONFIG_ATTRS}
        return type(
            cls.__name__,
            (cls,),
            RESTING
            | {name: staticmethod(it) if callable(it) else it for name, it in options.items()},
        )

    def __init__(self) -> None:
        # Not Autobahn's, which makes two Deferreds, a list of events and details of the transport.
        pass

    def connectionMade(self) -> None:
        """Begin. Autobahn would set each of RESTING here, and describe the transport for WAMP."""
        self.state = self.STATE_CONNECTING
        self.data = b""
        self.transport.setTcpNoDelay(self.tcpNoDelay)
        self.factory.countConnections += 1

    def begin(self, upgrade: Upgrade) -> None:
        """Answer a request that is parsed already, as Autobahn's `processHandshake` does."""
        self._raw_query_string = upgrade.query.encode()
        self._wskey = upgrade.key
        self.data = upgrade.rest
        self.websocket_version = VERSION
        self.websocket_protocols = upgrade.protocols
        self.websocket_extensions = self._parseExtensionsHeader(
            upgrade.headers.get("sec-websocket-extensions", "")
        )
        answer = maybeDeferred(self.onConnect, upgrade)
        answer.addCallbacks(self.succeedHandshake, self._refuse)

    def processHandshake(self) -> None:
        """Have Autobahn parse the request; what comes before it is answered waits.

        A client must not send any (RFC 6455 §4.1), and Autobahn would take it for a request.
        """
        if self.server is None:
            super().processHandshake()
        elif len(self.data) > settings.MAX_FRAME_BYTES:
            self.dropConnection(abort=True)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write the answer to the request: at once where nothing waits.

        Twisted's `write` waits for the reactor to say that the socket is writable, which costs
        two system calls and a turn of the loop.
        """
        transport = self.transport
        if isinstance(transport, TcpConnection) and not (
            transport.TLS or transport._tempDataLen or transport.dataBuffer
        ):
            # Full; or broken, then the reactor meets the same error and ends the connection.
            with contextlib.suppress(OSError):
                data = data[transport.socket.send(data) :]
        if data:
            transport.write(data)

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
        super().onOpen()
        self.request = Opened(self.request.path)
        # Without this a socket's dictionary grows to 3 KB with the first ping, and the request
        # of a browser, in bytes and in text, comes on top (the scope has it too).
        self.__dict__ = {
            name: value
            for name, value in self.__dict__.items()
            if name not in HANDSHAKE and RESTING.get(name, self) is not value
        }

    def _refuse(self, failure: Failure) -> None:
        denied = failure.value
        if isinstance(denied, ConnectionDeny):
            self.failHandshake(denied.reason, denied.code)
        else:
            # Daphne has logged it.
            self.failHandshake("Internal server error", ConnectionDeny.INTERNAL_SERVER_ERROR)
