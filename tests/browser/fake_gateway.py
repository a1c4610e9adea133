"""A gateway by script: the test says what it answers, and serves the client's modules.

Everything is on one port, so that the page and its socket are of one origin, as in life.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import socket
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

STATIC = Path(__file__).resolve().parents[2] / "realtime" / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PAGE = b"<!doctype html><html lang=en><title>test</title><link rel=icon href=data:,>"

Frame = dict[str, Any]

# It tells of every file it serves.
_quiet = logging.getLogger("tests.fake_gateway")
_quiet.setLevel(logging.ERROR)


class FakeGateway:
    """Accepts sockets on 127.0.0.1; each is a Peer that the test speaks through."""

    def __init__(self) -> None:
        self.refusing = False
        self.attempts = 0
        self._peers: queue.Queue[Peer] = queue.Queue()
        self._all: list[Peer] = []
        self._server = serve(
            self._handle,
            "127.0.0.1",
            0,
            process_request=self._http,
            compression=None,
            ping_interval=None,
            close_timeout=0.2,
            logger=_quiet,
        )
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def accept(self, timeout: float = 30.0) -> Peer:
        """Return the next socket that the client opens."""
        try:
            return self._peers.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no socket was opened within {timeout} s") from None

    def ready(self, **fields: Any) -> Peer:
        """Accept the next socket, take its `connect` and answer `ready`."""
        peer = self.accept()
        peer.expect("connect")
        peer.ready(**fields)
        return peer

    def close(self) -> None:
        """End everything."""
        for peer in self._all:
            peer.drop()
        self._server.shutdown()
        self._thread.join(timeout=5)

    def _handle(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self._all.append(peer)
        self._peers.put(peer)
        peer.read()

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == "/ws/":
            self.attempts += 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "") if self.refusing else None
        if path == "/":
            return _response(PAGE, "text/html")
        file = (STATIC / path.removeprefix("/static/")).resolve()
        if path.startswith("/static/") and file.is_relative_to(STATIC) and file.is_file():
            return _response(file.read_bytes(), TYPES[file.suffix])
        return connection.respond(HTTPStatus.NOT_FOUND, "")


class Peer:
    """The gateway's end of one socket.

    Pings are answered unless it is `deaf`; everything else waits until the test expects it.
    """

    def __init__(self, connection: ServerConnection) -> None:
        self.deaf = False
        self.pings = 0
        self.closed = threading.Event()
        self._connection = connection
        self._frames: queue.Queue[Frame] = queue.Queue()

    def read(self) -> None:
        """Take in frames until the socket closes."""
        try:
            for text in self._connection:
                frame = json.loads(text)
                if frame["type"] == "ping":
                    self.pings += 1
                    if not self.deaf:
                        self.send("pong", **{k: frame[k] for k in ("id",) if k in frame})
                else:
                    self._frames.put(frame)
        except (ConnectionClosed, OSError):
            pass
        self.closed.set()

    def expect(self, kind: str, timeout: float = 30.0) -> Frame:
        """Return the next frame, which has to be of that type."""
        try:
            frame = self._frames.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no {kind!r} within {timeout} s") from None
        assert frame["type"] == kind, f"expected {kind!r}, got {frame}"
        return frame

    def send(self, kind: str, **fields: Any) -> None:
        """Send a frame."""
        self._connection.send(json.dumps({"type": kind, **fields}))

    def send_text(self, text: str) -> None:
        """Send anything."""
        self._connection.send(text)

    def ready(self, **fields: Any) -> None:
        """Say that the session is open."""
        defaults = {
            "sessionId": "s",
            "userId": "7",
            "expiresAt": None,
            "heartbeat": 25,
            "epoch": "e1",
            "subscriptions": [],
        }
        self.send("ready", **{**defaults, **fields})

    def subscribed(self, seq_no: int = 0, **fields: Any) -> Frame:
        """Take a `subscribe` and confirm it; return it."""
        frame = self.expect("subscribe")
        defaults = {"id": frame["id"], "topic": frame["topic"], "epoch": "e1", "recovered": True}
        self.send("subscribed", **{**defaults, "seqNo": seq_no, **fields})
        return frame

    def message(self, topic: str, seq_no: int, prev: int | None = None, **fields: Any) -> None:
        """Send an event; without `prev` it follows on the sequence before."""
        self.send(
            "message",
            **{
                "topic": topic,
                "seqNo": seq_no,
                "prevSeqNo": seq_no - 1 if prev is None else prev,
                "messageId": f"m{seq_no}",
                "data": seq_no,
                "ts": 1_700_000_000_000 + seq_no,
                **fields,
            },
        )

    def close(self, code: int, reason: str = "") -> None:
        """Close properly."""
        self._connection.close(code, reason)

    def drop(self) -> None:
        """Cut the connection without a word: 1006 at the other end."""
        with contextlib.suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_RDWR)


def _response(body: bytes, content_type: str) -> Response:
    headers = Headers(
        [
            ("Content-Type", f"{content_type}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
    )
    return Response(200, "OK", headers, body)
