"""Requests for a WebSocket come to the same on both ways: by the entrance, and by Daphne alone.

Twisted, Daphne and Autobahn are the real ones, on a transport in memory.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from daphne.http_protocol import HTTPFactory
from daphne.ws_protocol import WebSocketFactory
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from realtime.conf import settings
from realtime.daphne_protocol import GatewayProtocol
from realtime.direct_socket import DirectSocket
from realtime.entrance import Entrance
from realtime.inbound import InboundQueue
from realtime.metrics import Metrics
from realtime.protocol.upgrade import parse_upgrade

PLAIN = (
    b"GET /ws/%7Eme/?a=b&c HTTP/1.1\r\n"
    b"Host: gateway.example:8000\r\n"
    b"Upgrade: WebSocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to that key (RFC 6455 §1.3)."""
PEER, HOST = IPv4Address("TCP", "192.0.2.7", 7777), IPv4Address("TCP", "192.0.2.1", 80)


class Transport(StringTransport):
    """A TCP transport in memory."""

    protocol: Any = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: no network is here."""

    def unregisterProducer(self) -> None:
        """Let go of the producer, if there is one, as transports of the network do."""
        self.producer = None

    def resumeProducing(self) -> None:
        """Read on, if there is anything to read from, as they do."""
        if not self.disconnecting:
            super().resumeProducing()


class FakeServer:
    """What the protocols ask of Daphne's server; applications begin, and accept when told to."""

    server_name = ""
    root_path = ""
    proxy_forwarded_port_header = "X-Forwarded-Port"
    proxy_forwarded_proto_header = "X-Forwarded-Proto"
    websocket_connect_timeout = 10

    def __init__(self, forwarded: str | None) -> None:
        self.proxy_forwarded_address_header = forwarded
        self.scopes: list[dict[str, Any]] = []
        self.asked: list[Any] = []
        self.gone: list[Any] = []
        self.http_factory = HTTPFactory(self)
        self.ws_factory = WebSocketFactory(self, server="")
        self.ws_factory.setProtocolOptions(
            failByDrop=False, openHandshakeTimeout=0, allowNullOrigin=True
        )
        self.ws_factory.protocol = GatewayProtocol.with_options(self.ws_factory)
        self.entrance = Entrance(self.http_factory, self.ws_factory)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        self.scopes.append(scope)
        self.asked.append(protocol)
        return asyncio.Queue()

    def protocol_connected(self, protocol: Any) -> None:
        """Take note of nothing."""

    def protocol_disconnected(self, protocol: Any) -> None:
        """Take note of nothing."""

    def disconnected(self, protocol: Any) -> None:
        self.gone.append(protocol)

    def log_action(self, protocol: Any, action: str, details: Any) -> None:
        """Log nothing."""


class Conversation(NamedTuple):
    """A connection and who answered it."""

    server: FakeServer
    transport: Transport

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.transport.protocol.dataReceived(piece)

    def accept(self, subprotocol: str | None = None) -> None:
        """Have the application accept what was asked."""
        for protocol in self.server.asked:
            if isinstance(protocol, GatewayProtocol):
                protocol.serverAccept(subprotocol)

    def outcome(self) -> tuple[Any, ...]:
        return self.server.scopes, self.transport.value(), self.transport.disconnecting


def begin(*, entrance: bool, forwarded: str | None = None) -> Conversation:
    """Connect, by the entrance or to Daphne's HTTP protocol alone."""
    server = FakeServer(forwarded)
    transport = Transport(HOST, PEER)
    build = server.entrance.enter if entrance else server.http_factory.buildProtocol
    transport.protocol = build(PEER)
    transport.protocol.makeConnection(transport)
    return Conversation(server, transport)


def outcome_of(
    pieces: Sequence[bytes], *, entrance: bool, forwarded: str | None = None
) -> tuple[Any, ...]:
    """Return the application's scope, what was answered, and whether that was the end."""
    conversation = begin(entrance=entrance, forwarded=forwarded)
    conversation.send(*pieces)
    conversation.accept()
    return conversation.outcome()


def with_lines(*lines: bytes) -> bytes:
    """Return the plain request with more header lines."""
    return PLAIN + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def test_plain_request_is_accepted() -> None:
    scopes, answer, ended = outcome_of([with_lines()], entrance=True)
    (scope,) = scopes
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert ACCEPTED in answer
    assert not ended
    assert scope["path"] == "/ws/~me/"
    assert scope["query_string"] == b"a=b&c"
    assert scope["client"] == ["192.0.2.7", 7777]


LINES = [
    [b"X-Forwarded-For: 203.0.113.7, 10.0.0.1", b"X-Forwarded-Port: 443"],
    [b"Origin: https://app.example", b"Cookie: sessionid=a; b=c"],
    [b"Sec-WebSocket-Protocol: a, b"],
    [b"Sec-WebSocket-Protocol: a, a"],
    [b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"],
    [b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Extensions: x"],
    [b"X_Under: a", b"X-Twice: a", b"X-Twice: b", b"X-Empty:", b"x-MIXED:  a\t"],
    [b"Daphne-Root-Path: /site"],
    [b"Content-Length: 0"],
    [b"Content-Length: 5"],
    [b"Transfer-Encoding: chunked"],
    [b"Expect: 100-continue"],
    [b"Host: other.example"],
    [b"Origin: https://[::1"],
    [b"Origin: null"],
    [b"X-Odd: \xe9"],
    [b"X-Odd: \0"],
    [b"X-Odd: a\r\n b"],
    [b"X-%d: a" % number for number in range(120)],
    [b"X-Long: " + b"x" * 20_000],
]


@pytest.mark.parametrize("lines", LINES, ids=lambda lines: lines[0][:30].decode("latin-1"))
def test_both_ways_headers_come_to_the_same(lines: list[bytes]) -> None:
    for forwarded in (None, "X-Forwarded-For"):
        ways = [
            outcome_of([with_lines(*lines)], entrance=way, forwarded=forwarded)
            for way in (True, False)
        ]
        assert ways[0] == ways[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET", b"POST"),
        (b"GET", b"get"),
        (b"/ws/", b"http://gateway.example/ws/"),
        (b"/ws/", b"//ws/"),
        (b"/ws/", b"/ws;x/"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/1.2"),
        (b"Host: gateway.example:8000\r\n", b""),
        (b":8000", b":port"),
        (b"13", b"12"),
        (b"JZQ==", b"JZQ="),
        (b"WebSocket\r\n", b"h2c\r\n"),
        (b"keep-alive, Upgrade", b"close"),
        (b"a=b&c", b"a=b#c"),
        (b"a=b&c", b""),
        (b"?a=b&c", b""),
        (b"\r\n", b"\n"),
    ],
)
def test_both_ways_odd_requests_come_to_the_same(old: bytes, new: bytes) -> None:
    request = (PLAIN + b"\r\n").replace(old, new)
    ways = [outcome_of([request], entrance=way) for way in (True, False)]
    assert ways[0] == ways[1]


NAMES = st.sampled_from(
    [b"Origin", b"Cookie", b"Host", b"X-A", b"X_A", b"Upgrade", b"Sec-WebSocket-Protocol"]
)
VALUES = st.one_of(
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12).map(str.encode),
    st.sampled_from(
        [b"http://a.example", b"null", b"a, b", b"a;b", b"websocket", b"\xe9", b"\x01"]
    ),
)
TARGETS = st.text("/ab?%41;#:@.~[]\"'", max_size=12).map(lambda text: b"/" + text.encode())


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), TARGETS)
def test_both_ways_any_request_comes_to_the_same(
    fields: list[tuple[bytes, bytes]], target: bytes
) -> None:
    lines = [name + b": " + value for name, value in fields]
    request = with_lines(*lines).replace(b"/ws/%7Eme/?a=b&c", target)
    ways = [outcome_of([request], entrance=way) for way in (True, False)]
    assert ways[0] == ways[1]


def test_request_in_pieces_comes_to_the_same() -> None:
    request = with_lines(b"Origin: https://app.example")
    whole = outcome_of([request], entrance=True)
    assert outcome_of([bytes([byte]) for byte in request], entrance=True) == whole
    for cut in range(1, len(request)):
        assert outcome_of([request[:cut], request[cut:]], entrance=True) == whole


def test_request_that_is_no_upgrade_comes_to_http() -> None:
    conversation = begin(entrance=True)
    conversation.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    (scope,) = conversation.server.scopes
    assert (scope["type"], scope["path"]) == ("http", "/healthz")


@pytest.mark.parametrize(
    "request_of_many",
    [
        b"GET / HTTP/1.1\r\nHost: " + b"a" * 200,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n" + b"a" * 100,
    ],
    ids=["headers", "body"],
)
def test_request_that_drips_is_ended_however_often_it_drips(request_of_many: bytes) -> None:
    conversation, clock = begin(entrance=True), Clock()
    http = conversation.server.http_factory
    http.reactor = clock
    conversation.send(request_of_many[:1])
    dripped = 1
    while not conversation.transport.disconnecting and clock.seconds() < 2 * http.timeOut:
        conversation.send(request_of_many[dripped : dripped + 1])
        dripped += 1
        clock.advance(1)
    assert clock.seconds() == http.timeOut


def test_bytes_behind_the_request_wait_until_it_is_answered() -> None:
    conversation = begin(entrance=True)
    ping = b"\x89\x80\0\0\0\0"
    conversation.send(with_lines() + ping, ping[:3], ping[3:])
    assert conversation.transport.value() == b""
    (protocol,) = conversation.server.asked
    protocol.writer = Writer(conversation.transport)
    conversation.accept()
    assert conversation.transport.value().endswith(b"\r\n\r\n" + b"\x8a\0" * 2)


class Writer:
    """What a protocol asks of the direct writer."""

    congested = False

    def __init__(self, transport: Transport) -> None:
        self.enqueue = transport.write


def test_second_request_before_the_answer_is_not_another_socket() -> None:
    conversation = begin(entrance=True)
    conversation.send(with_lines(), with_lines())
    assert len(conversation.server.scopes) == 1


@pytest.mark.parametrize("entrance", [True, False])
def test_flood_before_the_answer_ends_the_connection(entrance: bool) -> None:
    conversation = begin(entrance=entrance)
    conversation.send(with_lines(), b"x" * settings.MAX_FRAME_BYTES)
    assert not conversation.transport.disconnecting
    conversation.send(b"x")
    assert conversation.transport.disconnecting


def test_refused_connection_is_told_why() -> None:
    conversation = begin(entrance=True)

    def refuse(protocol: Any, scope: Any) -> Any:
        protocol.refused = (429, "Too many connections from this address")
        return asyncio.Queue()

    conversation.server.create_application = refuse  # type: ignore[method-assign]
    conversation.send(with_lines())
    assert conversation.transport.value().startswith(b"HTTP/1.1 429 Too many connections")
    assert conversation.transport.disconnecting


def test_application_that_cannot_begin_is_a_server_error() -> None:
    conversation = begin(entrance=True)

    def fail(protocol: Any, scope: Any) -> Any:
        raise ValueError("no application")

    conversation.server.protocol_connected = fail  # type: ignore[method-assign]
    conversation.send(with_lines())
    assert conversation.transport.value().startswith(b"HTTP/1.1 500 ")


def test_open_socket_keeps_nothing_of_its_request() -> None:
    conversation = begin(entrance=True)
    conversation.send(with_lines(b"Cookie: sessionid=a"))
    conversation.accept()
    (protocol,) = conversation.server.asked
    assert "sessionid" not in repr(protocol.__dict__)
    assert len(protocol.__dict__) < 25
    assert conversation.transport.producer is None


def test_socket_that_is_gone_leaves_nothing_to_the_garbage_collector() -> None:
    conversation = begin(entrance=True)
    conversation.send(with_lines())
    (protocol,) = conversation.server.asked
    protocol.writer = DirectSocket(protocol, Metrics(), 1000)
    protocol.application_queue = InboundQueue(protocol, 1000)
    conversation.accept()
    gone = weakref.ref(protocol)
    gc.disable()
    try:
        protocol.connectionLost(Failure(ConnectionDone()))
        assert conversation.server.gone == [protocol]
        conversation.server.asked.clear()
        conversation.server.gone.clear()
        # As Twisted's transports do.
        conversation.transport.unregisterProducer()
        del conversation.transport.protocol, protocol
        assert gone() is None
    finally:
        gc.enable()


def test_silent_connection_ends_and_a_speaking_one_does_not() -> None:
    silent, speaking = begin(entrance=True), begin(entrance=True)
    for conversation in (silent, speaking):
        conversation.server.entrance._patience = 0
    speaking.send(b"GET")
    for conversation in (silent, speaking):
        conversation.server.entrance.end_silent()
    assert silent.transport.disconnecting
    assert not speaking.transport.disconnecting


def test_silent_connection_has_its_time() -> None:
    conversation = begin(entrance=True)
    conversation.server.entrance.end_silent()
    assert not conversation.transport.disconnecting


def test_plain_requests_of_these_tests_are_plain() -> None:
    """Else both ways would be Daphne's, and the tests above would prove nothing."""
    for lines in ([], LINES[0], LINES[1], LINES[2], LINES[4]):
        assert parse_upgrade(with_lines(*lines)) is not None
