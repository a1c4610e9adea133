"""The test as a backend: Django's ORM on a site's database, `notify` and commands on its NATS."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import connections
from django.test import override_settings

from realtime import link
from realtime.broker import Broker
from realtime.nats_client import Message
from realtime.parts import make_history

T = TypeVar("T")

DATABASE = "db.sqlite3"
"""The database's name in a data directory."""


@contextlib.contextmanager
def backend(data_dir: Path, nats_url: str, blocker: Any) -> Iterator[None]:
    """Make this process a backend of what runs on a data directory and a NATS server.

    Transactions are real: pytest-django's wrap nothing here, and its database is not touched.

    Args:
        data_dir: holds a migrated database.
        blocker: the fixture `django_db_blocker`.
    """
    before, wrapper = connections.settings["default"], connections["default"]
    connections.settings["default"] = {**before, "NAME": str(data_dir / DATABASE)}
    # Threads make theirs from the settings; this one has one already.
    connections["default"] = mine = connections.create_connection("default")
    try:
        with (
            blocker.unblock(),
            override_settings(REALTIME={**settings.REALTIME, "NATS_URL": nats_url}),
        ):
            yield
    finally:
        close_link()
        if mine.connection is not None:  # else it was never used, as where a loop runs
            mine.close()
        connections.settings["default"] = before
        connections["default"] = wrapper


def copy_of(template: Path, directory: Path) -> Path:
    """Return a data directory with a copy of a template's database and keys."""
    return Path(shutil.copytree(template, directory, dirs_exist_ok=True))


def close_link() -> None:
    """Close this process's link, so that it does not look for a server that is gone."""
    with link._lock:
        current, link._current = link._current, None
    if current is not None:
        current.close()


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """Run backend code as a request does: in a thread, whose database connection then closes."""

    def run() -> T:
        try:
            return work(*args)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


def make_stream() -> None:
    """Make the configured stream, as a gateway does when it starts."""
    link.run(lambda broker: make_history(broker).open())


def stored(topic: str) -> list[Message]:
    """Return what the configured stream holds of a topic, oldest first."""

    async def read(broker: Broker) -> list[Message]:
        found: list[Message] = []
        while True:
            start = int(found[-1].headers["Nats-Sequence"]) + 1 if found else 1
            query = {"seq": start, "next_by_subj": topic, "batch": 500}
            page = await broker.direct_get("GATEWAY", query, timeout=5)
            found += page
            if len(page) < 500:
                return found

    return link.run(read)


def ids_stored(topic: str) -> list[str]:
    """Return the message ids of what the stream holds of a topic, oldest first."""
    return [message.headers["Nats-Msg-Id"] for message in stored(topic)]
