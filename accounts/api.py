"""The backend's part of the REST API: how to get a token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from django.contrib.auth import authenticate
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import extend_schema
from msgspec import Meta
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from realtime.api.base import GatewayView
from realtime.api.bodies import Input, Output
from realtime.api.inputs import read_body
from realtime.api.schema import RETRY_AFTER, answers

from .bearer import SessionOnly
from .conf import settings
from .tokens import issue_jwt

if TYPE_CHECKING:
    from django.contrib.auth.models import User

WRONG_PASSWORD = "The username or the password is wrong."


class BearerScheme(OpenApiAuthenticationExtension):
    """Describes bearer tokens in the OpenAPI document."""

    target_class = "accounts.bearer.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Return the security scheme."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A JSON Web Token from `POST /api/token/`, or an API token.",
        }


class TokenInput(Input, frozen=True):
    """Username and password; empty where a Django session says who it is."""

    username: Annotated[str, Meta(max_length=254)] = ""
    password: Annotated[str, Meta(max_length=4096)] = ""


class TokenOutput(Output, frozen=True):
    """A JSON Web Token, and when it expires (Unix seconds)."""

    token: str
    expires_at: int
    user_id: str


class CannotSign(APIException):
    """JWT_KEY is a public key."""

    status_code = 501
    default_code = "cannot_sign"
    default_detail = "This server can only verify tokens: get one where they are made."


class TokenView(GatewayView):
    """Tokens for sockets and for this API."""

    throttle_scope = "token"
    authentication_classes = (SessionOnly,)
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="token",
        summary="Get a token",
        tags=["token"],
        parameters=[RETRY_AFTER],
        request=TokenInput,
        responses=answers(TokenOutput, 400, 411, 413, 415, 501),
        auth=[{}, {"cookieAuth": []}],
    )
    def post(self, request: Request) -> Response:
        """Return a short-lived token for a username and password, or for the Django session."""
        body = read_body(request, TokenInput)
        user = _user_of(request, body)
        lifetime = settings.JWT_API_LIFETIME
        expires_at = int(time.time()) + int(lifetime)
        try:
            token = issue_jwt(user, lifetime)
        except ValueError as exc:
            raise CannotSign from exc
        return Response(TokenOutput(token, expires_at, str(user.pk)))


def _user_of(request: Request, body: TokenInput) -> User:
    if body.username or body.password:
        user = None
        # PostgreSQL raises on a NUL.
        if "\0" not in body.username:
            user = authenticate(request._request, username=body.username, password=body.password)
        if user is None:
            raise AuthenticationFailed(WRONG_PASSWORD)
        return user
    if request.user.is_authenticated:
        return request.user
    raise NotAuthenticated("Send username and password, or log in.")
