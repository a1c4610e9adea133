"""Server-sent events: `GET /sse/?topic=…`, for places where WebSockets do not pass.

A connection like any other, whose socket writes an event stream. So authentication, rules,
fan-out, resuming and revocation are those of WebSockets; the other direction is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec
from channels.consumer import AsyncConsumer

from . import lifecycle
from .conf import settings
from .connection import Connection
from .consumers import header_of, peer_of, until_started
from .event_socket import EventSocket
from .peer import Peer
from .protocol.event_stream import Cursor
from .protocol.exceptions import BadFrame, CloseCode, ErrorCode
from .protocol.origins import origin_allowed
from .runtime import Runtime, get_runtime

logger = logging.getLogger(__name__)

REQUEST = "gateway.request"
"""The key in `scope["extensions"]` under which our server offers Twisted's request."""
PROOF = b"x-requested-with"
"""A header that no page of another site can send without being asked first (CORS)."""

_STATUS = {
    ErrorCode.AUTH_FAILED: 401,
    ErrorCode.ACL_DENIED: 403,
    ErrorCode.BAD_TOPIC: 400,
    ErrorCode.BAD_FRAME: 400,
    ErrorCode.TOO_MANY_SUBSCRIPTIONS: 400,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.AUTH_UNAVAILABLE: 503,
    ErrorCode.UNAVAILABLE: 503,
}
Scope = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Headers = list[tuple[bytes, bytes]]


class Exchange(NamedTuple):
    """One request, and the way to answer it.

    Attributes:
        cors: headers that every answer to it has.
    """

    scope: Scope
    receive: Receive
    send: Send
    cors: Headers


class Refused(Exception):
    """The stream does not begin; the answer is an HTTP status and a JSON body.

    Args:
        code: one of ours, or a number of Engine.IO's.
    """

    def __init__(self, status: int, code: str | int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"code": code, "message": message}


class EventStreamConsumer(AsyncConsumer):  # type: ignore[misc]
    """One event stream, from request to end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream."""
        cors = cors_headers(scope)
        if scope["method"] == "OPTIONS":
            await respond(send, 204, [*cors, *_PREFLIGHT])
            return
        try:
            await self._serve(scope, receive, send, cors)
        except Refused as exc:
            body = msgspec.json.encode(exc.body)
            await respond(send, exc.status, [*cors, (b"content-type", b"application/json")], body)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, cors: Headers) -> None:
        if scope["method"] != "GET":
            raise Refused(405, "BAD_FRAME", "Streams are asked for with GET.")
        peer = peer_of(scope, proven=same_site(scope), transport="sse")
        if peer is None:
            raise Refused(403, "AUTH_FAILED", "This page may not use your login here.")
        runtime = get_runtime()
        _admit(runtime, peer)
        try:
            await _stream(Exchange(scope, receive, send, cors), runtime, peer)
        finally:
            runtime.admission.leave(peer.ip)


def _admit(runtime: Runtime, peer: Peer) -> None:
    """Count a stream.

    Raises:
        Refused: when it is one too many, or this process ends.
    """
    refused = None
    if runtime.draining:
        refused = Refused(503, "UNAVAILABLE", "This process ends: come back in a moment.")
    elif (limit := runtime.admission.enter(peer.ip)) is not None:
        status = 503 if limit == "total" else 429
        refused = Refused(status, "TOO_MANY_CONNECTIONS", "Too many connections are open.")
    if refused is not None:
        lifecycle.refused(peer.ip, refused.body["code"], refused.body["message"])
        raise refused


_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET"),
    (b"access-control-allow-headers", b"authorization, last-event-id, " + PROOF),
    (b"access-control-max-age", b"600"),
]


async def _stream(exchange: Exchange, runtime: Runtime, peer: Peer) -> None:
    scope, receive, send, cors = exchange
    cursor = _cursor_of(scope)
    await until_started(runtime)
    request = scope.get("extensions", {}).get(REQUEST)
    socket = EventSocket(cursor, runtime.metrics, settings.MAX_BUFFER)
    connection = Connection(runtime.services, socket, peer)
    try:
        await _open(connection, socket, cursor, _token_of(scope))
        await send(_start(cors))
        if request is not None:
            request.registerProducer(socket, True)
        await _until_either(socket.pump(send, settings.HEARTBEAT), _gone(receive))
    except Refused as exc:
        if socket.ending is None:
            # Who it is was known by then, so nobody has told of the refusal yet.
            connection.refuse(exc.body["code"], exc.body["message"])
            socket.ending = (exc.status, exc.body["code"])
        raise
    finally:
        connection.close()
        socket.stop()
    if request is not None and request.channel is not None:
        request.unregisterProducer()
        if socket.stuck:
            # What waits would be kept for a reader who does not read.
            request.channel.transport.abortConnection()
    with contextlib.suppress(Exception):
        await send({"type": "http.response.body", "body": b""})


async def _open(
    connection: Connection, socket: EventSocket, cursor: Cursor, token: str | None
) -> None:
    """Connect, and join the topics from their positions.

    Raises:
        Refused: when that failed, or nothing could be joined.
    """
    await connection.receive(_frame(type="connect", token=token))
    if socket.ending is not None:
        raise _refusal(socket)
    for topic, since in cursor.positions.items():
        frame: dict[str, Any] = {"type": "subscribe", "topic": topic}
        if since is not None:
            frame |= {"since": since} | ({"epoch": cursor.epoch} if cursor.epoch else {})
        await connection.receive(_frame(**frame))
    if socket.ending is not None or (cursor.positions and not connection.topics):
        raise _refusal(socket)


def _refusal(socket: EventSocket) -> Refused:
    if socket.errors:
        code, message = socket.errors[0]
        return Refused(_STATUS.get(ErrorCode(code), 500), code, message)
    ended, reason = socket.ending or (CloseCode.GOING_AWAY, "")
    status = 429 if ended == CloseCode.TOO_MANY_CONNECTIONS else 503
    return Refused(status, CloseCode(ended).name, reason)


def _frame(**fields: Any) -> bytes:
    return msgspec.json.encode({name: it for name, it in fields.items() if it is not None})


def _cursor_of(scope: Scope) -> Cursor:
    """Return the topics of a request, and where they go on."""
    # An empty topic is a wrong one: left out, the stream would stay silent.
    query = parse_qs(
        scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=1000
    )
    topics = list(dict.fromkeys(query.get("topic", [])))
    if len(topics) > settings.MAX_SUBSCRIPTIONS:
        raise Refused(
            400, "TOO_MANY_SUBSCRIPTIONS", f"A stream has at most {settings.MAX_SUBSCRIPTIONS}."
        )
    # A browser that comes back by itself says it in the header, with the same address.
    event_id = header_of(scope, b"last-event-id") or query.get("since", [""])[0]
    try:
        return Cursor(topics, event_id if topics else "")
    except BadFrame as exc:
        raise Refused(400, "BAD_FRAME", exc.message) from exc


def _token_of(scope: Scope) -> str | None:
    scheme, _, token = (header_of(scope, b"authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def same_site(scope: Scope) -> bool:
    """Say whether a request without an Origin comes from a page of this site.

    Browsers send none with a GET to their own site. Sec-Fetch-Site says so on https and
    localhost; elsewhere a header of its own does, which other sites cannot add.
    """
    if header_of(scope, b"origin") is not None:
        return False
    site = header_of(scope, b"sec-fetch-site")
    return site == "same-origin" or (site is None and header_of(scope, PROOF) is not None)


def cors_headers(scope: Scope) -> Headers:
    """Return the headers with which pages of allowed origins may read the answer."""
    origin = header_of(scope, b"origin")
    vary = [(b"vary", b"origin")]
    if origin is None or not origin_allowed(
        origin, host=None, secure=False, allowed=settings.ALLOWED_ORIGINS
    ):
        return vary
    return [
        *vary,
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
    ]


def _start(cors: Headers) -> dict[str, Any]:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        # nginx would gather events otherwise.
        (b"x-accel-buffering", b"no"),
        *cors,
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def respond(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Answer a request at once."""
    length = [(b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": headers + length}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _gone(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_either(*works: Any) -> None:
    """Do both until one of them ends."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        if (error := task.exception()) is not None:
            logger.debug("stream ended reason=%r", error)
