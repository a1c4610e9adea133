"""Positions: what a named subscriber has acknowledged, kept in a NATS key-value bucket.

A position belongs to a user, a name (`durable` in `subscribe`) and a topic, so that whoever
was away for a day goes on where they stopped, on any device that uses the same name. Writes
are gathered and never move a position back: a write that lost a race reads and compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .broker import Broker
from .protocol.exceptions import GatewayError, Unavailable
from .protocol.messages import SEQUENCE

if TYPE_CHECKING:
    from .fanout import Fanout

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
"""How long acknowledgements are gathered before they are written."""
MAX_DIRTY = 50_000
"""Positions that wait to be written; further ones are let go (and so redelivered)."""
MAX_KNOWN = 100_000
"""Positions remembered as last seen, to save reading them before a write."""
WRITES_AT_ONCE = 64
ADVANCE_TRIES = 3
EXPECTED = "Nats-Expected-Last-Subject-Sequence"

Key = tuple[str, str, str]
"""User id, name and topic."""


class Position(Struct, frozen=True, array_like=True):
    """Everything up to `sequence` of the stream of `epoch` is acknowledged."""

    sequence: int
    epoch: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Position).decode


class Positions:
    """The positions of all users, as seen by one process.

    Args:
        bucket: name of the key-value bucket.
        replicas: of its stream.
        max_age: seconds after which an unused position is forgotten.
        timeout: seconds for one request.
    """

    def __init__(
        self, broker: Broker, bucket: str, *, replicas: int, max_age: float, timeout: float
    ) -> None:
        self._broker = broker
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._config = {
            "name": self._stream,
            "subjects": [f"{self._prefix}>"],
            "storage": "file",
            "max_msgs_per_subject": 1,
            "max_age": int(max_age * 10**9),
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "discard": "new",
        }
        self._timeout = timeout
        self._made = False
        self._known: dict[Key, tuple[int, Position | None]] = {}
        self._dirty: dict[Key, Position] = {}
        self._writing: asyncio.Task[None] | None = None

    async def read(self, user_id: str, name: str, topic: str) -> Position | None:
        """Return a position, None when there is none yet.

        Raises:
            Unavailable: when NATS does not answer.
        """
        key = (user_id, name, topic)
        stored = await self._read(key)
        mine = self._dirty.get(key)
        if mine is not None and (stored is None or _ahead(mine, stored)):
            return mine
        return stored

    async def begin(self, user_id: str, name: str, topic: str, sequence: int, epoch: str) -> None:
        """Keep a first position; when this returns, whoever comes back goes on from there.

        Raises:
            Unavailable: when NATS did not take it.
        """
        key, position = (user_id, name, topic), Position(sequence, epoch)
        await self._make()
        try:
            reply = await self._broker.store(
                self._subject(key),
                _encode(position),
                headers={EXPECTED: "0"},
                timeout=self._timeout,
            )
        except GatewayError:
            # Another device of the same name may have been faster.
            if await self._read(key) is None:
                raise
        else:
            self._known[key] = reply.sequence, position

    def note(self, user_id: str, name: str, topic: str, sequence: int, epoch: str) -> None:
        """Remember an acknowledged position; written within FLUSH_SECONDS."""
        key, position = (user_id, name, topic), Position(sequence, epoch)
        waiting = self._dirty.get(key)
        if waiting is None and len(self._dirty) >= MAX_DIRTY:
            logger.warning("too many positions wait to be written, one was let go")
            return
        if waiting is not None and not _ahead(position, waiting):
            return
        self._dirty[key] = position
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_soon())

    async def advance(
        self, user_id: str, name: str, topic: str, sequence: int, epoch: str
    ) -> Position:
        """Move a position on, now, and return where it stands: where it was, if that is further.

        Raises:
            Unavailable: when NATS did not take it.
        """
        key, position = (user_id, name, topic), Position(sequence, epoch)
        for _ in range(ADVANCE_TRIES):
            stored = await self._read(key)
            if stored is not None and not _ahead(position, stored):
                return stored
            # A refusal: another process moved it meanwhile.
            with contextlib.suppress(Unavailable):
                await self._put(key, position)
                return position
        raise Unavailable("The position was not written; try again.")

    def noter(self, user_id: str, name: str, topic: str, fanout: Fanout) -> Callable[[int], None]:
        """Return a function that notes a sequence of one subscription."""
        return lambda sequence: self.note(user_id, name, topic, sequence, fanout.epoch)

    async def flush(self) -> None:
        """Write what waits now; gives up after the timeout."""
        if self._writing is not None:
            self._writing.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._write_all()

    async def _write_soon(self) -> None:
        while self._dirty:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._write_all()

    async def _write_all(self) -> None:
        keys = list(self._dirty)
        for start in range(0, len(keys), WRITES_AT_ONCE):
            await asyncio.gather(*(self._write(key) for key in keys[start:][:WRITES_AT_ONCE]))

    async def _write(self, key: Key) -> None:
        position = self._dirty[key]
        try:
            await self._make()
            if key not in self._known:
                await self._read(key)
            _, stored = self._known[key]
            if stored is None or _ahead(position, stored):
                await self._put(key, position)
            self._clean(key, position)
        except GatewayError as exc:
            # Another process moved it, or NATS is away: read it again the next time.
            self._known.pop(key, None)
            logger.debug("position not written reason=%s", exc)

    async def _put(self, key: Key, position: Position) -> None:
        """Write a position over the revision that was read last."""
        reply = await self._broker.store(
            self._subject(key),
            _encode(position),
            headers={EXPECTED: str(self._known[key][0])},
            timeout=self._timeout,
        )
        self._known[key] = reply.sequence, position

    def _clean(self, key: Key, written: Position) -> None:
        if self._dirty.get(key) == written:
            del self._dirty[key]

    async def _read(self, key: Key) -> Position | None:
        await self._make()
        try:
            messages = await self._broker.direct_get(
                self._stream, {"multi_last": [self._subject(key)]}, timeout=self._timeout
            )
        except Unavailable:
            # Perhaps somebody deleted the bucket.
            self._made = False
            raise
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        if not messages:
            self._known[key] = 0, None
            return None
        try:
            stored = _decode(messages[0].data)
        except msgspec.DecodeError as exc:
            raise Unavailable("A stored position does not parse.") from exc
        self._known[key] = int(messages[0].headers[SEQUENCE]), stored
        return stored

    async def _make(self) -> None:
        if not self._made:
            await self._broker.ensure_stream(self._config, timeout=self._timeout)
            self._made = True

    def _subject(self, key: Key) -> str:
        # A subject that is published on holds no wildcard, and a topic no '='.
        user_id, name, topic = key
        return f"{self._prefix}{user_id}.{name}.{topic.replace('*', '=any').replace('>', '=rest')}"


def _ahead(one: Position, other: Position) -> bool:
    """Say whether a position is ahead of another; one of a newer stream always is."""
    return one.epoch > other.epoch or (one.epoch == other.epoch and one.sequence > other.sequence)
