"""Authorization: who the client of a connection is and what they may, as the backend says it.

`connect` asks first. What was answered holds until it expires, `refresh` brings a new credential,
or something changes and the backend is asked again (reauthorization.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from weakref import proxy

from . import lifecycle
from .delivery import Socket
from .peer import Peer
from .protocol.client_frames import Connect, Refresh, resume_for
from .protocol.exceptions import AuthFailed, CloseCode, GatewayError
from .protocol.gateway_frames import Expiring, Ready, error_for, whole
from .protocol.limits import RateLimit
from .protocol.messages import AuthRequest, Identity
from .protocol.session import Session, Ticket, sign_ticket
from .reauthorization import Reauthorization
from .services import Send, Services
from .subscriptions import Subscriptions
from .timers import Timer

logger = logging.getLogger(__name__)

CONNECT_TRIES = 3
"""Times the backend is asked about a new socket while its rules keep changing."""

suspensions = RateLimit(rate=1.0, burst=5)
"""Suspended sessions that may be logged: a slow backend suspends many at once."""


class Client(Protocol):
    """The connection whose client it is.

    Attributes:
        closed: done when the socket is gone.
    """

    id: str
    peer: Peer
    session: Session
    closed: asyncio.Future[None]

    def enter(self) -> None:
        """Count among the connections of its user."""

    def refuse(self, code: str, reason: str, user_id: str | None = None) -> None:
        """Log that the connection may not be."""


class Authorization:
    """What the backend said of one connection's client, and whether it still holds.

    Args:
        client: not kept alive by this.
        send: writes a frame to the client.
        spawn: runs a coroutine as a task.
    """

    __slots__ = (
        "__weakref__",
        "_client",
        "_reauthorization",
        "_send",
        "_services",
        "_session",
        "_socket",
        "_subscriptions",
        "_timer",
        "_token",
    )

    def __init__(
        self,
        client: Client,
        services: Services,
        subscriptions: Subscriptions,
        socket: Socket,
        *,
        send: Send,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._client = client
        self._services = services
        self._session = client.session
        self._subscriptions = subscriptions
        self._socket = socket
        self._send = send
        self._token: str | None = None
        self._reauthorization = Reauthorization(proxy(self), spawn)
        self._timer = Timer()
        self._timer.after(services.options.auth_deadline, self._too_late)

    def close(self) -> None:
        """Let go of everything: the socket is gone."""
        self._timer.cancel()
        self._reauthorization.close()

    def loggable(self, reason: str) -> str:
        """Return a reason, unless it repeats the credential."""
        return lifecycle.without_credential(reason, self._question())

    async def connect(self, frame: Connect) -> None:
        """Ask who it is, then open the session, with what the backend grants unasked.

        Raises:
            GatewayError: when it may not be, or nobody says so.
        """
        self._token = frame.token
        try:
            if frame.token is None and self._client.peer.session_key is None:
                raise AuthFailed("Send a token with 'connect', or log in on this site first.")
            identity = await self._authenticate_now()
        except GatewayError as exc:
            self._client.refuse(exc.code, exc.message)
            raise
        if self._client.closed.done() or not self._enter(identity):
            return
        granted = await self._subscriptions.join_granted()
        self._send(self._ready(frame.id, [feed.topic for feed in granted]))
        resume = resume_for(frame)
        try:
            if resume is not None:
                await self._subscriptions.resume(resume)
        finally:
            for feed in granted:
                self._subscriptions.enter_granted(feed)

    async def refresh(self, frame: Refresh) -> None:
        """Take a new token for the open session, when the backend takes it."""
        # One question at a time: an older answer must not undo a newer one, nor a question be
        # asked with a token that may be refused.
        async with self._reauthorization.asking:
            await self._refresh(frame)

    def ask_soon(self, spread: float, *, urgent: bool = True) -> None:
        """Ask the backend again within `spread` seconds, so that many do not ask at once.

        Args:
            urgent: something changed: suspend the session when the answer is overdue.
        """
        self._reauthorization.soon(spread, urgent=urgent)

    async def authenticate_again(self) -> Identity:
        """Return who the backend says it is by now."""
        authenticator = self._services.authenticator
        return _unexpired(await authenticator.authenticate_again(self._question()))

    async def become(self, identity: Identity) -> None:
        """Take new rules and a new expiry; leave what is no longer allowed."""
        if self._client.closed.done():
            return
        if identity.user_id != self._session.identity.user_id:
            self.disconnect("another user")
            return
        self._session.authenticate(identity)
        self._expire_at(identity.expires_at)
        self._subscriptions.revoke_denied()
        if self._session.suspended and not self._reauthorization.overdue:
            self._session.suspended = False
            self._subscriptions.go_on()
        for feed in await self._subscriptions.join_granted():
            self._subscriptions.enter_granted(feed)

    def suspend(self) -> None:
        """Deliver and take nothing until the backend has said what the session still may."""
        self._session.suspended = True
        self._subscriptions.pause()
        if suspensions.allows(asyncio.get_running_loop().time()):
            user_id = self._session.identity.user_id
            logger.warning(
                "suspended session=%s user=%s reason=no answer", self._client.id, user_id
            )

    def disconnect(self, reason: str) -> None:
        """End the session for good: kicked, deactivated, logged out."""
        self._socket.close(CloseCode.REVOKED, reason)

    def send_away(self) -> None:
        """End the session for now: the backend does not say what it may."""
        self._socket.close(CloseCode.AUTH_UNAVAILABLE, "the backend does not answer")

    def _enter(self, identity: Identity) -> bool:
        """Open the session, unless its user has as many as one may; then close the socket."""
        client, session = self._client, self._session
        mine = self._services.connections.get(identity.user_id, set())
        if not self._services.admission.room_for(len(mine)):
            reason = "too many connections of this user"
            client.refuse(CloseCode.TOO_MANY_CONNECTIONS.name, reason, identity.user_id)
            self._socket.close(CloseCode.TOO_MANY_CONNECTIONS, reason)
            return False
        sibling = next(iter(mine), None)
        session.share_meter(sibling and sibling.session, now=asyncio.get_running_loop().time())
        session.authenticate(identity)
        client.enter()
        self._expire_at(identity.expires_at)
        lifecycle.authenticated(client.id, identity.user_id, client.peer.ip)
        return True

    async def _authenticate_now(self) -> Identity:
        """Return who it is, by an answer that no change of rules or credentials overtook."""
        for _ in range(CONNECT_TRIES):
            changes = self._services.changes()
            identity = await self._authenticate()
            if changes == self._services.changes():
                return identity
        # It changes faster than the backend answers: ask again once control messages get here.
        self.ask_soon(0)
        return identity

    async def _authenticate(self) -> Identity:
        return _unexpired(await self._services.authenticator.authenticate(self._question()))

    def _question(self) -> AuthRequest:
        return self._client.peer.question(self._token)

    def _ready(self, frame_id: str | int | None, subscriptions: list[str]) -> Ready:
        identity, epoch = self._session.identity, self._services.fanout.epoch
        ticket = Ticket(identity.user_id, epoch, int(time.time()), self._client.id)
        return Ready(
            id=frame_id,
            session_id=sign_ticket(ticket, self._services.options.session_key),
            user_id=identity.user_id,
            expires_at=None if identity.expires_at is None else whole(identity.expires_at),
            heartbeat=whole(self._services.options.heartbeat),
            epoch=epoch,
            subscriptions=subscriptions,
        )

    async def _refresh(self, frame: Refresh) -> None:
        before, self._token = self._token, frame.token
        try:
            identity = await self._authenticate()
            if identity.user_id != self._session.identity.user_id:
                raise AuthFailed("This token is another user's.")
        except GatewayError as exc:
            # The session goes on with what it had, until that expires.
            self._token = before
            self._send(error_for(exc, frame.id))
            return
        await self.become(identity)
        self._send(self._ready(frame.id, sorted(self._session.topics)))

    def _too_late(self) -> None:
        self._socket.close(CloseCode.AUTH_DEADLINE, "no 'connect' in time")

    def _expire_at(self, expires_at: float | None) -> None:
        """Run one timer: first to the notice, then to the end."""
        self._timer.cancel()
        if expires_at is not None:
            left = expires_at - time.time()
            notice = expires_at - min(self._services.options.expiry_notice, left / 2)
            self._timer.at(notice, lambda: self._notify_expiry(expires_at))

    def _notify_expiry(self, expires_at: float) -> None:
        self._send(Expiring(expires_at=whole(expires_at)))
        self._timer.at(expires_at, self._expire)

    def _expire(self) -> None:
        self._socket.close(CloseCode.TOKEN_EXPIRED, "the token expired")


def _unexpired(identity: Identity) -> Identity:
    """Return an identity whose credential is still good, whatever the backend thinks of it.

    Raises:
        AuthFailed: when its time is over.
    """
    if identity.expires_at is not None and identity.expires_at <= time.time():
        raise AuthFailed("This credential has expired; get a new one.")
    return identity
