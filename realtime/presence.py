"""Presence: joins and leaves of the topics that sockets of this process watch.

While somebody watches a topic, each process tells the others who is on it (rosters.py): when
that changes, gathered for a moment, and again every few seconds. It also says every second or
so that it lives. One that says nothing counts as dead, and its users as gone. Where nobody
watches, nothing is told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from .holders import Holders
from .protocol.attendance import MAX_PRESENT, Attendance, merged
from .protocol.exceptions import GatewayError, TooManySubscriptions
from .protocol.limits import RateLimit
from .protocol.messages import Roster
from .rosters import AGES, Here, Note, Rosters, View, look
from .watchers import Audience, Watcher

logger = logging.getLogger(__name__)

BEATS_PER_AGE = 5
"""Signs of life within the age limit."""
DEAD_BEATS = 3.5
"""Beats without a sign of life after which a process counts as dead, within the age limit."""
FULL_BEATS = 10
"""Beats after which everything is told again: it may have been lost, and is let go in the end."""
SETTLE = 0.5
"""Seconds in which processes tell who is on a topic that is newly watched."""
GATHER = 0.1
"""Seconds in which changes are gathered."""
RETRY = 1.0
"""Seconds until the next try when NATS does not answer."""
BURST, RATE = 64 * 1024, 1024**2
"""Bytes that are told at once, and in a second."""
MAX_WATCHED = 1000
"""Topics that the sockets of one process watch."""
EVERYONE = ""


class Presence:
    """Watches topics for one process, and tells the others about its own users.

    Args:
        rosters: how processes tell each other.
        holders: the sessions of this process, by topic.
        ask: who is on a topic that nobody here watches.
        grace: seconds that a user may be away without having left.
    """

    def __init__(
        self,
        rosters: Rosters,
        holders: Holders,
        ask: Callable[[str], Awaitable[list[dict[str, Any]]]],
        *,
        grace: float,
    ) -> None:
        self._rosters = rosters
        self._holders = holders
        self._ask = ask
        self._grace = grace
        self._audiences: dict[str, Audience] = {}
        self._views: dict[str, View] = {}
        self._mine: dict[str, Here] = {}
        self._wanted: set[str] = set()
        self._touched: set[str] = set()
        self._behind: set[str] = set()
        self._heard_meanwhile: set[tuple[str, str]] | None = None
        self._news = asyncio.Event()
        self._complaints = RateLimit(rate=0.1, burst=1)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen to the others, and read what they have told before."""
        await self._rosters.listen(self._heard)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._beat()), loop.create_task(self._follow())]
        self.renew()

    async def stop(self) -> None:
        """Say that this process ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks and self._wanted:
            await self._rosters.leave()

    def renew(self) -> None:
        """Read and tell everything anew: some of it may have been lost."""
        self._behind.add(EVERYONE)
        self._touched |= self._wanted
        self._news.set()

    def check_room(self, topic: str) -> None:
        """Return when one more topic may be watched.

        Raises:
            TooManySubscriptions: otherwise.
        """
        if topic not in self._audiences and len(self._audiences) >= MAX_WATCHED:
            raise TooManySubscriptions(
                "Too many topics are watched for presence here: try again later.", topic=topic
            )

    def watch(self, topic: str, watcher: Watcher) -> None:
        """Tell a socket who comes and goes, until `unwatch`."""
        if topic not in self._audiences:
            settled = asyncio.get_running_loop().time() + SETTLE
            self._audiences[topic] = Audience(topic, Attendance(self._grace), settled)
            self._wanted.add(topic)
            self.touch(topic)
        self._audiences[topic].watchers.add(watcher)
        watcher.topics.add(topic)

    def unwatch(self, topic: str, watcher: Watcher) -> None:
        """Tell a socket nothing more about a topic."""
        if topic not in watcher.topics:
            return
        watcher.topics.discard(topic)
        audience = self._audiences[topic]
        audience.watchers.discard(watcher)
        if not audience.watchers:
            self.touch(topic)
            del self._audiences[topic]

    def touch(self, topic: str) -> None:
        """Note that a session of this process joined a topic or left it."""
        if topic in self._wanted:
            self._touched.add(topic)
            self._news.set()

    async def members(self, topic: str) -> list[dict[str, Any]]:
        """Return who is on a topic, as joins and leaves tell it where it is watched.

        Raises:
            Unavailable: when NATS is away.
        """
        audience = self._audiences.get(topic)
        if audience is not None:
            wait = audience.settled - asyncio.get_running_loop().time()
            await asyncio.sleep(max(wait, 0.0))
        # It may have gone meanwhile.
        if audience is None or topic not in self._audiences or not self._rosters.connected:
            return await self._ask(topic)
        self._mine[topic] = look(self._holders.of(topic))
        self._see(topic)
        return [msgspec.to_builtins(one) for one in audience.attendance.members]

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        every = self._rosters.max_age / BEATS_PER_AGE
        last = loop.time()
        # Not all processes tell everything in the same second.
        count = random.randrange(FULL_BEATS)
        while True:
            await asyncio.sleep(every)
            count += 1
            before, last = last, loop.time()
            try:
                if last - before > 2 * every or not self._rosters.connected:
                    # Nobody could be heard: that says nothing of the others.
                    for view in self._views.values():
                        view.heard = last
                self._bury(last - DEAD_BEATS * every)
                for topic in tuple(self._audiences):
                    self._see(topic)
                if self._wanted:
                    await self._rosters.beat()
                    if count % FULL_BEATS == 0:
                        self._touched |= self._wanted
                        self._news.set()
            except GatewayError as exc:
                logger.debug("sign of life not told reason=%s", exc)
            except Exception:
                logger.exception("presence beat failed")

    async def _follow(self) -> None:
        """Read what was missed, and tell what changed here, gathered for a moment."""
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER)
            self._news.clear()
            try:
                await self._catch_up()
            except GatewayError as exc:
                if self._complaints.allows(asyncio.get_running_loop().time()):
                    logger.warning("presence is behind reason=%s", exc)
                await asyncio.sleep(RETRY)
                self._news.set()
            except Exception:
                logger.exception("presence failed")

    async def _catch_up(self) -> None:
        try:
            # First, for it makes the bucket: nothing keeps what is told before.
            for process in tuple(self._behind):
                await self._read(process)
        except GatewayError:
            # Those who listen now hear it all the same.
            await self._tell()
            raise
        await self._tell()

    async def _read(self, process: str) -> None:
        """Take in what a process, or everyone, told before it was heard."""
        self._heard_meanwhile = set()
        try:
            notes = await self._rosters.load(process)
            self._behind.discard(process)
            # Signs of life first: without one, what a process told counts no more.
            for note in sorted(notes, key=lambda note: note.topic):
                if note[:2] not in self._heard_meanwhile:
                    self._take(note, stored=True)
        finally:
            self._heard_meanwhile = None

    async def _tell(self) -> None:
        """Tell what changed here."""
        touched, self._touched = self._touched, set()
        self._forget_unwatched()
        for topic in touched & self._wanted:
            self._mine[topic] = look(self._holders.of(topic))
        for topic in touched:
            self._see(topic)
        try:
            if self._wanted and touched:
                await self._rosters.beat()
            told = 0
            for topic in touched:
                members = list(self._mine.get(topic, {}).values())
                told += await self._rosters.put(topic, Roster(topic in self._audiences, members))
                if told > BURST:
                    await asyncio.sleep(told / RATE)
                    told = 0
        except GatewayError:
            self._touched |= touched
            raise

    def _forget_unwatched(self) -> None:
        """Keep only what somebody watches; who still does says so again and again."""
        old = asyncio.get_running_loop().time() - self._rosters.max_age * AGES
        self._wanted = {*self._audiences}
        for view in self._views.values():
            view.watching = {topic: at for topic, at in view.watching.items() if at > old}
            self._wanted |= view.watching.keys()
        for table in (self._mine, *(view.topics for view in self._views.values())):
            for topic in table.keys() - self._wanted:
                del table[topic]

    def _see(self, topic: str, since: float | None = None) -> None:
        """Have the audience of a topic told who came and went, if it has one."""
        audience = self._audiences.get(topic)
        if audience is not None:
            here = [self._mine.get(topic, {})]
            here += [view.topics[topic] for view in self._views.values() if topic in view.topics]
            audience.see(merged(here), now=asyncio.get_running_loop().time(), since=since)

    def _bury(self, silent_since: float) -> None:
        """Forget processes that have not said for too long that they live."""
        for process, view in tuple(self._views.items()):
            if view.heard < silent_since:
                self._drop(process, view.heard)

    def _drop(self, process: str, since: float) -> None:
        if (view := self._views.pop(process, None)) is not None:
            for topic in view.topics:
                self._see(topic, since)
            self._news.set()

    def _heard(self, note: Note) -> None:
        if self._heard_meanwhile is not None:
            self._heard_meanwhile.add(note[:2])
        self._take(note, stored=False)

    def _take(self, note: Note, *, stored: bool) -> None:
        now = asyncio.get_running_loop().time()
        if note.gone:
            self._drop(note.process, now)
            return
        view = self._views.get(note.process)
        if view is None:
            if stored and note.topic:
                return
            view = self._views[note.process] = View(now)
            if not stored:
                self._behind.add(note.process)
                self._news.set()
        if not stored:
            view.heard = now
        if note.topic:
            self._learn(view, note.topic, note.roster)

    def _learn(self, view: View, topic: str, roster: Roster) -> None:
        if roster.watched:
            known = topic in view.watching
            view.watching[topic] = asyncio.get_running_loop().time()
            self._wanted.add(topic)
            if not known:
                self.touch(topic)
        elif view.watching.pop(topic, None) is not None:
            self._news.set()
        view.topics[topic] = {one.user_id: one for one in roster.members[:MAX_PRESENT]}
        self._see(topic)
