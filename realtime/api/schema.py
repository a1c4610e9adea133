"""The OpenAPI document: made from the structs of bodies.py; and the page that shows it."""

from __future__ import annotations

from typing import Any

import msgspec
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from msgspec import Struct
from rest_framework.request import Request
from rest_framework.response import Response

from . import bodies, inputs, problems
from .base import ApiMixin

REFERENCE = "#/components/schemas/{name}"
POLICY = (
    # Swagger UI sets styles inline and draws its icons from data: addresses.
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PROBLEMS = {
    400: "The input is wrong: `errors` says where.",
    401: "No credential, or a wrong one.",
    403: "The account may not do that.",
    404: "There is no such thing.",
    411: "The body's length is not told.",
    405: "Not with this method.",
    406: "Answers are JSON.",
    413: "The body is too large.",
    415: "Bodies are JSON.",
    501: "This server cannot do that.",
    429: "Too many requests.",
    503: "NATS or the database does not answer: try again.",
}
RETRY_AFTER = OpenApiParameter(
    "Retry-After",
    int,
    OpenApiParameter.HEADER,
    description="Seconds until it may be tried again.",
    response=[429, 503],
)


class StructExtension(OpenApiSerializerExtension):
    """Describes a struct by the JSON schema that msgspec makes of it."""

    target_class = "msgspec.Struct"
    match_subclasses = True

    def get_name(self, auto_schema: Any, direction: str) -> str:
        """Return the name of the component."""
        return str(self.target.__name__)

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Return the schema; those that it refers to become components of their own."""
        name = self.target.__name__
        _, components = msgspec.json.schema_components([self.target], ref_template=REFERENCE)
        for other, schema in components.items():
            if other != name:
                auto_schema.registry.register_on_missing(
                    ResolvedComponent(
                        name=other,
                        type=ResolvedComponent.SCHEMA,
                        object=getattr(bodies, other, None) or getattr(inputs, other),
                        schema=_finished(other, schema),
                    )
                )
        return _finished(name, components[name])


class SchemaView(ApiMixin, SpectacularJSONAPIView):
    """The OpenAPI document, as JSON."""

    authentication_classes = ()


class DocsView(ApiMixin, SpectacularSwaggerSplitView):
    """The OpenAPI document as a page to read and to try; brings all it needs itself."""

    url_name = "api:schema"
    authentication_classes = ()

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return the page, or its script."""
        response = super().get(request, *args, **kwargs)
        response.headers["Content-Security-Policy"] = POLICY
        # The script holds the CSRF token.
        response.headers["Cache-Control"] = "no-store"
        return response


def answers(output: type[Struct] | None, *codes: int, ok: int = 200, text: str = "") -> dict:
    """Return the responses of an operation: the good one, and problems with these codes."""
    common = {401, 403, 405, 406, 429, 503}
    found: dict[Any, Any] = {ok: OpenApiResponse(output, text)}
    for code in sorted({*codes, *common}):
        found[code, problems.MEDIA_TYPE] = OpenApiResponse(problems.Problem, PROBLEMS[code])
    return found


def _finished(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of msgspec's with what it cannot say, and patterns as ECMA-262 has them."""
    schema = _ecma(schema)
    schema.update(getattr(getattr(bodies, name, None), "schema_extra", {}))
    return schema


def _ecma(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: one.replace(r"\A", "^").replace(r"\Z", "$") if key == "pattern" else _ecma(one)
            for key, one in value.items()
        }
    return [_ecma(one) for one in value] if isinstance(value, list) else value
