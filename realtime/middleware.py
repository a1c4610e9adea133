"""A strict Content-Security-Policy for the gateway's own pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase

HEADER = "Content-Security-Policy"
# Pages of others bring scripts and styles of their own: the admin, Swagger UI.
FOREIGN_NAMESPACES = frozenset({"admin", "api"})


class ContentSecurityPolicyMiddleware:
    """Adds the policy to HTML responses that are not of a foreign namespace and have none."""

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle a request, in either of Django's two ways."""
        response = self.get_response(request)
        if self._async:
            return self._later(request, response)  # type: ignore[arg-type]
        return _protected(request, response)  # type: ignore[arg-type]

    async def _later(
        self, request: HttpRequest, response: Awaitable[HttpResponseBase]
    ) -> HttpResponseBase:
        return _protected(request, await response)


def policy_for(request: HttpRequest) -> str:
    """Return the policy: everything from this host, and WebSockets to it.

    The WebSocket origins are named because `'self'` does not cover them in every browser
    (https://github.com/w3c/webappsec-csp/issues/7). Both schemes, because a proxy that ends TLS
    need not say so.
    """
    try:
        host = request.get_host()
    except DisallowedHost:
        sockets = ""
    else:
        sockets = f" ws://{host} wss://{host}"
    return (
        f"default-src 'self'; connect-src 'self'{sockets}; object-src 'none'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    )


def _protected(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    match = request.resolver_match
    foreign = match is not None and not FOREIGN_NAMESPACES.isdisjoint(match.namespaces)
    # Django's technical error pages are styled inline.
    technical = settings.DEBUG and response.status_code in {404, 500}
    html = response.get("Content-Type", "").startswith("text/html")
    if html and not (foreign or technical):
        response.headers.setdefault(HEADER, policy_for(request))
    return response
