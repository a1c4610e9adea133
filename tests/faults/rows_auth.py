"""Rows about who is let in and who is shown out: 21, 22, 25."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import jwt

from tests.support.client import TestClient
from tests.support.processes import manage
from tests.support.waiting import until

from .backend import JWT_KEY, token
from .lab import Lab
from .outcome import Outcome
from .rows import ACCOUNTS, ONE, Pace, fault
from .wire import RawSocket

_MAKE_TOKENS = """
import json
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from accounts.models import ApiToken
alice, bob = get_user_model().objects.filter(pk__in=(1, 2)).order_by("pk")
good = ApiToken.objects.create_token(alice, "good")[1]
off, revoked = ApiToken.objects.create_token(alice, "revoked")
off.enabled = False
off.save()
old, expired = ApiToken.objects.create_token(alice, "old")
old.expires_at = timezone.now() - timedelta(minutes=5)
old.save()
bob.is_active = False
bob.save()
print(json.dumps({"good": good, "revoked": revoked, "expired": expired}))
"""


def _signed(claims: dict[str, object], key: str = JWT_KEY, **options: object) -> str:
    return jwt.encode(claims, key, **{"algorithm": "HS256", **options})  # type: ignore[arg-type]


def _unsigned(header: dict[str, object], claims: dict[str, object]) -> str:
    parts = (header, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*encoded, b""]).decode()


def tokens(api: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return tokens that must pass and tokens that must not, by name; the leeway is 30 s."""
    now = int(time.time())
    claims: dict[str, object] = {"sub": "1", "exp": now + 600}
    good = {
        "plain": token(1),
        "expired within the leeway": _signed({**claims, "exp": now - 20}),
        "nbf ahead within the leeway": _signed({**claims, "nbf": now + 20}),
        "API token": api["good"],
    }
    bad = {
        "expired by 60 s": _signed({**claims, "exp": now - 60}),
        "nbf 60 s ahead": _signed({**claims, "nbf": now + 60}),
        "iat 60 s ahead": _signed({**claims, "iat": now + 60}),
        "no exp": _signed({"sub": "1"}),
        "exp a string": _signed({**claims, "exp": "tomorrow"}),
        "alg none": _unsigned({"alg": "none", "typ": "JWT"}, claims),
        "alg None": _unsigned({"alg": "None", "typ": "JWT"}, claims),
        "no signature": token(1).rpartition(".")[0] + ".",
        "wrong key": _signed(claims, "another key" * 5),
        "empty key": _unsigned({"alg": "HS256"}, claims),
        "HS512": _signed(claims, JWT_KEY * 2, algorithm="HS512"),
        "unknown crit": _signed(claims, headers={"crit": ["unknown"], "unknown": 1}),
        "another user's body": ".".join(
            [token(1).split(".")[0], token(3).split(".")[1], token(1).split(".")[2]]
        ),
        "no subject": _signed({"exp": now + 600}),
        "unknown user": _signed({**claims, "sub": "999"}),
        "subject no id": _signed({**claims, "sub": "alice"}),
        "deactivated user": token(2),
        "revoked API token": api["revoked"],
        "expired API token": api["expired"],
        "unknown API token": "rt_" + "x" * 43,
        "empty": "",
        "garbage": "x.y.z",
        "NUL": token(1) + "\0",
        "10 kB": "x" * 10_000,
    }
    return good, bad


@fault(21, "token reuse: expired, revoked, alg none, wrong key, unknown crit, skew", ACCOUNTS)
async def bad_tokens(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    printed = await asyncio.to_thread(manage, "shell", "-v", "0", "-c", _MAKE_TOKENS, env=lab.env)
    good, bad = tokens(json.loads(printed.strip().splitlines()[-1]))
    refused = [name for name, one in good.items() if await ends(lab, one) is not None]
    wrong = [
        f"{name}: {code}" for name, one in bad.items() if (code := await ends(lab, one)) != 4500
    ]
    outcome.figures["wrong accepts"] = sum(item.endswith("None") for item in wrong)
    outcome.figures["of"] = len(bad)
    outcome.must("; ".join(["closed 4500 each", *wrong]), not wrong)
    outcome.must("; ".join(["the good ones pass", *refused]), not refused)
    return outcome


async def ends(lab: Lab, credential: str) -> int | None:
    """Return the code a connection with that token is closed with, None when it is let in."""
    async with TestClient(lab.ws_url(), connect=False) as client:
        await client.send("connect", token=credential)
        await until(lambda: client.frames or client.close_code, 10)
        if client.frames and client.frames[0]["type"] == "ready":
            return None
        return await client.closed()


_SESSION = """
import json
from django.contrib.auth import login, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
keys = []
for _ in range(2):
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = "127.0.0.1"
    request.session = SessionStore()
    user = get_user_model().objects.get(pk=1)
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    request.session.save()
    keys.append(request.session.session_key)
print(json.dumps(keys))
"""
_LOGOUT = """
import sys, time
from django.contrib.sessions.backends.db import SessionStore
SessionStore("{key}").flush()
print("at", time.time())
"""
_DEACTIVATE = """
import time
from django.contrib.auth import get_user_model
user = get_user_model().objects.get(pk=1)
user.is_active = False
user.save()
print("at", time.time())
"""


@fault(22, "logout of one browser, then deactivation of the user, with open sockets", ACCOUNTS)
async def shown_out(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = "user.1.notifications"

    def shell(code: str) -> str:
        return manage("shell", "-v", "0", "-c", code, env=lab.env)

    keys = json.loads((await asyncio.to_thread(shell, _SESSION)).strip().splitlines()[-1])
    origin = lab.url()
    browsers = [
        TestClient(lab.ws_url(), headers={"Cookie": f"sessionid={key}"}, origin=origin)
        for key in keys
    ]
    phone = TestClient(lab.ws_url(), token=lab.token_of(1))
    neighbour = TestClient(lab.ws_url(), token=lab.token_of(2))
    async with browsers[0], browsers[1], phone, neighbour:
        for client in (*browsers, phone):
            await client.subscribe(topic)
        at = float((await asyncio.to_thread(shell, _LOGOUT.format(key=keys[0]))).split("at ")[1])
        code = await browsers[0].closed(10)
        outcome.figures["logout s"] = round(time.time() - at, 2)
        outcome.must("logout: closed 4502", code == 4502)
        for client in (browsers[1], phone):
            await client.ask("ping", "pong")
        outcome.must("logout: the other browser stays", browsers[1].close_code is None)
        at = float((await asyncio.to_thread(shell, _DEACTIVATE)).split("at ")[1])
        codes = [await client.closed(10) for client in (browsers[1], phone)]
        outcome.figures["deactivation s"] = round(time.time() - at, 2)
        outcome.must("deactivation: closed 4502", codes == [4502, 4502])
        await publisher.burst([topic], 10)
        await neighbour.ask("ping", "pong")
        outcome.must("the neighbour stays", neighbour.close_code is None)
        after = sum(client.recorder.count() for client in (*browsers, phone))
        outcome.figures["messages after"] = after
        outcome.must("no message after", after == 0)
    for name in ("logout s", "deactivation s"):
        outcome.must(f"{name} < 2", float(outcome.figures[name]) < 2, timed=True)
    return outcome


@fault(25, "cross-site sockets with a cookie: evil, null, no, two Origins and odd ones", ONE)
async def cross_site(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    port = lab.ports[0]
    own = f"http://127.0.0.1:{port}"
    evil = {
        "evil": ["https://evil.example"],
        "null": ["null"],
        "none": [],
        "two, own first": [own, "https://evil.example"],
        "two, own last": ["https://evil.example", own],
        "own twice": [own, own],
        "userinfo": [f"http://127.0.0.1:{port}@evil.example"],
        "userinfo, own host": [f"http://evil@127.0.0.1:{port}"],
        "other port": [f"http://127.0.0.1:{port + 1}"],
        "no port": ["http://127.0.0.1"],
        "other scheme": [f"https://127.0.0.1:{port}"],
        "ftp": [f"ftp://127.0.0.1:{port}"],
        "broken IPv6": ["https://[::1"],
        "suffix": [f"{own}.evil.example"],
        "prefix": [f"http://evil-127.0.0.1:{port}"],
        "path": [f"{own}/"],
        "backslash": [f"http://127.0.0.1:{port}\\.evil.example"],
        "space": [f"{own} https://evil.example"],
        "comma": [f"{own},https://evil.example"],
        "port too large": ["http://127.0.0.1:99999"],
        "empty": [""],
        "localhost for 127.0.0.1": [f"http://localhost:{port}"],
    }
    wrong = []
    for name, origins in evil.items():
        status = await _status(lab, origins)
        if status not in (400, 403):
            wrong.append(f"{name}: HTTP {status}")
    outcome.figures["accepted"] = sum(item.endswith("101") for item in wrong)
    outcome.figures["of"] = len(evil)
    outcome.must("; ".join(["403 or 400 each", *wrong]), not wrong)
    outcome.must("the site's own page is served", await _status(lab, [own]) == 101)
    # Without a cookie the credential is the token, which no other site has.
    async with TestClient(
        lab.ws_url(), token=lab.token_of(1), origin="https://elsewhere.example"
    ) as client:
        outcome.must("a token works from anywhere", client.ready["userId"] == "1")
    return outcome


async def _status(lab: Lab, origins: list[str]) -> int:
    lines = [f"Origin: {origin}" for origin in origins]
    async with RawSocket(lab.ports[0]) as raw:
        return await raw.shake("Cookie: sessionid=abcdefgh12345678", *lines)
