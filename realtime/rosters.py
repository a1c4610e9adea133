"""Rosters: what the processes tell each other of who is on watched topics.

They stand in a NATS key-value bucket: one entry for each process and topic, and one for each
process, which says that it lives. That one has an age limit, by which the server forgets it when
its process was killed; the others are let go a little later. Entries are heard as they are
written, and read by whoever is new or was away.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field

from .broker import Broker
from .nats_client import Message
from .protocol.attendance import MAX_PRESENT
from .protocol.exceptions import GatewayError
from .protocol.messages import SEQUENCE, Member, Roster
from .protocol.session import Session

logger = logging.getLogger(__name__)

AGES = 6
"""Entries about topics live so many times as long as a sign of life."""
MAX_BYTES = 16 * 1024**2
"""Of the bucket. Beyond it the oldest entries go, and are written again within seconds."""
PAGE_ENTRIES = 256
PAGE_BYTES = 512 * 1024
MAX_INFO = 512
"""Bytes of a user's `info` that are told; a larger one is left out."""
OPERATION = "KV-Operation"
NOTHING = Roster()
Here = dict[str, Member]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Roster).decode


class Note(NamedTuple):
    """One entry.

    Attributes:
        topic: what it is about; empty: a sign of life.
        gone: the process has ended.
    """

    process: str
    topic: str
    roster: Roster
    gone: bool


class View(Struct):
    """What another process told; times in loop time.

    Attributes:
        heard: when it last said that it lives.
        watching: the topics that its sockets watch, and when it last said so.
        topics: who is on each there.
    """

    heard: float
    watching: dict[str, float] = field(default_factory=dict)
    topics: dict[str, Here] = field(default_factory=dict)


def look(sessions: Iterable[Session]) -> Here:
    """Return whose sessions these are, a process's own on one topic."""
    found: Here = {}
    for session in sessions:
        user_id, one = session.identity.user_id, found.get(session.identity.user_id)
        if one is not None:
            found[user_id] = Member(user_id, one.connections + 1, one.info)
        elif len(found) < MAX_PRESENT:
            found[user_id] = Member(user_id, 1, _bounded(session.identity.info))
    return found


def _bounded(info: dict[str, Any] | None) -> dict[str, Any] | None:
    return info if info is None or len(_encode(info)) <= MAX_INFO else None


class Rosters:
    """The entries of all processes, as one of them reads and writes them.

    Args:
        bucket: name of the key-value bucket.
        replicas: of its stream.
        max_age: seconds after which a sign of life is forgotten.
        timeout: seconds for one request.
    """

    def __init__(
        self, broker: Broker, bucket: str, *, replicas: int, max_age: float, timeout: float
    ) -> None:
        self._broker = broker
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._timeout = timeout
        self._ttl = f"{max(math.ceil(max_age), 1)}s"
        age = int(max_age * AGES * 10**9)
        self._config = {
            "name": self._stream,
            "subjects": [f"{self._prefix}>"],
            "storage": "memory",
            "max_msgs_per_subject": 1,
            "max_bytes": MAX_BYTES,
            "max_age": age,
            "duplicate_window": age,
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "discard": "old",
        }
        self.max_age = max_age
        self.process = uuid.uuid4().hex[:12]

    @property
    def connected(self) -> bool:
        """Say whether NATS is reachable right now."""
        return self._broker.connected

    async def listen(self, heard: Callable[[Note], None]) -> None:
        """Have every entry of the other processes told, as it is written.

        Raises:
            Unavailable: when NATS refuses the subscription.
        """

        async def receive(message: Message) -> None:
            note = self._note(message.subject, message)
            if note is not None:
                heard(note)

        await self._broker.subscribe(f"{self._prefix}>", receive)

    async def load(self, process: str = "") -> list[Note]:
        """Return the entries of one of the other processes, or of all; makes the bucket.

        Raises:
            Unavailable: when NATS does not answer.
        """
        await self._broker.ensure_stream(self._config, timeout=self._timeout)
        wanted = f"{self._prefix}{process}.>" if process else f"{self._prefix}>"
        found: list[Note | None] = []
        start, more = 1, True
        while more:
            query = {
                "seq": start,
                "next_by_subj": wanted,
                "batch": PAGE_ENTRIES,
                "max_bytes": PAGE_BYTES,
            }
            page = await self._broker.direct_get(self._stream, query, timeout=self._timeout)
            found += [self._note(one.headers["Nats-Subject"], one) for one in page]
            more = bool(page) and page[-1].headers["Nats-Num-Pending"] != "0"
            start = int(page[-1].headers[SEQUENCE]) + 1 if page else start
        return [note for note in found if note is not None]

    async def put(self, topic: str, roster: Roster) -> int:
        """Write what this process tells of a topic; return its size in bytes.

        Unconfirmed, for it is written again soon.

        Raises:
            Unavailable: when NATS is away.
        """
        data = _encode(roster)
        await self._broker.publish(f"{self._prefix}{self.process}.{topic}", data)
        return len(data)

    async def beat(self) -> None:
        """Write that this process lives.

        Raises:
            Unavailable: when NATS is away.
        """
        subject = f"{self._prefix}{self.process}"
        await self._broker.publish(subject, b"{}", headers={"Nats-TTL": self._ttl})

    async def leave(self) -> None:
        """Write that this process ends; NATS away is no matter."""
        try:
            await self._broker.publish(
                f"{self._prefix}{self.process}",
                b"",
                headers={OPERATION: "DEL", "Nats-TTL": self._ttl},
            )
        except GatewayError as exc:
            logger.debug("end not told reason=%s", exc)

    def _note(self, subject: str, message: Message) -> Note | None:
        """Return the entry in a message; None: this process's own, or none at all."""
        process, _, topic = subject.removeprefix(self._prefix).partition(".")
        if process == self.process:
            return None
        if OPERATION in message.headers:
            return Note(process, topic, NOTHING, gone=not topic)
        try:
            return Note(process, topic, _decode(message.data), gone=False)
        except (msgspec.DecodeError, UnicodeError) as exc:
            logger.warning("a roster does not parse subject=%s reason=%s", subject, exc)
            return None
