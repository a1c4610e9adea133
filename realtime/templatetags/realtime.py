"""Template tags: what a page shows before its socket is open.

{% load realtime %}
{% realtime_latest topic limit=20 as latest %}
{{ latest.as_dict|json_script:"latest" }}
"""

from __future__ import annotations

import logging

from django import template

from .. import publish
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
