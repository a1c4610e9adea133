"""What is read of a user's notifications, against a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from realtime import link, publish, reading
from realtime.broker import Broker
from realtime.embedded import NatsServer
from realtime.history import Page
from realtime.parts import make_history
from realtime.protocol.exceptions import Unavailable
from realtime.publish import latest, notify
from tests.support.backend import backend, copy_of, make_stream
from tests.support.waiting import DEADLINE

from .test_notify import alice


@pytest.fixture(autouse=True)
def data(
    tmp_path: Path,
    data_template: Path,
    nats_server: NatsServer,
    django_db_blocker: object,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """Make this process a backend."""
    monkeypatch.setattr(reading, "_ask_again_at", 0.0)
    monkeypatch.setattr(reading, "AWAY_SECONDS", 3600.0)
    monkeypatch.setattr("realtime.publish.LATEST_TIMEOUT", DEADLINE)
    directory = copy_of(data_template, tmp_path / "data")
    with backend(directory, nats_server.url, django_db_blocker):
        make_stream()
        yield


def logged_in(**options: bool) -> Client:
    client = Client(**options)
    client.force_login(alice())
    return client


def post(client: Client, sequence: object, epoch: str) -> tuple[int, dict[str, Any]]:
    response = client.post("/notifications/read/", {"seqNo": sequence, "epoch": epoch})
    return response.status_code, response.json()


def mark(user_id: int, sequence: int, epoch: str) -> tuple[int, int]:
    """Return where the mark stands then, and how much is unread."""
    moved = asyncio.run(reading.mark_read(user_id, sequence, epoch))
    return moved.sequence, moved.unread


def test_mark_is_kept_and_told_on_the_users_own_topic() -> None:
    user, client = alice(), logged_in()
    for n in range(3):
        notify(user.pk, n)
    before = reading.inbox(user.pk)
    assert before.read == 0
    assert client.get("/notifications/read/").json() == {"seqNo": 0, "epoch": before.latest.epoch}
    epoch, second = before.latest.epoch, before.latest.events[1]["seqNo"]
    marked = {"seqNo": second, "epoch": epoch}
    assert post(client, second, epoch) == (200, marked)
    assert reading.inbox(user.pk).read == second
    assert latest(f"user.{user.pk}.read").events[-1]["data"] == marked
    assert client.get("/notifications/read/").json() == marked


def test_mark_never_goes_back_nor_beyond_what_there_is() -> None:
    user = alice()
    first, top = notify(user.pk, 1), notify(user.pk, 2)
    epoch = reading.inbox(user.pk).latest.epoch
    assert mark(user.pk, 10**9, epoch) == (top.sequence, 0)
    assert mark(user.pk, first.sequence, epoch) == (top.sequence, 0)


def test_mark_of_another_stream_is_refused() -> None:
    status, body = post(logged_in(), 1, "9999-01-01T00:00:00Z")
    assert status == 409
    assert "reload the page" in body["message"]


@pytest.mark.parametrize(("sequence", "epoch"), [("x", "e"), (-1, "e"), (1, ""), (2**60, "e")])
def test_mark_that_is_none_is_told(sequence: object, epoch: str) -> None:
    status, body = post(logged_in(), sequence, epoch)
    assert status == 400
    assert body["errors"]


def test_mark_is_for_who_is_logged_in() -> None:
    assert post(Client(), 1, "e")[0] == 401
    assert Client().get("/notifications/read/").status_code == 401


def test_mark_needs_the_csrf_token() -> None:
    client = logged_in(enforce_csrf_checks=True)
    response = client.post("/notifications/read/", {"seqNo": 1, "epoch": "e"})
    assert response.status_code == 403


def test_notifications_page_brings_what_is_read() -> None:
    user = alice()
    notify(user.pk, "hello")
    client = Client()
    client.force_login(user)
    assert '"read": 0' in client.get("/notifications/").text


LONG, SHORT = "x" * 900, "x" * 200


@pytest.mark.parametrize(
    ("sent", "brought", "cut"),
    [
        ([SHORT, SHORT], [0, 1], False),
        ([SHORT, SHORT, SHORT, SHORT], [2, 3], True),
        ([SHORT, LONG], [0], False),
        ([LONG, SHORT], [1], True),
        ([SHORT, LONG, SHORT, LONG, LONG], [2], True),
        ([LONG, LONG], [], False),
        ([], [], False),
    ],
)
def test_latest_beyond_their_bytes_come_by_the_socket_from_where_the_page_ends(
    monkeypatch: pytest.MonkeyPatch, sent: list[str], brought: list[int], cut: bool
) -> None:
    monkeypatch.setattr(publish, "LATEST_BYTES", 800)
    notify(8, "another's, so that sequences do not begin with one")
    topic, sequences = "user.7.notifications", [notify(7, text).sequence for text in sent]
    page = latest(topic)
    assert [event["seqNo"] for event in page.events] == [sequences[one] for one in brought]
    assert page.cut is cut

    async def resumed(broker: Broker) -> Page:
        return await make_history(broker).page(topic, page.position)

    later = link.run(resumed)
    first = brought[-1] + 1 if brought else 0
    assert [event.sequence for event in later.events] == sequences[first:]
    assert later.complete or not sent  # no gap is claimed


def test_stream_away_is_asked_again_only_after_a_while(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats_server.kill()
    with pytest.raises(Unavailable):
        reading.inbox(7)
    with pytest.raises(Unavailable, match="a moment ago"):
        reading.inbox(7)
    monkeypatch.setattr(reading, "_ask_again_at", 0.0)
    with pytest.raises(Unavailable) as asked:
        reading.inbox(7)
    assert "a moment ago" not in str(asked.value)
