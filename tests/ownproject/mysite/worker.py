"""Answers who a socket is: the user of a session cookie of this project."""

import asyncio
import json
import os

import django
import nats

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
django.setup()

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.db import close_old_connections
from django.http import HttpRequest


def answer(session_key):
    close_old_connections()
    request = HttpRequest()
    request.session = SessionStore(session_key)
    user = get_user(request)
    if not user.is_authenticated:
        return {"success": False, "error": "Log in first."}
    return {"success": True, "user_id": str(user.pk)}


async def reply(message):
    asked = json.loads(message.data)
    said = await sync_to_async(answer)(asked["sessionKey"])
    await message.respond(json.dumps(said).encode())


async def main():
    broker = await nats.connect(settings.REALTIME["NATS_URL"], max_reconnect_attempts=-1)
    await broker.subscribe("gateway.auth", queue="auth", cb=reply)
    print("Answering who sockets are", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
