"""Presence of several processes over a real NATS server: who comes, who goes, who dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from realtime import presence, rosters
from realtime.broker import Broker, connected
from realtime.embedded import NatsServer
from realtime.holders import Holders
from realtime.presence import Presence
from realtime.protocol.exceptions import TooManySubscriptions
from realtime.protocol.messages import Identity, Roster
from realtime.protocol.rules import parse_rules
from realtime.protocol.session import Session
from realtime.rosters import Rosters
from realtime.watchers import Watcher
from tests.support.waiting import DEADLINE, until

from .support import TOPIC, FakeSocket
from .test_connection import limits

AGE = 10.0
"""Seconds without a sign of life after which a process counts as dead: more than a busy machine
takes for one."""
SHORT_AGE = 1.0
"""The same where a test waits for it, as few as NATS takes."""
OTHER = "room.other"


class Process:
    """The presence of one process, with users who sit on topics."""

    def __init__(self, broker: Broker, *, grace: float = 0.0, age: float = AGE) -> None:
        self.broker = broker
        self.rosters = Rosters(broker, "P", replicas=1, max_age=age, timeout=DEADLINE)
        self.holders = Holders()
        self.presence = Presence(self.rosters, self.holders, self._ask, grace=grace)
        self.asked: list[str] = []

    async def _ask(self, topic: str) -> list[dict[str, Any]]:
        self.asked.append(topic)
        return [{"userId": "asked"}]

    def sit(
        self, user: str, topic: str = TOPIC, info: dict[str, Any] | None = None
    ) -> Callable[[], None]:
        """Have a session of a user join a topic; return how it leaves."""
        session = Session(limits(), now=0.0)
        session.authenticate(Identity(user, parse_rules(None, user), None, (), info))
        self.holders.add(topic, session)
        self.presence.touch(topic)

        def leave() -> None:
            self.holders.discard(topic, session)
            self.presence.touch(topic)

        return leave

    def watch(self, topic: str = TOPIC) -> Watching:
        """Have a socket watch a topic."""
        return Watching(self, topic)

    def die(self) -> None:
        """Say and hear nothing any more, as after kill -9."""
        for task in self.presence._tasks:
            task.cancel()
        self.presence._news.clear()


class Watching:
    """A socket that watches, and whom it was told of."""

    def __init__(self, process: Process, topic: str) -> None:
        self.process, self.topic = process, topic
        self.socket = FakeSocket()
        self.watcher = Watcher(self.socket)
        process.presence.watch(topic, self.watcher)

    @property
    def told(self) -> list[str]:
        """Joins and leaves as `+user` and `-user`, in the order in which they came."""
        return [
            change
            for frame in self.socket.of("presence")
            for change in (
                *(f"+{one['userId']}" for one in frame["joined"]),
                *(f"-{one}" for one in frame["left"]),
            )
        ]

    async def present(self) -> list[tuple[str, int]]:
        """Return who is there, with how many sockets."""
        members = await self.process.presence.members(self.topic)
        return [(one["userId"], one["connections"]) for one in members]

    async def until_present(self, *wanted: tuple[str, int]) -> None:
        """Wait until just these are there."""

        async def there() -> bool:
            return await self.present() == list(wanted)

        await until(there)

    def unwatch(self) -> None:
        self.process.presence.unwatch(self.topic, self.watcher)


Start = Callable[..., Any]


@pytest.fixture
async def start(nats_server: NatsServer) -> AsyncIterator[Start]:
    """Return a function that starts a process; all end after the test."""
    async with AsyncExitStack() as stack:
        ended: list[Process] = []

        async def start(**options: Any) -> Process:
            broker = await stack.enter_async_context(connected(nats_server.url, name="web"))
            process = Process(broker, **options)
            broker.on_reconnect.append(process.presence.renew)
            await process.presence.start()
            ended.append(process)
            return process

        yield start
        for process in ended:
            await process.presence.stop()


async def test_who_is_there_already_does_not_join(start: Start) -> None:
    one, two = await start(), await start()
    one.sit("a")
    two.sit("b", info={"name": "bob"})
    watching = one.watch()
    await watching.until_present(("a", 1), ("b", 1))
    assert watching.told == []


async def test_join_and_leave_at_another_process_are_told(start: Start) -> None:
    one, two = await start(), await start()
    watching = one.watch()
    await watching.until_present()
    leave = two.sit("b", info={"name": "bob"})
    await until(lambda: watching.told == ["+b"])
    assert watching.socket.of("presence") == [
        {
            "type": "presence",
            "topic": TOPIC,
            "joined": [{"userId": "b", "info": {"name": "bob"}}],
            "left": [],
        }
    ]
    leave()
    await until(lambda: watching.told == ["+b", "-b"])


async def test_second_socket_of_a_user_is_no_join(start: Start) -> None:
    one, two = await start(), await start()
    watching = one.watch()
    await watching.until_present()
    here, there = one.sit("a"), two.sit("a")
    await watching.until_present(("a", 2))
    here()
    await watching.until_present(("a", 1))
    assert watching.told == ["+a"]
    there()
    await until(lambda: watching.told == ["+a", "-a"])


async def test_moving_to_another_process_within_the_grace_is_not_told(start: Start) -> None:
    one, two = await start(grace=60.0), await start(grace=60.0)
    watching = one.watch()
    await watching.until_present()
    leave = one.sit("a")
    await until(lambda: watching.told == ["+a"])
    leave()
    await watching.until_present(("a", 0))
    two.sit("a")
    await watching.until_present(("a", 1))
    assert watching.told == ["+a"]


async def test_process_that_dies_takes_its_users_along(start: Start) -> None:
    one, two, three = [await start(age=SHORT_AGE) for _ in range(3)]
    watching = one.watch()
    two.sit("b")
    three.sit("c")
    await watching.until_present(("b", 1), ("c", 1))
    two.die()
    # Where signs of life are late, one that lives counts as dead for a moment.
    await watching.until_present(("c", 1))
    assert "-b" in watching.told


async def test_process_that_ends_says_so(start: Start) -> None:
    one, two = await start(), await start()
    watching = one.watch()
    two.sit("b")
    await watching.until_present(("b", 1))
    await two.presence.stop()
    await until(lambda: watching.told == ["-b"])
    assert two.rosters.process not in one.presence._views


async def test_process_that_was_away_is_there_again_with_all_its_users(start: Start) -> None:
    """Others forgot it, and it does not know: they read what it told before."""
    one, two = await start(), await start()
    watching = one.watch()
    two.sit("b")
    await watching.until_present(("b", 1))
    one.presence._drop(two.rosters.process, 0.0)
    assert watching.told == ["-b"]
    await until(lambda: watching.told == ["-b", "+b"])


async def test_new_process_reads_what_the_others_watch(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is told again by and by.
    monkeypatch.setattr(presence, "FULL_BEATS", 10**9)
    one = await start()
    watching = one.watch()
    await watching.until_present()
    two = await start()
    await until(lambda: TOPIC in two.presence._wanted)
    two.sit("b")
    await until(lambda: watching.told == ["+b"])


async def test_nothing_is_told_where_nobody_watches(start: Start) -> None:
    one, two = await start(), await start()
    watching = one.watch(OTHER)
    await watching.until_present()
    two.sit("b", TOPIC)
    two.sit("b", OTHER)
    await until(lambda: watching.told == ["+b"])
    assert {note.topic for note in await one.rosters.load()} == {"", OTHER}


async def test_not_watched_any_more_is_told_no_more(start: Start) -> None:
    one, two = await start(), await start()
    watching = one.watch()
    await watching.until_present()
    await until(lambda: TOPIC in two.presence._wanted)
    watching.unwatch()
    await until(lambda: TOPIC not in two.presence._wanted)
    two.sit("b")
    assert not two.presence._touched
    again = one.watch()
    await again.until_present(("b", 1))
    assert watching.told == []


async def test_watched_by_two_stays_when_one_goes(start: Start) -> None:
    one, two = await start(), await start()
    first, second = one.watch(), one.watch()
    await first.until_present()
    first.unwatch()
    two.sit("b")
    await until(lambda: second.told == ["+b"])
    assert first.told == []


async def test_who_asks_where_nobody_watches_is_asked_of_everyone(start: Start) -> None:
    one = await start()
    assert await one.presence.members(TOPIC) == [{"userId": "asked"}]
    watching = one.watch()
    assert await watching.present() == []
    assert one.asked == [TOPIC]


async def test_paused_watcher_is_told_the_outcome_later(start: Start) -> None:
    one = await start()
    watching = one.watch()
    await watching.until_present()
    watching.watcher.pause()
    for user in ("a", "b"):
        leave = one.sit(user)
        await watching.until_present(*([("a", 1)] if user == "a" else [("a", 1), ("b", 1)]))
    leave()
    await watching.until_present(("a", 1))
    assert watching.told == []
    watching.watcher.go_on()
    assert watching.told == ["+a", "-b"]


async def test_nats_restarted_goes_on_without_a_false_leave(start: Start, nats_server: Any) -> None:
    one, two = await start(), await start()
    watching = one.watch()
    two.sit("b")
    await watching.until_present(("b", 1))
    nats_server.stop()
    nats_server.start()
    await until(lambda: one.broker.connected and two.broker.connected)
    two.sit("c")
    await until(lambda: watching.told == ["+c"])


async def test_bounds(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAX_WATCHED", 1)
    monkeypatch.setattr(rosters, "MAX_INFO", 20)
    monkeypatch.setattr(rosters, "MAX_PRESENT", 2)
    one = await start()
    watching = one.watch()
    one.presence.check_room(TOPIC)
    with pytest.raises(TooManySubscriptions):
        one.presence.check_room(OTHER)
    one.sit("a", info={"name": "x" * 20})
    one.sit("b", info={"name": "b"})
    one.sit("c")
    members = await one.presence.members(TOPIC)
    assert [one["userId"] for one in members] == ["a", "b"]
    assert [one["info"] for one in members] == [None, {"name": "b"}]
    watching.unwatch()


async def test_entry_that_does_not_parse_is_ignored(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await start(), await start()
    watching = one.watch()
    await watching.until_present()
    for junk in (b"", b"nonsense", b'{"members":7}', b"\xff"):
        await two.broker.publish(f"$KV.P.stranger.{TOPIC}", junk)
    two.sit("b")
    await until(lambda: watching.told == ["+b"])
    # Each process hears it.
    await until(lambda: caplog.text.count("does not parse") == 2 * 4)


async def test_entries_of_a_process_that_lives_no_more_do_not_count(start: Start) -> None:
    one = await start()
    await until(lambda: not one.presence._behind)
    await one.broker.publish(
        f"$KV.P.dead.{TOPIC}", b'{"members":[{"userId":"ghost","connections":1}]}'
    )
    await one.broker.flush()
    two = await start()
    await until(lambda: not two.presence._behind)
    watching = two.watch()
    assert [note.process for note in await two.rosters.load() if note.topic] == ["dead"]
    assert await watching.present() == []


def test_roster_defaults_are_left_out() -> None:
    assert rosters._encode(Roster()) == b"{}"
