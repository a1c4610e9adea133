"""The watch: shows who may see it what all processes hold, over the gateway itself.

While a socket of this process holds one of the topics below STATS, this process asks all of them
every two seconds (as presence does) and pushes what they answer, as an event that is not stored.
Nothing is asked while nobody looks. These topics are not relayed from NATS, so nobody can publish
there; and only a rule that names them opens them (protocol/rules.py).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import msgspec
from msgspec import Struct

from .broker import Broker
from .connection import Connection
from .control import PRESENCE_WAIT
from .fanout import Fanout
from .nats_client import Message
from .protocol.exceptions import GatewayError, Unavailable
from .protocol.messages import ephemeral_event
from .protocol.subjects import STATS
from .snapshot import Snapshot

logger = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds between two looks."""
NEWEST = 200
"""Connections that are shown: the newest."""
MAX_USERS = 20
"""Users that are looked for at once."""
SHOWN_TOPICS = 5
"""Topics named of a connection; of the others only how many."""
MAX_NAME = 150
"""Characters of a user's name."""

NEWEST_TOPIC = f"{STATS}.newest"
"""Figures of every process, and the newest connections."""
USER_TOPICS = f"{STATS}.user."
"""The connections of one user: this and the user id."""


class Question(Struct, frozen=True):
    """What a process asks all: their figures, and the connections of these users."""

    users: list[str]


class Shown(Struct, frozen=True, rename="camel"):
    """A connection as it is shown.

    Attributes:
        name: what the backend calls the user, if it says so (`info.name`).
        topics: the first ones by name; `topic_count`: how many there are.
        age: seconds since it was opened.
    """

    session: str
    process: str
    user_id: str
    name: str | None
    ip: str
    transport: str
    topics: list[str]
    topic_count: int
    age: float


class Report(Struct, frozen=True):
    """What one process answers.

    Attributes:
        name: host and process id.
        figures: its Snapshot.
        newest: its newest connections; `found`: those of each user that was asked for.
    """

    name: str
    figures: msgspec.Raw
    newest: list[Shown]
    found: dict[str, list[Shown]]


_encode = msgspec.json.Encoder().encode
_decode_question = msgspec.json.Decoder(Question).decode
_decode_report = msgspec.json.Decoder(Report).decode


class Watch:
    """Asks and answers for one process.

    Args:
        subject: on which processes ask each other.
        connections: the authenticated sockets of this process, by user.
        snapshot: what this process holds and counted.
    """

    def __init__(
        self,
        broker: Broker,
        fanout: Fanout,
        subject: str,
        connections: Mapping[str, Set[Connection]],
        snapshot: Callable[[], Snapshot],
    ) -> None:
        self._broker = broker
        self._fanout = fanout
        self._subject = subject
        self._connections = connections
        self._snapshot = snapshot
        self._name = f"{platform.node()}:{os.getpid()}"
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer, and look after those who look on, in the background."""
        await self._broker.subscribe(self._subject, self._answer)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End what runs in the background."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            if topics := self._watched():
                try:
                    await self._tell(topics)
                except Exception:
                    logger.exception("figures not told")

    def _watched(self) -> list[str]:
        prefix = f"{STATS}."
        feeds = self._fanout.feeds.items()
        return [topic for topic, feed in feeds if topic.startswith(prefix) and feed.holders]

    async def _tell(self, topics: Iterable[str]) -> None:
        wanted = {one.removeprefix(USER_TOPICS) for one in topics if one.startswith(USER_TOPICS)}
        users = sorted(wanted)[:MAX_USERS]
        reports = await self._ask(Question(users))
        if NEWEST_TOPIC in topics:
            processes = [{"name": one.name, "figures": one.figures} for one in reports]
            newest = _newest(shown for one in reports for shown in one.newest)
            self._push(NEWEST_TOPIC, {"processes": processes, "connections": newest})
        for user in users:
            found = _newest(shown for one in reports for shown in one.found.get(user, ()))
            self._push(f"{USER_TOPICS}{user}", {"connections": found})

    async def _ask(self, question: Question) -> list[Report]:
        """Return what every process answers in time; this one's word alone while NATS is away."""
        try:
            replies = await self._broker.gather(
                self._subject, _encode(question), wait=PRESENCE_WAIT
            )
        except Unavailable:
            return [_decode_report(self._report(question))]
        reports = []
        for reply in replies:
            try:
                reports.append(_decode_report(reply.data))
            except msgspec.DecodeError as exc:
                logger.warning("a process's report does not parse reason=%s", exc)
        return sorted(reports, key=lambda one: one.name)

    def _push(self, topic: str, data: Any) -> None:
        feed = self._fanout.feeds.get(topic)
        if feed is not None:
            now, message_id = int(time.time() * 1000), uuid.uuid4().hex
            event = ephemeral_event(topic, _encode(data), {}, message_id=message_id, timestamp=now)
            feed.push(event)

    async def _answer(self, message: Message) -> None:
        try:
            await self._broker.publish(message.reply, self._report(_decode_question(message.data)))
        except (msgspec.DecodeError, GatewayError) as exc:
            logger.debug("not answered subject=%s reason=%s", message.subject, exc)

    def _report(self, question: Question) -> bytes:
        everyone = (one for mine in self._connections.values() for one in mine)
        return _encode(
            Report(
                name=self._name,
                figures=msgspec.Raw(_encode(self._snapshot())),
                newest=self._show(everyone),
                found={
                    user: self._show(self._connections.get(user, ()))
                    for user in question.users[:MAX_USERS]
                },
            )
        )

    def _show(self, connections: Iterable[Connection]) -> list[Shown]:
        now = asyncio.get_running_loop().time()
        newest = heapq.nlargest(NEWEST, connections, key=lambda one: one.began)
        return [self._shown(one, now) for one in newest if one.user_id is not None]

    def _shown(self, connection: Connection, now: float) -> Shown:
        name = (connection.info or {}).get("name")
        return Shown(
            session=connection.id,
            process=self._name,
            user_id=connection.user_id or "",
            name=name[:MAX_NAME] if isinstance(name, str) else None,
            ip=connection.peer.ip,
            transport=connection.peer.transport,
            topics=heapq.nsmallest(SHOWN_TOPICS, connection.topics),
            topic_count=len(connection.topics),
            age=round(now - connection.began, 1),
        )


def _newest(connections: Iterable[Shown]) -> list[Shown]:
    return heapq.nsmallest(NEWEST, connections, key=lambda one: one.age)
