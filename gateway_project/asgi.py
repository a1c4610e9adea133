"""Composition: HTTP to Django, WebSockets to the gateway."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

# Django first: it fills the app registry that the consumers need.
http = get_asgi_application()

from realtime.routing import websocket, with_event_streams  # noqa: E402

application = ProtocolTypeRouter({"http": with_event_streams(http), "websocket": websocket})
