"""Socket.IO at /socket.io/: ASGI on one side, a Socket.IO server of this process on the other.

Every request is looked at before the library sees it: who may come, from where and how often, that
a body is bounded, and that packets have the form of packets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import msgspec
from channels.consumer import AsyncConsumer

from .conf import settings
from .consumers import peer_of, until_started
from .protocol.limits import RateLimit
from .protocol.socketio import MESSAGE, is_transport_packet
from .runtime import Runtime, get_runtime
from .socketio_server import MAX_PACKETS, Options, SocketIoServer
from .socketio_session import ENTRY, Entry, SocketIoSession
from .socketio_websocket import SocketIoWebSocket
from .sse import Headers, Receive, Refused, Scope, Send, cors_headers, respond, same_site

logger = logging.getLogger(__name__)

UNKNOWN_SESSION = 1
"""Engine.IO's number of the error."""
SEPARATOR = "\x1e"
NORMAL = 1000
"""The close code of a WebSocket whose session the client ended (RFC 6455 §7.4.1)."""

_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"content-type, x-requested-with"),
    (b"access-control-max-age", b"600"),
]
strays = RateLimit(rate=1 / 60, burst=1)
"""Requests of unknown sessions that may be logged: a few are normal, after a restart."""
_servers: weakref.WeakKeyDictionary[Runtime, SocketIoServer] = weakref.WeakKeyDictionary()


def server_of(runtime: Runtime) -> SocketIoServer:
    """Return the Socket.IO server of a web process, made when it is first asked for."""
    server = _servers.get(runtime)
    if server is None:
        options = Options(
            transports=settings.SOCKETIO,
            heartbeat=settings.HEARTBEAT,
            heartbeat_timeout=settings.HEARTBEAT_TIMEOUT,
            max_frame=settings.MAX_FRAME_BYTES,
            max_buffer=settings.MAX_BUFFER,
        )
        server = _servers[runtime] = SocketIoServer(runtime.services, options)
    return server


class SocketIoConsumer(AsyncConsumer):  # type: ignore[misc]
    """One request of a Socket.IO client: a WebSocket, or a poll, or a body of packets."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        runtime = get_runtime()
        await until_started(runtime)
        if scope["type"] == "websocket":
            await _serve_websocket(runtime, scope, receive, send)
            return
        cors = cors_headers(scope)
        if scope["method"] == "OPTIONS":
            await respond(send, 204, [*cors, *_PREFLIGHT])
            return
        try:
            await _serve_http(runtime, scope, receive, partial(_send_with, send, cors))
        except Refused as exc:
            body = msgspec.json.encode(exc.body)
            await respond(send, exc.status, [*cors, (b"content-type", b"application/json")], body)


def _entry_of(runtime: Runtime, scope: Scope) -> Entry:
    """Return what the request belongs to, or a new one.

    Raises:
        Refused: when it may not come.
    """
    query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=100)
    if query.get("transport", ["polling"])[0] not in settings.SOCKETIO or "j" in query:
        raise Refused(400, "BAD_FRAME", f"Transports here: {', '.join(settings.SOCKETIO)}.")
    proven = scope["type"] == "http" and same_site(scope)
    peer = peer_of(scope, proven=proven, transport="socket.io")
    if peer is None:
        raise Refused(403, "AUTH_FAILED", "This page may not use your login here.")
    if "sid" in query:
        session = server_of(runtime).sessions.get(query["sid"][0])
        if session is None:
            raise _unknown_session()
        if scope["type"] == "websocket" and session.ended.is_set():
            raise Refused(400, "SESSION_EXPIRED", "This session ends: connect anew.")
        return session.entry
    if query.get("EIO") != ["4"]:
        raise Refused(400, "BAD_FRAME", "This is a Socket.IO 4 server (EIO=4).")
    if runtime.draining:
        raise Refused(503, "UNAVAILABLE", "This process ends: come back in a moment.")
    if scope["type"] == "websocket":
        return Entry(peer)  # the server counts it with all WebSockets
    if (limit := runtime.admission.enter(peer.ip)) is not None:
        status = 503 if limit == "total" else 429
        raise Refused(status, "TOO_MANY_CONNECTIONS", "Too many connections are open.")
    return Entry(peer, partial(runtime.admission.leave, peer.ip))


def _unknown_session() -> Refused:
    """Return how a request of a session is refused that this process does not hold."""
    if strays.allows(asyncio.get_running_loop().time()):
        logger.warning(
            "socket.io request of a session that another process holds, or that is gone: when this"
            " goes on, make the proxy sticky, or take 'polling' out of SOCKETIO"
        )
    return Refused(400, UNKNOWN_SESSION, "Session ID unknown")


async def _serve_http(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] not in ("GET", "POST"):
        raise Refused(405, "BAD_FRAME", "Packets are fetched by GET and brought by POST.")
    entry = _entry_of(runtime, scope)
    session = entry.session
    serve = server_of(runtime).handle_request
    if session is not None:
        over = session.begin(scope["method"])
        if over is None:
            raise Refused(400, "BAD_FRAME", "Another request of this session is under way.")
        answer = partial(_send_last, send, over)
        try:
            if scope["method"] == "POST":
                await _post(session, scope, receive, partial(serve, send=answer))
            else:
                body = await _body(receive)
                await _while_there(receive, serve(scope, partial(_request, body), answer))
        finally:
            over()
        return
    try:
        if scope["method"] == "POST":
            raise Refused(400, "BAD_FRAME", "A session begins with a GET.")
        body = await _body(receive)
        await serve({**scope, ENTRY: entry}, partial(_request, body), send)
    finally:
        if entry.session is None:
            entry.release()


async def _post(session: SocketIoSession, scope: Scope, receive: Receive, serve: Any) -> None:
    """Hand over the packets of a body; the answer waits until all are handled."""
    packets = await _checked(session, await _body(receive))
    text = SEPARATOR.join(packets).encode()
    headers = [it for it in scope["headers"] if it[0] != b"content-length"]
    headers.append((b"content-length", str(len(text)).encode()))
    await serve({**scope, "headers": headers}, partial(_request, text))


async def _checked(session: SocketIoSession, body: bytes) -> list[str]:
    """Return the packets of a body, without binary ones."""
    try:
        packets = body.decode().split(SEPARATOR)
    except UnicodeDecodeError:
        packets = [""]
    texts = [packet for packet in packets if not packet.startswith("b")]
    if len(packets) > MAX_PACKETS or not all(map(is_transport_packet, texts)):
        session.violated("This is no body of packets.")
        raise Refused(400, "BAD_FRAME", "A body holds packets of Engine.IO.")
    for packet in packets:
        if packet.startswith("b"):
            session.connection.refuse_binary()
        if not packet.startswith(MESSAGE):
            await session.count(len(packet))
    return texts


async def _body(receive: Receive) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "BAD_FRAME", "The request was not complete.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > settings.MAX_FRAME_BYTES:
            raise Refused(413, "TOO_LARGE", f"A body has at most {settings.MAX_FRAME_BYTES} bytes.")
    return body


async def _request(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": False}


async def _while_there(receive: Receive, work: Any) -> None:
    """Answer a poll, unless the client goes: what it would have been given is lost to it."""
    polling = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({polling, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        polling.cancel()  # Engine.IO ends the session of a poll that is cancelled
        await asyncio.gather(gone, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await polling


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_last(send: Send, over: Callable[[], None], message: dict[str, Any]) -> None:
    over()  # the client may come again as soon as it has read this
    await send(message)


async def _send_with(send: Send, headers: Headers, message: dict[str, Any]) -> None:
    if message["type"] == "http.response.start":
        message = {**message, "headers": [*message["headers"], *headers]}
    await send(message)


async def _serve_websocket(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        entry = _entry_of(runtime, scope)
    except Refused:
        await receive()
        await send({"type": "websocket.close"})
        return
    await SocketIoWebSocket(entry, scope, receive, send).serve(server_of(runtime))
