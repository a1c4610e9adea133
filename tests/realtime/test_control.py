"""Statistics: what processes tell of themselves, asked over a real nats-server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from realtime.broker import Broker
from realtime.control import MAX_BUSIEST, Control
from realtime.embedded import NatsServer
from realtime.holders import Holders
from realtime.nats_client import Message
from realtime.protocol.exceptions import Unavailable
from realtime.protocol.messages import Identity, ProcessStats
from realtime.protocol.rules import parse_rules
from realtime.protocol.session import Session
from realtime.protocol.subjects import Subjects
from tests.support.waiting import until

from .test_connection import limits

SUBJECTS = Subjects("gateway")
Sockets = list[set[str]]
"""The topics of each socket."""


def control(broker: Broker, **users: Sockets) -> Control:
    """Return the control of a process with these users' sockets."""
    connections = {
        user: [SimpleNamespace(topics=topics) for topics in sockets]
        for user, sockets in users.items()
    }
    return Control(broker, SUBJECTS, cast(Any, connections), Holders())


async def told(broker: Broker, processes: int = 1) -> list[ProcessStats]:
    """Return what so many processes tell, once all of them did so in time."""

    async def in_time() -> list[ProcessStats] | None:
        found = await control(broker).stats()
        return found if len(found) == processes else None

    found = await until(in_time, what=f"{processes} answers")
    assert found is not None
    return found


async def test_stats_count_sessions_users_and_topics(broker: Broker) -> None:
    await control(broker, alice=[{"room.a", "room.b"}, {"room.a"}], bob=[set()]).start()
    (one,) = await told(broker)
    assert (one.sessions, one.users, one.subscriptions) == (3, 2, 3)
    assert one.topics == {"room.a": 2, "room.b": 1}


async def test_stats_name_the_busiest_topics_only(broker: Broker) -> None:
    many = {f"room.{number}" for number in range(MAX_BUSIEST + 50)}
    await control(broker, alice=[many, {"room.7"}]).start()
    (one,) = await told(broker)
    assert one.subscriptions == len(many) + 1
    assert len(one.topics) == MAX_BUSIEST
    assert next(iter(one.topics.items())) == ("room.7", 2)


async def test_stats_of_several_processes_are_one_each(broker: Broker) -> None:
    await control(broker, alice=[set()]).start()
    await control(broker, alice=[set(), set()]).start()
    assert sorted(one.sessions for one in await told(broker, 2)) == [1, 2]


async def test_stats_that_do_not_parse_are_left_out(broker: Broker) -> None:
    async def nonsense(message: Message) -> None:
        await broker.publish(message.reply, b'{"name": 1}')

    await broker.subscribe(SUBJECTS.stats, nonsense)
    await control(broker).start()
    assert len(await told(broker)) == 1


async def test_stats_nats_away_are_unavailable(broker: Broker, nats_server: NatsServer) -> None:
    nats_server.kill()
    await until(lambda: not broker.connected, what="the connection to be missed")
    with pytest.raises(Unavailable):
        await control(broker).stats()


async def test_presence_names_each_user_on_the_topic_once_over_all_processes(
    broker: Broker,
) -> None:
    for users in (("alice", "alice", "bob"), ("alice", "carol")):
        holders = Holders()
        for user in users:
            session = Session(limits(), now=0.0)
            session.authenticate(Identity(user, parse_rules(None, user), None, (), {"name": user}))
            holders.add("room.other" if user == "carol" else "room.a", session)
        await Control(broker, SUBJECTS, {}, holders).start()
    everyone = [
        {"userId": "alice", "connections": 3, "info": {"name": "alice"}},
        {"userId": "bob", "connections": 1, "info": {"name": "bob"}},
    ]

    async def named() -> bool:
        return await control(broker).presence("room.a") == everyone

    await until(named, what="the answers of both processes in time")
    assert await control(broker).presence("room.nobody") == []
