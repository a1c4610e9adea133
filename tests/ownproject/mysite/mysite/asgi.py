import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

from channels.routing import ProtocolTypeRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

http = ASGIStaticFilesHandler(get_asgi_application())

from realtime.routing import websocket, with_event_streams

application = ProtocolTypeRouter({"http": with_event_streams(http), "websocket": websocket})
