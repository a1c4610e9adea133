"""The plugin `realtime.testing`: what docs/testing.md shows, and that its helpers can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.db import transaction

from realtime.protocol.exceptions import Unavailable
from realtime.publish import anotify, latest, notify, publish
from realtime.testing.broker import MemoryBroker

DOC = Path(__file__).resolve().parents[1] / "docs" / "testing.md"


def test_notify_is_kept_and_found(realtime_broker: MemoryBroker) -> None:
    notify(7, {"title": "Tea"})
    publish("live.price", [1, 2])
    realtime_broker.assert_notified(7, {"title": "Tea"})
    realtime_broker.assert_published("live.price", [1, 2])
    assert [one.topic for one in realtime_broker.sent] == ["user.7.notifications", "live.price"]


async def test_anotify_is_kept(realtime_broker: MemoryBroker) -> None:
    await anotify(7, "hello")
    realtime_broker.assert_notified(7, "hello")


def test_assertions_fail_and_say_what_was_sent(realtime_broker: MemoryBroker) -> None:
    realtime_broker.assert_nothing_sent()
    notify(7, {"title": "Tea"})
    with pytest.raises(AssertionError, match=r"user\.7\.notifications: .*Tea"):
        realtime_broker.assert_notified(8, {"title": "Tea"})
    with pytest.raises(AssertionError, match=r"Coffee.* was not published"):
        realtime_broker.assert_notified(7, {"title": "Coffee"})
    with pytest.raises(AssertionError, match="something was sent"):
        realtime_broker.assert_nothing_sent()


def test_same_message_id_is_kept_once(realtime_broker: MemoryBroker) -> None:
    first = notify(7, "a", message_id="one")
    again = notify(7, "a", message_id="one")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.sequence == again.sequence == 1
    assert realtime_broker.sent_on("user.7.notifications") == ["a"]


@pytest.mark.django_db
def test_transaction_that_rolls_back_sends_nothing(realtime_broker: MemoryBroker) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        notify(7, "never")
        realtime_broker.assert_notified(7, "never")  # it waits in the outbox
        raise ZeroDivisionError
    realtime_broker.assert_nothing_sent()


def test_latest_says_that_there_is_no_stream(realtime_broker: MemoryBroker) -> None:
    with pytest.raises(Unavailable, match="no stream"):
        latest("room.lobby")


def test_program_in_the_documentation_is_the_tested_one() -> None:
    shown = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    program = (Path(__file__).parent / "ownproject" / "mysite" / "test_shop.py").read_text(
        encoding="utf-8"
    )
    assert program in shown
