"""Reading what a request brings: the body and the query become structs, or a clear error."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from ..protocol.client_frames import MAX_REASON

Body = TypeVar("Body", bound=Struct)

_PATTERN = re.compile(r"matching regex '.*'(?= - at|$)", re.DOTALL)
_AT = re.compile(r" - at `\$(.*)`\Z", re.DOTALL)


class InputError(Struct, frozen=True):
    """One thing that is wrong with the input.

    Attributes:
        pointer: a JSON pointer (RFC 6901) into the body.
        parameter: the name of a parameter or header.
    """

    detail: str
    pointer: str | UnsetType = UNSET
    parameter: str | UnsetType = UNSET


class InvalidInput(APIException):
    """The request's body or query is not what the operation takes."""

    status_code = 400
    default_code = "invalid"

    def __init__(self, error: InputError) -> None:
        super().__init__(error.detail)
        self.errors = [error]


class BodyTooLarge(APIException):
    """The request's body is over the limit."""

    status_code = 413
    default_code = "too_large"


class LengthRequired(APIException):
    """The body comes in chunks, which DRF takes for no body at all."""

    status_code = 411
    default_code = "length_required"
    default_detail = "Send the body with a Content-Length, not in chunks."


def read_body(request: Request, kind: type[Body]) -> Body:
    """Return the request's body; an empty one counts as `{}`.

    Raises:
        InvalidInput: when it is no JSON, or not of that kind.
        LengthRequired: when its length is not told.
    """
    if "CONTENT_LENGTH" not in request.META and "HTTP_TRANSFER_ENCODING" in request.META:
        raise LengthRequired
    try:
        return msgspec.json.decode(request.data or b"{}", type=kind)
    except RecursionError as exc:
        raise InvalidInput(InputError("The JSON is nested too deeply.", "#")) from exc
    except (msgspec.DecodeError, UnicodeError) as exc:
        detail, where = _complaint(exc)
        pointer = re.sub(r"\.|\[(\d+)\]", lambda found: f"/{found.group(1) or ''}", where)
        raise InvalidInput(InputError(detail, f"#{pointer}")) from exc


def read_query(request: Request, kind: type[Body]) -> Body:
    """Return the request's query.

    Raises:
        InvalidInput: when a parameter is wrong.
    """
    try:
        return msgspec.convert(request.query_params.dict(), kind, strict=False)
    except msgspec.ValidationError as exc:
        detail, where = _complaint(exc)
        raise InvalidInput(InputError(detail, parameter=where[1:])) from exc


def _complaint(exc: Exception) -> tuple[str, str]:
    """Return a parser's complaint as a sentence, and where it stopped (`.events[0].data`)."""
    reason = _PATTERN.sub("of the allowed characters", str(exc))
    at = _AT.search(reason)
    detail = (reason[: at.start()] if at else reason).replace("`", "'")[:MAX_REASON]
    return f"{detail.rstrip('.')}.", at.group(1) if at else ""
