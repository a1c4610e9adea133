"""Pages to try the gateway with: playground, chat, live prices.

They do nothing that the visitor's own socket could not do: each frame is checked against the
visitor's rules like any other. So all of them are open to every user who is logged in.
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .prices import SYMBOLS, topic_of
from .protocol.subjects import is_token

ROOMS = ("lobby", "kitchen", "random")


@require_safe
@login_required
@never_cache
def playground(request: HttpRequest) -> HttpResponse:
    """Send any frame, and see what comes back."""
    return render(request, "realtime/playground.html")


@require_safe
@login_required
@never_cache
def chat(request: HttpRequest, room: str = ROOMS[0]) -> HttpResponse:
    """Talk in a room: the topic `room.<name>`."""
    # The form of the page asks for a room by its name.
    wanted = request.GET.get("room", "").strip()
    if wanted and is_token(wanted):
        return redirect("chat-room", room=wanted)
    rooms = ROOMS if room in ROOMS else (*ROOMS, room)
    context = {"room": room, "rooms": rooms, "topic": f"room.{room}", "refused": wanted}
    return render(request, "realtime/chat.html", context, status=400 if wanted else 200)


@require_safe
@login_required
@never_cache
def prices(request: HttpRequest) -> HttpResponse:
    """Watch prices that `manage.py demo_prices` makes up."""
    topics = [{"symbol": one, "name": name, "topic": topic_of(one)} for one, name, _ in SYMBOLS]
    return render(request, "realtime/prices.html", {"topics": topics})
