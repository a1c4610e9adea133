"""A session: one authenticated socket's state, and the checks on what it asks for.

Pure: time comes in as an argument, in seconds of any steady clock, where it matters.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection

import msgspec
from msgspec import Struct

from .client_frames import Connect
from .exceptions import (
    AuthRequired,
    BadFrame,
    NotSubscribed,
    RateLimited,
    SessionExpired,
    TooLarge,
    TooManySubscriptions,
    Unavailable,
)
from .limits import Meter, Rates
from .messages import Identity
from .rules import Action
from .subjects import STATS, is_local, is_pattern, parse_subscription, parse_topic


class Limits(Struct, frozen=True):
    """What one socket may ask for. Sizes in bytes.

    Attributes:
        open_topics: leading tokens of topics to subscribe and publish to.
        request_topics: leading tokens of topics for `request`: nothing is relayed from them.
        inbound: event channels to subscribe to, by their whole names.
        outbound: event channels to publish and request on.
        max_patterns: of the subscriptions, those that are patterns: each is read for itself.
        user_rates: what all sockets of a user in one process may send together.
    """

    open_topics: frozenset[str]
    request_topics: frozenset[str]
    max_subscriptions: int
    max_patterns: int
    max_payload: int
    rates: Rates
    user_rates: Rates
    inbound: frozenset[str] = frozenset()
    outbound: frozenset[str] = frozenset()


class Ticket(Struct, frozen=True, array_like=True):
    """What a `sessionId` says, signed: whose it is, of which stream, since when (Unix s)."""

    user_id: str
    epoch: str
    issued: int
    nonce: str


_decode_ticket = msgspec.json.Decoder(Ticket).decode


def sign_ticket(ticket: Ticket, key: bytes) -> str:
    """Return the `sessionId` of a ticket."""
    body = msgspec.json.encode(ticket)
    signature = hmac.digest(key, body, hashlib.sha256)[:16]
    return base64.urlsafe_b64encode(signature + body).rstrip(b"=").decode()


def read_ticket(session_id: str, key: bytes, *, now: float, max_age: float) -> Ticket:
    """Return the ticket in a `sessionId`.

    Args:
        now: Unix seconds.
        max_age: seconds after which it counts no more.

    Raises:
        SessionExpired: when it is forged, damaged or too old.
    """
    try:
        raw = base64.urlsafe_b64decode(session_id.encode() + b"=" * (-len(session_id) % 4))
        signature, body = raw[:16], raw[16:]
        if hmac.compare_digest(signature, hmac.digest(key, body, hashlib.sha256)[:16]):
            ticket = _decode_ticket(body)
            if now - ticket.issued <= max_age:
                return ticket
    except (binascii.Error, msgspec.DecodeError, ValueError):
        pass
    raise SessionExpired("This sessionId is not valid any more: subscribe anew.")


class Session:
    """What a socket is and holds: nobody before `connect`, then one user until it closes.

    Attributes:
        suspended: what it may is being asked and unknown until then: it may nothing.
        user_meter: shared with the other sessions of the user in this process.
    """

    __slots__ = ("_identity", "_limits", "_meter", "suspended", "topics", "user_meter")

    def __init__(self, limits: Limits, *, now: float) -> None:
        self._limits = limits
        self._identity: Identity | None = None
        self._meter = Meter(limits.rates, "This socket", now=now)
        self.user_meter: Meter | None = None
        self.suspended = False
        self.topics: set[str] = set()

    @property
    def identity(self) -> Identity:
        """Who it is.

        Raises:
            AuthRequired: before `connect` succeeded.
        """
        if self._identity is None:
            raise AuthRequired("Send a 'connect' frame first.")
        return self._identity

    @property
    def authenticated(self) -> bool:
        """Say whether `connect` succeeded."""
        return self._identity is not None

    def authenticate(self, identity: Identity) -> None:
        """Become (or stay, with new rules and a new expiry) that user."""
        self._identity = identity

    def share_meter(self, other: Session | None, *, now: float) -> None:
        """Count together with another session of this user, if there is one."""
        meter = other.user_meter if other is not None else None
        self.user_meter = meter or Meter(self._limits.user_rates, "This user", now=now)

    def over_rate(self, size: int, *, now: float) -> RateLimited | None:
        """Count a frame of `size` bytes; return the error if it is one too many."""
        error = self._meter.check(size, now=now)
        if error is None and self.user_meter is not None:
            error = self.user_meter.check(size, now=now)
        return error

    def admit(self, frame: object) -> None:
        """Return when this frame may come now.

        Raises:
            AuthRequired: anything before `connect`.
            BadFrame: a second `connect`.
        """
        if isinstance(frame, Connect):
            if self._identity is not None:
                raise BadFrame("This socket is connected already; use 'refresh' for a new token.")
        elif self._identity is None:
            raise AuthRequired("Send a 'connect' frame first.")

    def check_topic(self, action: Action, topic: str) -> None:
        """Return when the session may do that there.

        Raises:
            BadTopic: malformed or not open to clients.
            Unavailable: what the session may is being asked.
            AclDenied: no rule allows it, or one denies it.
        """
        limits = self._limits
        space = limits.request_topics if action == "request" else limits.open_topics
        channels = limits.inbound if action == "subscribe" else limits.outbound
        # What processes tell of themselves is not for a setting to open, but for a rule.
        stats = action == "subscribe" and is_local(topic)
        parse_topic(topic, {STATS} if stats else space, channels)
        self._require(action, topic)

    def check_subscription(self, topic: str) -> None:
        """Return when the session may subscribe to a topic, or to a whole pattern.

        Raises:
            BadTopic: malformed or not open to clients.
            Unavailable: what the session may is being asked.
            AclDenied: no rule allows all of it, or one denies a part.
        """
        if is_local(topic):
            parse_topic(topic, {STATS})
        else:
            parse_subscription(topic, self._limits.open_topics, self._limits.inbound)
        self._require("subscribe", topic)

    def check_room(self, topic: str) -> None:
        """Return when one more topic, or one more pattern, may be held.

        Raises:
            TooManySubscriptions: otherwise.
        """
        if is_pattern(topic) and sum(map(is_pattern, self.topics)) >= self._limits.max_patterns:
            raise TooManySubscriptions(
                f"A socket holds at most {self._limits.max_patterns} patterns:"
                " unsubscribe from one first."
            )
        if len(self.topics) >= self._limits.max_subscriptions:
            raise TooManySubscriptions(
                f"A socket holds at most {self._limits.max_subscriptions} topics:"
                " unsubscribe from one first."
            )

    def check_held(self, topic: str) -> None:
        """Return when the session holds the topic.

        Raises:
            NotSubscribed: otherwise.
        """
        if topic not in self.topics:
            raise NotSubscribed(f"This socket does not hold '{topic}'.", topic=topic)

    def check_payload(self, payload: Collection[int]) -> None:
        """Return when the payload is not too large.

        Raises:
            TooLarge: otherwise.
        """
        if len(payload) > self._limits.max_payload:
            raise TooLarge(
                f"A payload is at most {self._limits.max_payload} bytes; this one has"
                f" {len(payload)}."
            )

    def _require(self, action: Action, topic: str) -> None:
        if self.suspended:
            raise Unavailable("What you may do is being checked; try again in a moment.")
        self.identity.rules.require(action, topic)
