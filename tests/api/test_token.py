"""`POST /api/token/`, and what counts as a credential."""

from __future__ import annotations

import http.cookiejar
import re
import time
import urllib.parse
import urllib.request
from typing import Any

import jwt
import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from pytest_django import Settings

from accounts.models import ApiToken
from tests.accounts.support import public_pem, rsa_key
from tests.integration.support import ALICE

from .conftest import Site
from .support import PROBLEM, Api

ALICES = {"username": "alice", "password": "alice"}


def browser(site: Site, user: str) -> tuple[Api, str]:
    """Log in on the page; return the API by session, and the CSRF token for its header."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
    )
    page = opener.open(f"{site.url()}/login/", timeout=60).read().decode()
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None
    form = {"username": user, "password": user, "csrfmiddlewaretoken": found[1]}
    opener.open(f"{site.url()}/login/", urllib.parse.urlencode(form).encode(), timeout=60).close()
    cookies = {cookie.name: cookie.value or "" for cookie in jar}
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return Api(site.ports[0], {"Cookie": header}), cookies["csrftoken"]


async def test_token_for_a_password_opens_the_api_and_a_socket(site: Site):
    answer = site.api().post("token/", ALICES)
    assert (answer.status, answer.body["userId"]) == (200, ALICE)
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.body["token"]
    assert Api.bearer(site.ports[0], token).get("me/notifications/").status == 200
    async with site.client(token) as client:
        await client.subscribe(f"user.{ALICE}.notifications")


def test_token_is_short_lived(site: Site):
    body = site.api().post("token/", ALICES).body
    claims = jwt.decode(body["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 900
    assert abs(body["expiresAt"] - claims["exp"]) <= 1


@pytest.mark.parametrize(
    "body",
    [
        {"username": "alice", "password": "wrong"},
        {"username": "nobody", "password": "alice"},
        {"username": "alice"},
        {"password": "alice"},
        {"username": "alice\0", "password": "alice"},
    ],
)
def test_token_wrong_password_is_told_alike(site: Site, body):
    answer = site.api().post("token/", body)
    problem = answer.problem(401, "AUTHENTICATION_FAILED")
    assert problem["detail"] == "The username or the password is wrong."
    assert answer.headers["WWW-Authenticate"]


def test_token_without_anything_is_refused(site: Site):
    site.api().post("token/", {}).problem(401, "NOT_AUTHENTICATED")


def test_token_for_a_session_needs_the_csrf_token(site: Site):
    api, csrf = browser(site, "alice")
    assert "CSRF" in api.post("token/").problem(403, "PERMISSION_DENIED")["detail"]
    answer = api.post("token/", X_CSRFToken=csrf)
    assert (answer.status, answer.body["userId"]) == (200, ALICE)


def test_token_does_not_renew_itself(alice):
    alice.post("token/").problem(401, "NOT_AUTHENTICATED")


def test_session_reads_and_with_the_csrf_token_writes(site: Site):
    api, csrf = browser(site, "alice")
    assert api.get("me/notifications/").status == 200
    assert api.get("topics/room.a/history/").status == 200
    assert "CSRF" in api.post("me/notifications/", {"seqNo": 1}).body["detail"]
    assert api.post("me/notifications/", {"seqNo": 1}, X_CSRFToken=csrf).status == 200


@pytest.mark.parametrize("token", ["", "x", "rt_unknown", "a.b.c", "\xe4", "a b"])
def test_bearer_that_proves_nothing_is_refused(site: Site, token):
    answer = Api.bearer(site.ports[0], token).get("me/notifications/")
    answer.problem(401, "AUTHENTICATION_FAILED")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'


def test_bearer_with_another_key_is_refused(site: Site):
    token = jwt.encode({"sub": ALICE, "exp": time.time() + 60}, "k" * 32)
    Api.bearer(site.ports[0], token).get("stats/").problem(401, "AUTHENTICATION_FAILED")


@pytest.fixture
def client() -> Client:
    """Return a client of this process, with CSRF checks as in a browser."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def dana(db: None) -> Any:
    """Make dana, whose API token the test may break."""
    return get_user_model().objects.create_user("dana", password="dana", is_superuser=True)


@pytest.mark.parametrize("change", [{"enabled": False}, {"user__is_active": False}])
def test_api_token_that_is_disabled_is_refused(client, dana, change):
    token, key = ApiToken.objects.create_token(dana, "build server")
    headers = {"authorization": f"bearer {key}"}
    url = "/api/users/*/disconnect/"  # past the permission, short of NATS
    assert client.post(url, headers=headers).status_code == 404
    if "enabled" in change:
        ApiToken.objects.filter(pk=token.pk).update(enabled=False)
    else:
        get_user_model().objects.filter(pk=dana.pk).update(is_active=False)
    response = client.post(url, headers=headers)
    assert (response.status_code, response["Content-Type"]) == (401, PROBLEM)


def test_token_of_an_inactive_user_is_refused(client, dana):
    get_user_model().objects.filter(pk=dana.pk).update(is_active=False)
    body = {"username": "dana", "password": "dana"}
    assert client.post("/api/token/", body, "application/json").status_code == 401


def test_token_where_only_a_public_key_is_says_so(client, dana, settings: Settings):
    settings.ACCOUNTS = {"JWT_KEY": public_pem(rsa_key()), "JWT_ALGORITHMS": ["RS256"]}
    response = client.post(
        "/api/token/", {"username": "dana", "password": "dana"}, "application/json"
    )
    assert (response.status_code, response.json()["code"]) == (501, "CANNOT_SIGN")
