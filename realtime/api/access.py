"""Who a request is to the gateway: the backend is asked over NATS, just as for a socket.

So the API knows no rules of its own, and works with any backend: one question on the auth
subject, with the request's token or session key, brings the rules that a socket would have.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rest_framework.authentication import get_authorization_header
from rest_framework.request import Request

from .. import link
from ..authentication import Authenticator
from ..broker import Broker
from ..conf import settings
from ..control import Control
from ..holders import Holders
from ..metrics import Metrics
from ..protocol.exceptions import AclDenied, AuthFailed
from ..protocol.messages import AuthRequest, Identity
from ..protocol.rules import Action
from ..protocol.subjects import Subjects

Result = TypeVar("Result")
Work = Callable[[Broker], Awaitable[Result]]

GRACE = 0.5
"""Seconds beyond API_TIMEOUT for work that watches the time itself."""


def run(work: Work[Result], *, grace: float = 0.0) -> Result:
    """Run `work` with a connected broker, within API_TIMEOUT.

    Raises:
        Unavailable: when it takes longer, or NATS is away; and what `work` raises.
    """
    return link.run(work, settings.API_TIMEOUT + grace)


def run_allowed(request: Request, action: Action, topic: str, work: Work[Result]) -> Result:
    """Run `work` when the user may do `action` on `topic`.

    Raises:
        BadTopic: when the topic is malformed or not open to clients.
        AclDenied: no rule allows it, or one denies it.
        AuthFailed: the backend does not know the credential (any more).
        AuthUnavailable: it does not answer.
        Unavailable: as for `run`.
    """
    settings.require_topic(action, topic)
    question, user_id = question_of(request), str(request.user.pk)

    async def checked(broker: Broker) -> Result:
        identity = await ask(broker, question)
        if identity.user_id != user_id:
            raise AclDenied("The backend knows this credential as another user's.")
        identity.rules.require(action, topic)
        return await work(broker)

    return run(checked)


def asker(broker: Broker) -> Control:
    """Return a control that only asks the gateways: it has no sockets, and is never started."""
    return Control(broker, Subjects(settings.PREFIX), {}, Holders())


async def ask(broker: Broker, question: AuthRequest) -> Identity:
    """Return who the backend says it is.

    Raises:
        AuthFailed: it denied the credential, or its time is over.
        AuthUnavailable: no usable answer: never a pass.
    """
    # Its counts go nowhere: those of the sockets are another process's.
    subject = Subjects(settings.PREFIX).auth
    authenticator = Authenticator(
        broker, subject, settings.AUTH_TIMEOUT, Metrics(), settings.channel_rules()
    )
    identity = await authenticator.authenticate(question)
    if identity.expires_at is not None and identity.expires_at <= time.time():
        raise AuthFailed("The credential has expired.")
    return identity


def question_of(request: Request) -> AuthRequest:
    """Return the question about a request's credential: its token, else its Django session."""
    scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    session = getattr(request, "session", None)
    agent = request.headers.get("User-Agent")
    return AuthRequest(
        token=bearer,
        session_key=session.session_key if session is not None and bearer is None else None,
        origin=request.headers.get("Origin"),
        ip=request.META.get("REMOTE_ADDR", ""),
        user_agent=agent[:256] if agent else None,
    )
