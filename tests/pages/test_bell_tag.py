"""The template tag `realtime_bell`, where NATS is away; with it: tests/browser/test_bell.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.template import engines
from django.test import RequestFactory

from realtime import reading
from realtime.protocol.exceptions import Unavailable

SOMEBODY = SimpleNamespace(pk=7, is_authenticated=True)
NOBODY = SimpleNamespace(pk=None, is_authenticated=False)


@pytest.fixture(autouse=True)
def stream_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def inbox(user_id: Any, limit: int) -> None:
        raise Unavailable("NATS is away.")

    monkeypatch.setattr(reading, "inbox", inbox)


def render(options: str = "", user: Any = SOMEBODY, **context: Any) -> str:
    template = "{% load realtime %}{% realtime_bell " + options + " %}"
    request = RequestFactory().get("/")
    request.csp_nonce = context.pop("of_request", "")
    return engines["django"].from_string(template).render({"user": user, **context}, request)


def test_bell_is_there_without_the_stream():
    html = render()
    assert 'data-topic="user.7.notifications"' in html
    assert 'data-read-topic="user.7.read"' in html
    assert "rt-bell-data" not in html


def test_bell_has_nothing_inline():
    html = render()
    assert "style=" not in html
    assert " on" not in html.replace(" only", "")
    assert html.count("<script") == html.count('<script type="module" src=')


@pytest.mark.parametrize("context", [{"csp_nonce": "n"}, {"of_request": "n"}])
def test_bell_carries_the_nonce_of_the_page(context):
    html = render(**context)
    assert html.count('nonce="n"') == html.count("<script") + html.count("<link") == 2


def test_bell_shows_nothing_to_who_is_not_logged_in():
    assert render(user=NOBODY).strip() == ""
    assert render('login_url="login"', NOBODY).strip() == (
        '<a class="rt-bell-login" href="/login/">Log in</a>'
    )


def test_bell_links_to_all_notifications_where_told():
    assert "All notifications" not in render()
    assert 'href="/notifications/">All notifications' in render('all_url="notifications"')
