"""Where connections come in: the first bytes of one say what it is served by.

Daphne has Twisted's HTTP parser read every request. One that opens a WebSocket it then writes
anew, for Autobahn to parse: together a third of the time of a connect. So where the first bytes
are such a request, whole and plain, Autobahn's protocol is handed the parsed one. All else goes
Daphne's way, requests that are odd in any way too.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IAddress
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from .protocol.upgrade import parse_upgrade

RESET = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT})
"""Errors of a connection that is over."""


class Accepted(tcp.Server):  # type: ignore[misc]
    """A connection whose end is noticed also where it left bytes to read.

    On an error uvloop has what came read once, and then watches the descriptor no more. Where
    that read got the last bytes, and not the error behind them, nobody would hear of the end,
    and the next write would raise.
    """

    def doRead(self) -> Any:
        """Read once; say whether the connection is lost."""
        lost = super().doRead()
        if lost is None and self.connected and _error(self.socket) in RESET:
            return CONNECTION_LOST
        return lost


def _error(connection: socket.socket) -> int:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


class RequestChannel(HTTPChannel):  # type: ignore[misc]
    """Twisted's HTTP, where a request has to come whole within a time.

    Twisted begins to count anew with every byte, so one that drips would hold its connection
    for ever.
    """

    def resetTimeout(self) -> None:
        """Do nothing: the time runs from the end of what was answered before."""


class Entrance:
    """Decides for each connection what serves it.

    Args:
        http: Daphne's factory of HTTP protocols.
        websocket: its factory of WebSocket protocols.
    """

    def __init__(self, http: Any, websocket: Any) -> None:
        http.protocol = RequestChannel
        # Its class's, for the server puts `enter` in its place.
        self._http = http.buildProtocol
        self._websocket = websocket.buildProtocol
        self._patience = http.timeOut
        # In the order in which they came.
        self._silent: dict[Newcomer, float] = {}

    def enter(self, address: IAddress) -> Newcomer:
        """Return the protocol of a new connection."""
        newcomer = Newcomer(self, address)
        self._silent[newcomer] = time.monotonic()
        return newcomer

    def end_silent(self) -> None:
        """End connections that have sent nothing for as long as an idle one of HTTP may."""
        latest = time.monotonic() - self._patience
        for newcomer, began in list(self._silent.items()):
            if began > latest:
                break
            self.forget(newcomer)
            if newcomer.transport is not None:
                newcomer.transport.loseConnection()

    def forget(self, newcomer: Newcomer) -> None:
        """Take a connection as one that is not silent any more, or gone."""
        self._silent.pop(newcomer, None)

    def serve(self, newcomer: Newcomer, data: bytes) -> None:
        """Have a connection served that began with some bytes."""
        self.forget(newcomer)
        upgrade = parse_upgrade(data)
        build = self._http if upgrade is None else self._websocket
        protocol = build(newcomer.address)
        transport = newcomer.transport
        # As Daphne does it; a wrapper is what TLS has around the transport.
        if isinstance(transport, ProtocolWrapper):
            transport.wrappedProtocol = protocol
        else:
            transport.protocol = protocol
        protocol.makeConnection(transport)
        if upgrade is None:
            protocol.dataReceived(data)
        else:
            protocol.begin(upgrade)


class Newcomer(Protocol):  # type: ignore[misc]
    """A connection of which nothing was read yet."""

    transport: Any

    def __init__(self, entrance: Entrance, address: IAddress) -> None:
        self._entrance = entrance
        self.address = address

    def dataReceived(self, data: bytes) -> None:
        """Make way for the protocol that serves what came."""
        self._entrance.serve(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Be forgotten."""
        self._entrance.forget(self)
