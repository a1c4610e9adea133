"""Control: what backends tell every gateway, and what gateways ask each other.

A backend disconnects a user, takes a topic away, or says whose rules changed. Gateways ask
each other who is on a topic: each answers for its own sockets, so a process that died has
nobody to be forgotten.
"""

from __future__ import annotations

import logging
import os
import platform
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from .broker import Broker
from .connection import Connection
from .holders import Holders
from .nats_client import Message
from .protocol.exceptions import GatewayError
from .protocol.messages import ControlAcl, ControlUser, ProcessStats
from .protocol.subjects import Subjects

logger = logging.getLogger(__name__)

SPREAD_PER_SESSION = 0.002
"""Seconds by which each further session's re-authorisation is spread."""
MAX_SPREAD = 1.5
"""Longest spread in seconds: a change of rules reaches open sockets within two."""
PRESENCE_WAIT = 0.25
"""Seconds in which gateways answer each other."""
MAX_PRESENT = 1000
"""Members in a presence reply."""
MAX_BUSIEST = 100
"""Topics in what a process tells of itself."""

_decode_user = msgspec.json.Decoder(ControlUser).decode
_decode_acl = msgspec.json.Decoder(ControlAcl).decode
_decode_stats = msgspec.json.Decoder(ProcessStats).decode
_decode_members = msgspec.json.Decoder(list[dict[str, Any]]).decode


class Control:
    """Listens on the control subjects for one process.

    Args:
        connections: the authenticated sockets of this process, by user.
        holders: its sessions, by topic.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        connections: Mapping[str, set[Connection]],
        holders: Holders,
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._connections = connections
        self._holders = holders
        self.changes = 0

    async def start(self) -> None:
        """Subscribe."""
        await self._broker.subscribe(f"{self._subjects.control_user}.*", self._user)
        await self._broker.subscribe(self._subjects.control_acl, self._acl)
        await self._broker.subscribe(self._subjects.presence, self._answer_presence)
        await self._broker.subscribe(self._subjects.stats, self._answer_stats)

    async def presence(self, topic: str) -> list[dict[str, Any]]:
        """Return who is on a topic, over all gateways: one entry a user, with its sockets.

        Raises:
            Unavailable: when NATS is away.
        """
        replies = await self._broker.gather(
            self._subjects.presence, topic.encode(), wait=PRESENCE_WAIT
        )
        members: dict[str, dict[str, Any]] = {}
        for reply in replies:
            try:
                for member in _decode_members(reply.data):
                    known = members.setdefault(member["userId"], member)
                    if known is not member:
                        known["connections"] += member["connections"]
            except (msgspec.DecodeError, KeyError, TypeError):
                logger.warning("a presence answer does not parse")
        return [members[key] for key in sorted(members)][:MAX_PRESENT]

    async def stats(self) -> list[ProcessStats]:
        """Return what each gateway process holds.

        Raises:
            Unavailable: when NATS is away.
        """
        found = []
        for reply in await self._broker.gather(self._subjects.stats, b"", wait=PRESENCE_WAIT):
            try:
                found.append(_decode_stats(reply.data))
            except msgspec.DecodeError as exc:
                logger.warning("a process's statistics do not parse reason=%s", exc)
        return sorted(found, key=lambda one: one.name)

    def reauthorize_all(self) -> None:
        """Ask again about every session: what was said while NATS was away was not heard."""
        everyone = [one for mine in self._connections.values() for one in mine]
        self.changes += 1
        for connection in everyone:
            connection.reauthorize_soon(len(everyone) * SPREAD_PER_SESSION, urgent=False)

    async def _user(self, message: Message) -> None:
        self.changes += 1
        try:
            control = _decode_user(message.data)
        except msgspec.DecodeError as exc:
            logger.warning("control dropped subject=%s reason=%s", message.subject, exc)
            return
        user_id = message.subject.rpartition(".")[2]
        sessions = tuple(self._connections.get(user_id, ()))
        for connection in sessions:
            if control.action == "disconnect":
                connection.disconnect(control.reason or "disconnected by the backend")
            elif control.action == "reauthorize":
                connection.reauthorize_soon(0)
            elif control.topic is not None:
                connection.take_away(control.topic)

    async def _acl(self, message: Message) -> None:
        self.changes += 1
        try:
            change = _decode_acl(message.data)
        except msgspec.DecodeError as exc:
            logger.warning("control dropped subject=%s reason=%s", message.subject, exc)
            return
        if change.users is None or change.groups:
            # Which user is in which group only the backend knows, so everyone is asked about.
            affected = [one for mine in self._connections.values() for one in mine]
        else:
            wanted = {str(user) for user in change.users}
            affected = [one for user in wanted for one in self._connections.get(user, ())]
        spread = min(len(affected) * SPREAD_PER_SESSION, MAX_SPREAD)
        for connection in affected:
            connection.reauthorize_soon(spread)

    async def _answer_presence(self, message: Message) -> None:
        topic = message.data.decode("utf-8", "replace")
        members: dict[str, dict[str, Any]] = {}
        for session in self._holders.of(topic):
            one = session.identity
            known = members.get(one.user_id)
            if known is not None:
                known["connections"] += 1
            elif len(members) < MAX_PRESENT:
                members[one.user_id] = {"userId": one.user_id, "connections": 1, "info": one.info}
        if members:
            await self._answer(message, [*members.values()])

    async def _answer_stats(self, message: Message) -> None:
        topics: Counter[str] = Counter()
        for sessions in self._connections.values():
            for session in sessions:
                topics.update(session.topics)
        stats = ProcessStats(
            name=f"{platform.node()}:{os.getpid()}",
            sessions=sum(map(len, self._connections.values())),
            users=len(self._connections),
            subscriptions=topics.total(),
            topics=dict(topics.most_common(MAX_BUSIEST)),
        )
        await self._answer(message, stats)

    async def _answer(self, message: Message, answer: Any) -> None:
        try:
            await self._broker.publish(message.reply, msgspec.json.encode(answer))
        except GatewayError as exc:
            logger.debug("not answered subject=%s reason=%s", message.subject, exc)
