"""Health: does the loop turn, and can this process serve?"""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .protocol.exceptions import GatewayError
from .runtime import get_runtime


@require_safe
@never_cache
async def healthz(request: HttpRequest) -> JsonResponse:
    """Answer as long as the event loop turns."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
async def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when sockets can be served: started, NATS answers, not draining; else 503."""
    runtime = get_runtime()
    nats = True
    try:
        await runtime.broker.flush(timeout=1.0)
    except GatewayError:
        nats = False
    parts = {
        "started": runtime.started.is_set(),
        "nats": nats,
        "auth": nats and await runtime.authenticator.answers(),
        "canary": runtime.selfcheck.healthy,
        "draining": runtime.draining,
    }
    ready = all(fine != (name == "draining") for name, fine in parts.items())
    return JsonResponse(
        {"status": "ready" if ready else "unavailable", **parts}, status=200 if ready else 503
    )
