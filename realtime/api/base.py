"""What every view of the REST API has in common: JSON in and out, permissions, throttles, errors.

Who a request is comes from DRF's DEFAULT_AUTHENTICATION_CLASSES, which the project sets.
"""

from __future__ import annotations

from typing import Any, BinaryIO, ClassVar

import msgspec
from django.http import HttpRequest
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from ..conf import settings
from ..protocol.exceptions import AuthFailed
from . import problems
from .inputs import BodyTooLarge


class BodyParser(BaseParser):
    """Hands on the body as bytes, as far as it is allowed to be long; `read_body` decodes it."""

    media_type = "application/json"

    def parse(
        self,
        stream: BinaryIO,
        media_type: str | None = None,
        parser_context: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the body.

        Raises:
            BodyTooLarge: when it is over API_MAX_BODY_BYTES.
        """
        limit = settings.API_MAX_BODY_BYTES
        # Django's DATA_UPLOAD_MAX_MEMORY_SIZE does not hold for a body that is read as a stream.
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise BodyTooLarge(f"A body is at most {limit} bytes: send less at once.")
        return body


class StructRenderer(BaseRenderer):
    """Encodes structs as JSON."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the JSON; nothing where there is nothing to tell."""
        return b"" if data is None else msgspec.json.encode(data)


class HasPermission(BasePermission):
    """Lets those through who are logged in and hold the Django permission that the view names."""

    def has_permission(self, request: Request, view: GatewayView) -> bool:
        """Say whether they do."""
        wanted = view.permission
        self.message = f"Your account lacks the permission '{wanted}'."
        user = request.user
        return bool(user.is_authenticated and (wanted is None or user.has_perm(wanted)))


class Throttle(ScopedRateThrottle):
    """Counts the requests of a user, or else of an address, within the view's scope."""

    def get_rate(self) -> str | None:
        """Return the scope's rate from API_RATES."""
        return settings.API_RATES[self.scope]

    def get_ident(self, request: Request) -> str:
        """Return the client's address, behind a proxy as FORWARDED_HEADER says.

        DRF's own would believe any X-Forwarded-For, and so count each lie apart.
        """
        return str(request.META.get("REMOTE_ADDR", ""))


class ApiMixin:
    """What holds for every address below the API, whatever the project's own DRF settings say.

    Attributes:
        throttle_scope: a key of API_RATES.
    """

    throttle_classes = (Throttle,)
    throttle_scope = "read"
    versioning_class = None
    # Without OPTIONS, which would tell nothing that the OpenAPI document does not.
    http_method_names = ("get", "head", "post", "put", "patch", "delete")

    def get_exception_handler(self) -> Any:
        """Return the handler that makes problem details."""
        return problems.handle


class GatewayView(ApiMixin, APIView):
    """An operation of the REST API.

    Attributes:
        permission: the Django permission it needs; None: being logged in is enough.
    """

    permission: str | None = None
    parser_classes = (BodyParser,)
    renderer_classes = (StructRenderer,)
    permission_classes = (HasPermission,)

    def handle_exception(self, exc: Exception) -> Response:
        """Answer a credential that the backend denies as one that nobody knows: 401."""
        if isinstance(exc, AuthFailed):
            exc = AuthenticationFailed(exc.message)
        return super().handle_exception(exc)

    def finalize_response(
        self, request: HttpRequest, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        """Keep what one user may see out of caches."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class NothingHere(GatewayView):
    """Every other address below the API: 404, for everybody and every method."""

    authentication_classes = ()
    permission_classes = ()
    schema = None
    default_response_headers: ClassVar[dict[str, str]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Answer before the method is looked at.

        Raises:
            NotFound: always.
        """
        super().initial(request, *args, **kwargs)
        raise NotFound("There is nothing here. Every address of the API ends with a slash.")
