"""Credentials from the site: by Django's log-in form, or by its token endpoint.

Requests are few and small, so the standard library's client in a thread does.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from typing import Any

from .errors import LoginFailed, NoAnswer
from .options import origin_of

LOGIN_PATH = "/login/"
TOKEN_PATH = "/api/token/"
LARGEST = 1024**2
"""Bytes of an answer that are read."""

# S310 below: `origin_of` sees to it that addresses are http(s).

_FIELD = re.compile(r'name="csrfmiddlewaretoken"\s+value="([A-Za-z0-9]+)"')


async def log_in(
    url: str, username: str, password: str, *, path: str = LOGIN_PATH, timeout: float = 10.0
) -> dict[str, str]:
    """Log in by Django's form, and return the headers of the upgrade request.

    Args:
        url: the gateway's address, or any other of the site.
        path: of the log-in page.
        timeout: seconds, for each of the two requests.

    Raises:
        LoginFailed: wrong username or password, or no such page.
        NoAnswer: the site is out of reach.
    """
    return await asyncio.to_thread(_log_in, origin_of(url), path, username, password, timeout)


async def fetch_token(
    url: str, username: str, password: str, *, path: str = TOKEN_PATH, timeout: float = 10.0
) -> str:
    """Return a token from the site's token endpoint.

    It is asked with `{"username": …, "password": …}`, and answers with `{"token": …}`.

    Raises:
        LoginFailed: wrong username or password, or no such endpoint.
        NoAnswer: the site is out of reach.
    """
    origin = origin_of(url)
    body = json.dumps({"username": username, "password": password}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(origin + path, body, headers)  # noqa: S310
    opener = urllib.request.build_opener(_NoRedirect)
    status, text = await asyncio.to_thread(_send, opener, request, timeout)
    if status in (200, 201):
        try:
            token = json.loads(text)["token"]
        except (ValueError, KeyError, TypeError):
            token = None
        if isinstance(token, str) and token:
            return token
        raise LoginFailed(f"{origin}{path} gave no token.")
    if status >= 500:
        raise NoAnswer(f"{origin}{path} answered with HTTP {status}.")
    raise LoginFailed(f"{origin}{path} refused the username or password (HTTP {status}).")


def _log_in(origin: str, path: str, username: str, password: str, timeout: float) -> dict[str, str]:
    address = urllib.parse.urljoin(origin, path)
    jar = CookieJar()
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPCookieProcessor(jar))
    page = urllib.request.Request(address)  # noqa: S310
    status, text = _send(opener, page, timeout)
    if status >= 500:
        raise NoAnswer(f"{address} answered with HTTP {status}.")
    field = _FIELD.search(text)
    if status != 200 or field is None:
        raise LoginFailed(f"{address} is no log-in page of Django's (HTTP {status}).")
    form = {"username": username, "password": password, "csrfmiddlewaretoken": field[1]}
    # Django wants a Referer of its own over TLS (CSRF protection).
    headers = {"Origin": origin, "Referer": address}
    body = urllib.parse.urlencode(form).encode()
    post = urllib.request.Request(address, body, headers)  # noqa: S310
    before = {cookie.name for cookie in jar}
    status, _ = _send(opener, post, timeout)
    # On success Django redirects and sets a session; the form again means a refusal.
    new = [cookie for cookie in jar if cookie.name not in before]
    if status not in (302, 303) or not new:
        raise LoginFailed(f"{address} refused the username or password.")
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in new)
    return {"Cookie": cookies, "Origin": origin}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leave redirects alone: a password is sent to one address, and no other."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _send(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float
) -> tuple[int, str]:
    """Return status and text of the answer."""
    try:
        try:
            with opener.open(request, timeout=timeout) as response:
                return response.status, response.read(LARGEST).decode(errors="replace")
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read(LARGEST).decode(errors="replace")
    except (urllib.error.URLError, OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", exc)
        raise NoAnswer(f"{request.full_url} is out of reach: {reason}.") from exc
