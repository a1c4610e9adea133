"""Every error below /api/ is told as problem details (RFC 9457), within a deadline."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import OperationalError
from django.test import Client
from pytest_django import Settings

from realtime import link
from realtime.api import views
from realtime.embedded import NatsServer
from realtime.outbox import OutboxMessage
from tests.support.backend import close_link
from tests.support.ports import free_port
from tests.support.processes import freeze

from .conftest import Site
from .support import PROBLEM, event

JSON = "application/json"
OPERATIONS = [
    ("get", "/api/topics/room.a/history/", None),
    ("get", "/api/topics/room.a/presence/", None),
    ("get", "/api/me/notifications/", None),
    ("post", "/api/me/notifications/", {"seqNo": 1}),
    ("get", "/api/stats/", None),
    ("post", "/api/publish/", {"events": [event(topics=["room.a"])]}),
    ("post", "/api/users/7/disconnect/", {}),
    ("post", "/api/users/7/unsubscribe/", {"topic": "room.a"}),
]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Forget what was counted, and the connection to this test's server."""
    cache.clear()
    yield
    cache.clear()
    close_link()


@pytest.fixture
def erin(db: None) -> Any:
    """Make erin, who may do everything with the gateway."""
    user = get_user_model().objects.create_user("erin")
    user.user_permissions.set(Permission.objects.filter(content_type__model="gateway"))
    return user


@pytest.fixture
def client(erin: Any) -> Client:
    """Return a client of this process, logged in."""
    client = Client(raise_request_exception=False)
    client.force_login(erin)
    return client


def use(settings: Settings, **realtime: Any) -> None:
    # What is late on a busy machine is not given up unless a test says so.
    patient = {"NATS_CONNECT_TIMEOUT": 30.0, "API_TIMEOUT": 30.0, "AUTH_TIMEOUT": 30.0}
    settings.REALTIME = {**settings.REALTIME, **patient, **realtime}


def send(client: Client, method: str, path: str, body: Any) -> Any:
    if method == "get":
        return client.get(path)
    return client.post(path, json.dumps(body), JSON)


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """Return the problem details, once it is sure that they are some."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == PROBLEM
    found: dict[str, Any] = response.json()
    assert (found["status"], found["code"]) == (status, code)
    return found


# NATS, the auth worker and the database away


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
def test_nats_that_is_not_there_is_unavailable(client, settings, method, path, body):
    use(settings, NATS_URL=f"nats://127.0.0.1:{free_port()}", NATS_CONNECT_TIMEOUT=0.5)
    response = send(client, method, path, body)
    assert "NATS is not reachable" in problem(response, 503, "UNAVAILABLE")["detail"]
    assert int(response["Retry-After"]) > 0


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Return the address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"


# The commands have their own deadline: that of the connection.
@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS[:-2])
def test_nats_that_says_nothing_is_given_up(client, settings, black_hole, method, path, body):
    use(settings, NATS_URL=black_hole, NATS_CONNECT_TIMEOUT=60.0, API_TIMEOUT=0.2)
    found = problem(send(client, method, path, body), 503, "UNAVAILABLE")
    assert "in time" in found["detail"]


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
def test_nats_that_freezes_is_given_up(client, settings, nats_server, method, path, body):
    use(settings, NATS_URL=nats_server.url, API_TIMEOUT=0.2, AUTH_TIMEOUT=60.0, STORE_TIMEOUT=60.0)
    link.run(lambda broker: broker.flush())
    freeze(nats_server.pid)
    try:
        response = send(client, method, path, body)
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)
    problem(response, 503, "UNAVAILABLE")


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS[:4])
def test_no_auth_worker_is_unavailable(client, settings, nats_server, method, path, body):
    use(settings, NATS_URL=nats_server.url)
    response = send(client, method, path, body)
    problem(response, 503, "AUTH_UNAVAILABLE")
    assert int(response["Retry-After"]) > 0


def test_stream_that_is_not_there_fails_what_is_stored(
    client: Client, settings: Settings, nats_server: NatsServer
):
    use(settings, NATS_URL=nats_server.url)
    events = [event(topics=["room.a", "live.a"], data=1), event(topics=["room.a"], data=2)]
    response = send(client, "post", "/api/publish/", {"events": events})
    assert response.status_code == 207
    stored, sent, second = response.json()["results"]
    assert (stored["status"], sent["status"], second["status"]) == ("failed", "sent", "failed")
    assert stored["error"]["code"] == second["error"]["code"] == "UNAVAILABLE"
    assert "not sent" in second["error"]["detail"]


def test_stream_that_confirms_nothing_is_unavailable(
    client: Client, settings: Settings, nats_server: NatsServer
):
    use(settings, NATS_URL=nats_server.url)
    response = send(client, "post", "/api/publish/", {"events": [event(topics=["room.a"])]})
    assert "Idempotency-Key" in problem(response, 503, "UNAVAILABLE")["detail"]


def test_database_that_is_away_is_unavailable(client, settings, nats_server, monkeypatch):
    use(settings, NATS_URL=nats_server.url)

    def count() -> int:
        raise OperationalError("the database system is shutting down")

    monkeypatch.setattr(OutboxMessage.objects, "count", count)
    response = client.get("/api/stats/")
    found = problem(response, 503, "UNAVAILABLE")
    assert "shutting down" not in found["detail"]
    assert int(response["Retry-After"]) > 0


def test_unexpected_failure_is_told_and_logged(client, monkeypatch, caplog):
    def broken() -> None:
        raise KeyError("secret")

    monkeypatch.setattr(views, "gather_stats", broken)
    found = problem(client.get("/api/stats/"), 500, "INTERNAL")
    assert "secret" not in json.dumps(found)
    (record,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.exc_info is not None
    assert record.getMessage() == "Internal Server Error: /api/stats/"


# Whatever else is wrong


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing/", 404),
        ("POST", "publish", 404),
        ("BREW", "nothing/", 404),
        ("GET", "publish/", 405),
        ("PUT", "publish/", 405),
        ("DELETE", "stats/", 405),
        ("OPTIONS", "stats/", 405),
        ("POST", "schema/", 405),
        ("POST", "docs/", 405),
    ],
)
def test_wrong_address_or_method_is_told(admin, method, path, status):
    answer = admin.send(method, path)
    answer.problem(status, "NOT_FOUND" if status == 404 else "METHOD_NOT_ALLOWED")
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "x"])
def test_body_that_is_no_json_type_is_refused(admin, kind):
    answer = admin.send("POST", "publish/", b"{}", {"Content-Type": kind})
    answer.problem(415, "UNSUPPORTED_MEDIA_TYPE")


def test_answer_that_nobody_can_give_is_refused(admin):
    admin.send("GET", "stats/", headers={"Accept": "text/csv"}).problem(406, "NOT_ACCEPTABLE")


def test_body_over_the_limit_is_refused(admin):
    body = b" " * (1024**2 + 1)
    admin.send("POST", "publish/", body, {"Content-Type": JSON}).problem(413, "TOO_LARGE")


def test_body_in_chunks_is_refused(admin):
    headers = {"Content-Type": JSON, "Transfer-Encoding": "chunked"}
    body = b'{"events":[{"topics":["room.a"],"data":1}]}'
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    admin.send("POST", "publish/", chunks, headers).problem(411, "LENGTH_REQUIRED")


def test_wrong_host_is_told(site: Site):
    site.api().send("GET", "stats/", headers={"Host": "evil.example"}).problem(400, "BAD_REQUEST")


def test_errors_elsewhere_are_pages():
    client = Client(raise_request_exception=False)
    response = client.get("/", headers={"host": "evil.example"})
    assert (response.status_code, response["Content-Type"][:9]) == (400, "text/html")


# Throttles


def test_throttle_counts_each_user_and_scope(client, settings):
    use(settings, API_RATES={"read": "2/h", "write": "1/h", "token": "1/h"})
    url = "/api/topics/closed/history/"  # answered without NATS
    assert [client.get(url).status_code for _ in range(3)] == [404, 404, 429]
    assert client.post("/api/users/*/disconnect/").status_code == 404
    problem(client.post("/api/users/*/disconnect/"), 429, "THROTTLED")
    other = Client()
    user = get_user_model().objects.create_user("frank", is_superuser=True)
    other.force_login(user)
    assert other.get(url).status_code == 404
    response = client.get(url)
    assert 0 < int(response["Retry-After"]) <= 3600


def test_throttle_of_passwords_believes_no_header(db, settings):
    use(settings, API_RATES={"read": None, "write": None, "token": "2/h"})
    statuses = [
        Client()
        .post("/api/token/", "{}", JSON, headers={"x-forwarded-for": f"192.0.2.{number}"})
        .status_code
        for number in range(3)
    ]
    assert statuses == [401, 401, 429]
    # Another address is another client.
    response = Client(REMOTE_ADDR="192.0.2.9").post("/api/token/", "{}", JSON)
    assert response.status_code == 401
