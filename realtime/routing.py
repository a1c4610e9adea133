"""WebSocket routes: one line in a project's own `asgi.py`."""

from django.urls import path

from .consumers import GatewayConsumer

websocket_urlpatterns = [path("ws/", GatewayConsumer.as_asgi())]
