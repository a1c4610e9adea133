"""Template tags: a bell for any page, and what a page shows before its socket is open.

{% load realtime %}
{% realtime_bell %}
{% realtime_latest topic limit=20 as latest %}
{{ latest.as_dict|json_script:"latest" }}
"""

from __future__ import annotations

import logging
from typing import Any

from django import template
from django.conf import settings
from django.shortcuts import resolve_url

from .. import publish, reading
from ..notifications import read_topic_of
from ..protocol.exceptions import GatewayError

logger = logging.getLogger(__name__)
register = template.Library()


@register.simple_tag
def realtime_latest(topic: str, limit: int = 20) -> publish.Latest | None:
    """Return the last events of a topic and the position they end at.

    A page that subscribes with `since` that position and with its epoch goes on exactly there:
    nothing is missed between rendering and subscribing, and nothing shown twice. None when the
    stream is out of reach: the page then asks by itself once it is connected.
    """
    try:
        return publish.latest(topic, limit)
    except GatewayError as exc:
        logger.warning("page without latest events topic=%s reason=%s", topic, exc)
        return None


BELL_EVENTS = 20
"""Notifications that the bell lists."""


@register.inclusion_tag("realtime/_bell.html", takes_context=True)
def realtime_bell(
    context: template.Context, login_url: str = "", all_url: str = "", url: str = ""
) -> dict[str, Any]:
    """Render the bell: the user's notifications, live, with a badge and toasts.

    Args:
        login_url: a view's name or an address where anonymous visitors may log in; without it
            they see nothing.
        all_url: the same for a page with all notifications; without it there is no link to one.
        url: the gateway's WebSocket address, where it is not /ws/ on this host.
    """
    request = context.get("request")
    user = context.get("user") or getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"login_url": resolve_url(login_url) if login_url else ""}
    try:
        inbox = reading.inbox(user.pk, BELL_EVENTS)
    except GatewayError as exc:
        logger.warning("bell without latest events user=%s reason=%s", user.pk, exc)
        inbox = None
    return {
        "user_id": user.pk,
        "topic": publish.notifications_of(user.pk),
        "read_topic": read_topic_of(user.pk),
        "inbox": inbox,
        "limit": BELL_EVENTS,
        "url": url,
        "all_url": resolve_url(all_url) if all_url else "",
        "login_url": resolve_url(login_url or settings.LOGIN_URL),
        "csrf_token": context.get("csrf_token"),
        # Django 6 and django-csp keep the nonce of the page's policy in these places.
        "nonce": context.get("csp_nonce") or getattr(request, "csp_nonce", ""),
    }
