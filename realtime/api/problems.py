"""Errors of the REST API: problem details (RFC 9457), whatever goes wrong."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

import msgspec
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.log import log_response
from django.views import defaults
from msgspec import UNSET, Struct, UnsetType
from rest_framework.exceptions import APIException, NotFound, PermissionDenied
from rest_framework.response import Response
from rest_framework.views import set_rollback

from ..protocol.exceptions import ErrorCode, GatewayError
from .inputs import InputError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 2
"""Seconds after which to try again what failed for want of NATS or the database."""

STATUS = {
    ErrorCode.AUTH_FAILED: 401,
    ErrorCode.AUTH_UNAVAILABLE: 503,
    ErrorCode.ACL_DENIED: 403,
    ErrorCode.BAD_TOPIC: 404,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.NO_RESPONDER: 503,
    ErrorCode.TIMEOUT: 503,
    ErrorCode.UNAVAILABLE: 503,
}
"""The HTTP status of an error of the gateway; the others are 500. A topic is part of an address."""


class Problem(Struct, frozen=True):
    """What went wrong. `code` is for programs, `detail` for people; `errors` name the input."""

    title: str
    status: int
    detail: str
    code: str
    type: str = "about:blank"
    errors: list[InputError] | UnsetType = UNSET


class ProblemResponse(Response):
    """Problem details are JSON, whatever the view or the client would have."""

    @property
    def rendered_content(self) -> bytes:
        """Return the JSON."""
        self["Content-Type"] = MEDIA_TYPE
        return msgspec.json.encode(self.data)


def handle(exc: Exception, context: dict[str, Any]) -> Response:
    """Return the problem details of whatever a view raised; DRF's exception handler."""
    set_rollback()
    problem = _problem_of(exc)
    headers: dict[str, str] = {}
    if challenge := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if problem.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER)
    elif wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(math.ceil(wait))
    response = ProblemResponse(problem, problem.status, headers=headers)
    if problem.code == ErrorCode.INTERNAL:
        request = context["request"]._request
        # With its traceback, for mail to administrators and error trackers.
        log_response(
            "%s: %s",
            problem.title,
            request.path,
            response=response,
            request=request,
            exception=exc,
        )
    return response


def problem_for(status: int, detail: str, code: str) -> Problem:
    """Return a problem whose title is that of its HTTP status."""
    return Problem(HTTPStatus(status).phrase, status, detail, code)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django refuses before any view (a wrong Host): Django's `handler400`."""
    if not _below_api(request):
        return defaults.bad_request(request, exception)
    return _plain(problem_for(400, "The request is malformed.", "BAD_REQUEST"))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer what fails outside of any view: Django's `handler500`."""
    if not _below_api(request):
        return defaults.server_error(request)
    return _plain(problem_for(500, "Something went wrong here.", ErrorCode.INTERNAL))


def _problem_of(exc: Exception) -> Problem:
    if isinstance(exc, Http404):
        exc = NotFound()
    elif isinstance(exc, DjangoPermissionDenied):
        exc = PermissionDenied()
    if isinstance(exc, APIException):
        return _of_api_exception(exc)
    if isinstance(exc, GatewayError):
        return problem_for(STATUS.get(exc.code, 500), exc.message, exc.code)
    if isinstance(exc, OperationalError | InterfaceError):
        logger.error("database away reason=%s", exc)
        return problem_for(503, "The database does not answer; try again.", ErrorCode.UNAVAILABLE)
    return problem_for(500, "Something went wrong here.", ErrorCode.INTERNAL)


def _of_api_exception(exc: APIException) -> Problem:
    codes = exc.get_codes()
    code = codes if isinstance(codes, str) else exc.default_code
    detail = exc.detail if isinstance(exc.detail, str) else str(exc)
    problem = problem_for(exc.status_code, str(detail), str(code).upper())
    errors = getattr(exc, "errors", UNSET)
    return problem if errors is UNSET else msgspec.structs.replace(problem, errors=errors)


def _below_api(request: HttpRequest) -> bool:
    try:
        return request.path.startswith(reverse("api:root"))
    except NoReverseMatch:
        return False


def _plain(problem: Problem) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(problem), MEDIA_TYPE, status=problem.status)
