"""Publishing exactly once: the same `messageId` is sent again after every reconnect.

It is sent until the gateway has confirmed it or the deadline has passed. The stream drops
repeats for as long as its deduplication window (five minutes by default): deadlines have to
stay below that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from realtime.protocol.exceptions import ErrorCode

from .errors import ClientError, NoAnswer, QueueFull, Refused
from .frames import Confirmation, Failure, FrameId, encode_frame

WINDOW = 32
"""Sent and not confirmed; the gateway takes 64."""
MOST_LETTERS = 1000


@dataclass(slots=True)
class _Letter:
    frame_id: int
    topic: str
    text: bytes
    confirmed: asyncio.Future[Confirmation]
    state: Literal["waits", "sent", "rests"] = "waits"  # rests: refused for now


class Outbox:
    """What waits to be confirmed, in the order in which it was published.

    Args:
        send: says whether the frame could be sent.
        rest: seconds after a refusal that may pass.
    """

    def __init__(self, send: Callable[[bytes], bool], rest: float) -> None:
        self._send = send
        self._rest_seconds = rest
        self._letters: dict[str, _Letter] = {}

    async def post(
        self, frame_id: int, topic: str, message_id: str, payload: Any, *, timeout: float
    ) -> Confirmation:
        """Publish, and return when the gateway has confirmed it.

        Args:
            timeout: seconds, over reconnects.

        Raises:
            Refused: the gateway refused it for good.
            NoAnswer: it was not confirmed in time; it may be stored all the same.
            QueueFull: too much waits already.
            ClientError: the client ended meanwhile.
            ValueError, TypeError: when strict JSON cannot say the payload, or a message with
                this id is on its way.
        """
        if len(self._letters) >= MOST_LETTERS:
            message = f"{MOST_LETTERS} messages already wait to be published; try again later."
            raise QueueFull(message, topic=topic)
        if message_id in self._letters:
            raise ValueError(f"A message with the id {message_id!r} is already on its way.")
        fields = {"id": frame_id, "topic": topic, "messageId": message_id, "payload": payload}
        text = encode_frame("publish", fields)
        confirmed: asyncio.Future[Confirmation] = asyncio.get_running_loop().create_future()
        self._letters[message_id] = _Letter(frame_id, topic, text, confirmed)
        self.flush()
        try:
            async with asyncio.timeout(timeout):
                return await confirmed
        except TimeoutError as exc:
            raise NoAnswer(
                f"The message was not confirmed within {timeout:g} s.", topic=topic
            ) from exc
        finally:
            self._letters.pop(message_id, None)
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the window allows."""
        room = WINDOW - sum(letter.state == "sent" for letter in self._letters.values())
        for letter in self._letters.values():
            if room <= 0:
                return
            if letter.state == "waits" and not letter.confirmed.done():
                if not self._send(letter.text):
                    return
                letter.state = "sent"
                room -= 1

    def settle(self, frame: Confirmation | Failure) -> bool:
        """Take in an answer; say whether it is about a letter of this outbox."""
        letter = self._find(frame.message_id, frame.id)
        if letter is None:
            return False
        if letter.confirmed.done():
            return True
        if isinstance(frame, Confirmation):
            letter.confirmed.set_result(frame)
            return True
        error = Refused(frame.code, frame.message, topic=letter.topic)
        if error.passing:
            letter.state = "rests"
            asyncio.get_running_loop().call_later(self._rest_seconds, self._rested, letter)
        else:
            letter.confirmed.set_exception(error)
        return True

    def disconnected(self) -> None:
        """Note that the connection is gone: what was sent has to be sent again."""
        for letter in self._letters.values():
            letter.state = "waits"

    def too_big(self) -> None:
        """Note that the gateway closed the connection over a frame that is too big."""
        sent = [one for one in self._letters.values() if one.state == "sent"]
        biggest = max(sent, key=lambda one: len(one.text), default=None)
        if biggest is not None and not biggest.confirmed.done():
            message = "The message is larger than the gateway accepts."
            error = Refused(ErrorCode.TOO_LARGE, message, topic=biggest.topic)
            biggest.confirmed.set_exception(error)

    def refuse(self, error: Callable[[], ClientError]) -> None:
        """Refuse everything that is open."""
        for letter in self._letters.values():
            if not letter.confirmed.done():
                letter.confirmed.set_exception(error())

    def _rested(self, letter: _Letter) -> None:
        if letter.state == "rests":
            letter.state = "waits"
            self.flush()

    def _find(self, message_id: str | None, frame_id: FrameId) -> _Letter | None:
        letter = self._letters.get(message_id) if message_id is not None else None
        if letter is None and frame_id is not None:
            letter = next((one for one in self._letters.values() if one.frame_id == frame_id), None)
        return letter
