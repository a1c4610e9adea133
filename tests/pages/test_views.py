"""views.py, forms.py and middleware.py."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import AsyncClient, Client
from django.urls import reverse

from realtime import publish
from realtime.protocol.exceptions import TooLarge, Unavailable
from realtime.protocol.jetstream import Stored

JSON = {"accept": "application/json"}
FORM = {"username": "alice", "title": "Deploy", "message": "At noon"}


@pytest.fixture
def users(transactional_db: None) -> dict[str, Any]:
    """Make alice, who is nobody special, and the admin."""
    make = get_user_model().objects.create_user
    return {
        "alice": make("alice", password="alice"),
        "gone": make("gone", password="gone", is_active=False),
        "admin": make("admin", password="admin", is_staff=True),
    }


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return what is published instead of publishing it."""
    calls: list[tuple[Any, ...]] = []

    async def anotify(user_id: Any, data: Any, *, message_id: str | None = None) -> Stored:
        calls.append((user_id, data, message_id))
        return Stored(1)

    monkeypatch.setattr(publish, "anotify", anotify)
    return calls


async def staff(users: dict[str, Any]) -> AsyncClient:
    client = AsyncClient()
    await client.aforce_login(users["admin"])
    return client


async def send(client: AsyncClient, form: dict[str, str], *, script: bool = True) -> Any:
    return await client.post(
        reverse("send-notification"), form, headers=JSON if script else {"accept": "text/html"}
    )


def test_home_is_open_to_anybody():
    assert Client().get("/").status_code == 200


def test_icon_is_there_for_whoever_asks_at_the_usual_address():
    response = Client().get("/favicon.ico", follow=True)
    assert response.status_code == 200
    assert response["Content-Type"] == "image/svg+xml"
    assert b"<svg" in response.getvalue()


@pytest.mark.parametrize("path", ["/", "/login/", "/nothing-here", "/admin/", "/admin/auth/user/"])
def test_pages_and_the_admin_name_the_icon(users, path):
    client = Client()
    if path.startswith("/admin/"):
        users["admin"].is_superuser = True
        users["admin"].save()
        client.force_login(users["admin"])
    page = client.get(path).text
    (href,) = re.findall(r'<link rel="icon" href="([^"]+)"', page)
    assert client.get(href)["Content-Type"] == "image/svg+xml"


def test_notifications_need_a_login():
    response = Client().get("/notifications/")
    assert (response.status_code, response["Location"]) == (302, "/login/?next=/notifications/")


def test_notifications_name_the_users_own_topic(users):
    client = Client()
    client.force_login(users["alice"])
    response = client.get("/notifications/")
    assert f'data-topic="user.{users["alice"].pk}.notifications"' in response.text
    assert "send-form" not in response.text
    assert "no-store" in response["Cache-Control"]


async def test_send_publishes_to_the_user(users, sent):
    response = await send(await staff(users), FORM)
    assert response.json() == {"message": "Sent to alice.", "errors": {}}
    user_id, data, message_id = sent[0]
    assert (user_id, data) == (users["alice"].pk, {"title": "Deploy", "body": "At noon"})
    assert message_id


async def test_send_without_script_redirects(users, sent):
    response = await send(await staff(users), FORM, script=False)
    assert (response.status_code, response["Location"]) == (302, "/notifications/")
    assert len(sent) == 1


async def test_send_same_form_twice_has_one_message_id(users, sent):
    client = await staff(users)
    form = {**FORM, "nonce": "11111111-1111-4111-8111-111111111111"}
    await send(client, form)
    await send(client, form)
    await send(client, {**form, "title": "Changed"})
    ids = [message_id for _, _, message_id in sent]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"username": "nobody"}, "username", "There is no user named “nobody”."),
        ({"username": "gone"}, "username", "The account “gone” is not active."),
        ({"username": ""}, "username", "Say who it is for."),
        ({"title": " "}, "title", "Give it a title."),
    ],
)
@pytest.mark.parametrize("script", [True, False])
async def test_send_wrong_form_is_told_at_the_field(users, sent, change, field, sentence, script):
    response = await send(await staff(users), {**FORM, **change}, script=script)
    assert response.status_code == 400
    if script:
        assert response.json()["errors"] == {field: [sentence]}
    else:
        assert sentence in response.text
        assert "At noon" in response.text  # what was typed is kept
    assert sent == []


@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable("NATS is away."), 503), (TooLarge("Too long."), 400)]
)
@pytest.mark.parametrize("script", [True, False])
async def test_send_failure_is_told_in_words(users, monkeypatch, error, status, script):
    async def anotify(*args: Any, **kwargs: Any) -> Stored:
        raise error

    monkeypatch.setattr(publish, "anotify", anotify)
    response = await send(await staff(users), FORM, script=script)
    assert response.status_code == status
    assert str(error) in (response.json()["message"] if script else response.text)


async def test_send_is_for_staff(users, sent):
    client = AsyncClient()
    await client.aforce_login(users["alice"])
    assert (await send(client, FORM)).status_code == 403
    assert (await send(client, FORM, script=False)).status_code == 403
    assert sent == []


async def test_send_signed_out_is_told(db, sent):
    assert (await send(AsyncClient(), FORM)).status_code == 401
    response = await send(AsyncClient(), FORM, script=False)
    assert response["Location"] == "/login/?next=/notifications/"
    assert sent == []


async def test_send_needs_the_csrf_token(users, sent):
    client = AsyncClient(enforce_csrf_checks=True)
    await client.aforce_login(users["admin"])
    assert (await send(client, FORM)).status_code == 403
    assert sent == []


def test_policy_names_this_hosts_sockets():
    policy = Client().get("/", headers={"host": "localhost:8000"})["Content-Security-Policy"]
    assert "connect-src 'self' ws://localhost:8000 wss://localhost:8000;" in policy
    assert "unsafe" not in policy


def test_policy_leaves_the_admin_alone(db):
    assert "Content-Security-Policy" not in Client().get("/admin/login/").headers


def test_missing_page_is_told_with_the_policy(db):
    response = Client().get("/nothing/")
    assert response.status_code == 404
    assert "There is no page at this address." in response.text
    assert "Content-Security-Policy" in response.headers


@pytest.mark.parametrize("path", ["/playground/", "/chat/", "/chat/tea/", "/prices/"])
def test_demo_pages_need_a_login(db, path):
    response = Client().get(path)
    assert (response.status_code, response["Location"]) == (302, f"/login/?next={path}")


def test_chat_names_the_topic_of_its_room(users):
    client = Client()
    client.force_login(users["alice"])
    assert 'data-topic="room.tea"' in client.get("/chat/tea/").text
    assert client.get("/chat/?room=tea")["Location"] == "/chat/tea/"
    refused = client.get("/chat/?room=no.dots")
    assert refused.status_code == 400
    assert "letters, digits" in refused.text
