"""Pages: what this is, and a user's notifications. The demonstrations are in demo_views.py."""

from __future__ import annotations

import logging

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from . import publish, reading
from .forms import NotificationForm, ReadForm
from .notifications import OtherEpoch, ReadMark, read_topic_of
from .protocol.exceptions import GatewayError, Unavailable

JSON = "application/json"
PAGE_EVENTS = 50
"""Notifications that the page brings; notifications.js asks for as many at a time."""

logger = logging.getLogger(__name__)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Tell a newcomer what this is and what to try."""
    return render(request, "realtime/home.html")


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Lead to the icon whoever asks at the usual address instead of reading the page."""
    return redirect(static("realtime/icon.svg"))


@require_safe
@login_required
@never_cache
def notifications(request: HttpRequest) -> HttpResponse:
    """Show the user's notifications as they arrive; to staff, a form to send one."""
    return _notifications(request, NotificationForm())


@require_POST
@never_cache
async def send_notification(request: HttpRequest) -> HttpResponse:
    """Send a notification to a user, for staff.

    A script asks for JSON and shows the result in place; a plain form gets a page.
    """
    by_script = request.get_preferred_type(["text/html", JSON]) == JSON
    user = await request.auser()
    if not user.is_authenticated:
        if by_script:
            return _told("You are signed out. Log in again.", status=401)
        return redirect(f"{reverse('login')}?next={reverse('notifications')}")
    if not user.is_staff:
        if by_script:
            return _told("Only staff may send notifications.", status=403)
        raise PermissionDenied

    form = NotificationForm(request.POST)
    if not await sync_to_async(form.is_valid)():
        if by_script:
            return _told("Please correct what is marked.", status=400, errors=form.errors)
        return await sync_to_async(_notifications)(request, form, status=400)
    try:
        await publish.anotify(form.recipient.pk, form.payload(), message_id=form.message_id())
    except GatewayError as exc:
        status = 503 if isinstance(exc, Unavailable) else 400
        if by_script:
            return _told(str(exc), status=status)
        form.add_error(None, str(exc))
        return await sync_to_async(_notifications)(request, form, status=status)
    sent = f"Sent to {form.cleaned_data['username']}."
    if by_script:
        return _told(sent)
    await sync_to_async(messages.success)(request, sent)
    return HttpResponseRedirect(reverse("notifications"))


@require_http_methods(["GET", "POST"])
@never_cache
async def read_position(request: HttpRequest) -> JsonResponse:
    """Tell up to where the user has read their notifications, or move that on."""
    user = await request.auser()
    if not user.is_authenticated:
        return _told("You are signed out. Log in again.", status=401)
    try:
        if request.method == "GET":
            return _marked(await reading.mark_of(user.pk))
        form = ReadForm(request.POST)
        if not form.is_valid():
            return _told("Send 'seqNo' and 'epoch'.", status=400, errors=form.errors)
        moved = await reading.mark_read(
            user.pk, form.cleaned_data["seqNo"], form.cleaned_data["epoch"]
        )
    except OtherEpoch as exc:
        return _told(str(exc), status=409)
    except GatewayError as exc:
        return _told(str(exc), status=503)
    return _marked(moved)


def _marked(mark: ReadMark) -> JsonResponse:
    return JsonResponse({"seqNo": mark.sequence, "epoch": mark.epoch})


def _notifications(
    request: HttpRequest, form: NotificationForm, *, status: int = 200
) -> HttpResponse:
    try:
        inbox = reading.inbox(request.user.pk, PAGE_EVENTS)
    except GatewayError as exc:
        # The page asks by itself once it is connected.
        logger.warning("page without latest events user=%s reason=%s", request.user.pk, exc)
        inbox = None
    context = {
        "topic": publish.notifications_of(request.user.pk),
        "read_topic": read_topic_of(request.user.pk),
        "inbox": inbox,
        "form": form if request.user.is_staff else None,
    }
    return render(request, "realtime/notifications.html", context, status=status)


def _told(
    message: str, *, status: int = 200, errors: dict[str, list[str]] | None = None
) -> JsonResponse:
    return JsonResponse({"message": message, "errors": errors or {}}, status=status)
