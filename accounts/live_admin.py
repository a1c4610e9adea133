"""The live page in admin: what the gateway holds now, for staff who may see it.

The page subscribes by itself to what the processes tell of themselves (realtime.watch); here is
what it needs besides: the page, the id behind a user's name, and disconnecting.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST, require_safe

from realtime.middleware import HEADER, policy_for
from realtime.protocol.exceptions import GatewayError
from realtime.watch import NEWEST_TOPIC, USER_TOPICS

from .access import may_watch
from .kick import kick
from .management.users import find_user, user_by_id

DISCONNECT = "realtime.disconnect_user"
REASON = "disconnected by an administrator"


class LiveAdmin(admin.ModelAdmin):
    """No list of objects: the one page about the gateway."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show it in the index to those who may see it."""
        return may_watch(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let those see it who hold the permission."""
        return may_watch(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There is nothing to add."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There is nothing to change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There is nothing to delete."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Serve the page where a list would be, and what it asks for below it."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(require_safe(self.live_view)), name="realtime_gateway_changelist"),
            path("user/", wrap(require_safe(self.user_view)), name="realtime_gateway_user"),
            path(
                "disconnect/",
                wrap(require_POST(self.disconnect_view)),
                name="realtime_gateway_disconnect",
            ),
        ]

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """Show the page; figures and connections come over the gateway."""
        self._require(request)
        context = {
            **self.admin_site.each_context(request),
            "title": "Live gateway",
            "opts": self.opts,
            "page": {
                "newestTopic": NEWEST_TOPIC,
                "userTopics": USER_TOPICS,
                "userUrl": reverse("admin:realtime_gateway_user"),
                "disconnectUrl": reverse("admin:realtime_gateway_disconnect"),
                "loginUrl": f"{reverse('admin:login')}?next={request.path}",
                "mayDisconnect": request.user.has_perm(DISCONNECT),
            },
        }
        response = TemplateResponse(request, "admin/realtime/gateway/live.html", context)
        # The rest of the admin goes without: its other pages may bring what the policy forbids.
        response.headers[HEADER] = policy_for(request)
        return response

    def user_view(self, request: HttpRequest) -> JsonResponse:
        """Answer with the id and name of the user that a name or an id means."""
        self._require(request)
        user = find_user(request.GET.get("user", ""))
        if user is None:
            return JsonResponse({"message": "There is no user of that name or id."}, status=404)
        return JsonResponse({"id": str(user.pk), "name": user.get_username()})

    def disconnect_view(self, request: HttpRequest) -> JsonResponse:
        """Close all sockets of a user."""
        self._require(request)
        if not request.user.has_perm(DISCONNECT):
            raise PermissionDenied
        user = user_by_id(request.POST.get("user", ""))
        if user is None:
            return JsonResponse({"message": "There is no such user any more."}, status=404)
        try:
            kick(user, REASON)
        except GatewayError as exc:
            return JsonResponse({"message": exc.message}, status=503)
        name = user.get_username()
        return JsonResponse({"message": f"Every gateway was told to close the sockets of {name}."})

    def _require(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied
