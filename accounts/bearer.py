"""DRF's authentication classes for the REST API: bearer tokens, and the session alone.

Apart from api.py, because DRF loads the classes in its settings while its views are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from realtime.protocol.exceptions import AuthFailed

from .authentication import verify_token

if TYPE_CHECKING:
    from django.contrib.auth.models import User

CHALLENGE = 'Bearer realm="api"'


class BearerAuthentication(BaseAuthentication):
    """Knows JSON Web Tokens and API tokens: `Authorization: Bearer TOKEN` (RFC 6750)."""

    def authenticate(self, request: Request) -> tuple[User, str] | None:
        """Return whose token it is, None when there is none.

        Raises:
            AuthenticationFailed: when it proves nothing.
        """
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            return verify_token(token.strip()).user, token.strip()
        except AuthFailed as exc:
            raise AuthenticationFailed(exc.message) from exc

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 asks for."""
        return CHALLENGE


class SessionOnly(SessionAuthentication):
    """Django's session, with its CSRF check; a token must not renew itself for ever."""

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 asks for, as everywhere else."""
        return CHALLENGE
