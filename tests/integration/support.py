"""Users, credentials and upgrade requests, as the tests of the running gateway need them."""

from __future__ import annotations

import asyncio
import http.cookiejar
import re
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable
from typing import Any

from tests.support.gateways import Site
from tests.support.processes import manage

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.integration.settings"}

ALICE, BOB = "1", "2"
"""Ids of the demo accounts, which are made in this order."""

_ADD_RULES = """
from accounts.models import AccessRule
from django.contrib.auth.models import User
for effect, action, topic in {rules!r}:
    AccessRule.objects.create(effect=effect, action=action, topic=topic)
"""


def add_rules(site: Site, rules: Iterable[tuple[str, str, str]]) -> None:
    """Store rules for everyone: effect, action, pattern."""
    manage("shell", "-c", _ADD_RULES.format(rules=list(rules)), env=site.env)


def new_topic(space: str = "room") -> str:
    """Return a topic that no other test uses."""
    return f"{space}.{uuid.uuid4().hex[:12]}"


def log_in(site: Site, user: str) -> str:
    """Log in on the site's page as a demo user and return the `Cookie` header."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
    )
    with browser.open(f"{site.url()}/login/", timeout=30) as page:
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.read().decode())
    assert found is not None
    form = {"username": user, "password": user, "csrfmiddlewaretoken": found[1]}
    data = urllib.parse.urlencode(form).encode()
    browser.open(f"{site.url()}/login/", data, timeout=30).close()
    cookies = {cookie.name: cookie.value for cookie in jar}
    assert "sessionid" in cookies
    return f"sessionid={cookies['sessionid']}"


async def handshake(
    port: int,
    headers: Iterable[tuple[str, str]],
    *,
    path: str = "/ws/",
    host: str | None = None,
) -> int:
    """Send an upgrade request as it is and return the status of the answer."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host or f'127.0.0.1:{port}'}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers),
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status = await asyncio.wait_for(reader.readline(), 30)
        return int(status.split()[1])
    finally:
        writer.close()


def without(frame: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a frame without some of its fields."""
    return {name: value for name, value in frame.items() if name not in names}
