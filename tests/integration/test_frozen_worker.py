"""A change of rules while the auth worker is frozen: nothing leaks, and nobody is thrown out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as project

from tests.support.backend import backend, in_thread
from tests.support.gateways import Cluster
from tests.support.waiting import until

from .test_live_control import EFFECT, Person, publish


@pytest.fixture
def site(tmp_path: Path, data_template: Path, django_db_blocker: object) -> Iterator[Cluster]:
    """Run a web process and an auth worker, with this process as their backend."""
    cluster = Cluster(tmp_path, data_template, {"SECRET_KEY": project.SECRET_KEY, "REDIS_URL": ""})
    try:
        cluster.start(web=1, bridges=0, auth_workers=1)
        with backend(cluster.data_dir, cluster.nats.url, django_db_blocker):
            yield cluster
    finally:
        cluster.close()


async def test_deny_while_the_worker_is_frozen_leaks_nothing_and_costs_the_rest_nothing(
    site: Cluster,
) -> None:
    person = await in_thread(Person, "frozen")
    rule = await in_thread(person.allow, "room.withdrawn")
    await in_thread(person.allow, "room.kept")
    async with site.client(person.token) as client:
        for topic in ("room.withdrawn", "room.kept"):
            await client.subscribe(topic)
        (worker,) = site.auth_workers
        worker.pause()
        await in_thread(rule.delete)
        await until(lambda: site.web[0].find("suspended session="), EFFECT)
        for topic in ("room.withdrawn", "room.kept"):
            await publish(topic, "meanwhile")
        await client.ask("ping", "pong")
        await client.expect_nothing("message")
        assert (await client.error("subscribe", topic="room.kept"))["code"] == "UNAVAILABLE"
        worker.resume()
        await client.expect("unsubscribed", topic="room.withdrawn", reason="acl", timeout=EFFECT)
        await client.expect("message", topic="room.kept", data="meanwhile", timeout=EFFECT)
        await client.expect_nothing("message", topic="room.withdrawn")
