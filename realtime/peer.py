"""Peer: what the upgrade request told about the other side of a connection."""

from __future__ import annotations

from msgspec import Struct

from .protocol.messages import AuthRequest


class Peer(Struct, frozen=True):
    """Who is there, before anybody said who it is.

    Attributes:
        transport: by which way it comes.
    """

    ip: str
    user_agent: str | None
    origin: str | None
    session_key: str | None
    transport: str = "websocket"

    def question(self, token: str | None) -> AuthRequest:
        """Return what the backend is asked: whose token this is, without one whose log-in."""
        return AuthRequest(
            token=token,
            session_key=None if token is not None else self.session_key,
            origin=self.origin,
            ip=self.ip,
            user_agent=self.user_agent,
        )
