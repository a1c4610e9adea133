"""Questions and their answers: each question has an `id` that its answer echoes, and a deadline."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ClientError, Disconnected, NoAnswer, QueueFull, Refused
from .frames import Failure, Frame, FrameId, encode_frame

MOST_QUESTIONS = 1000


@dataclass(slots=True)
class _Question:
    text: bytes
    topic: str | None
    answer: asyncio.Future[Frame]
    sent: bool


class Replies:
    """The open questions of one client.

    Args:
        send: says whether the frame could be sent.
    """

    def __init__(self, send: Callable[[bytes], bool]) -> None:
        self._send = send
        self._open: dict[FrameId, _Question] = {}
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        """Return an id that no other frame of this client has."""
        return next(self._ids)

    async def ask(self, type_: str, fields: Mapping[str, Any], timeout: float) -> Frame:
        """Ask now, or as soon as there is a connection.

        Args:
            timeout: seconds.

        Raises:
            Refused: an `error` answered it.
            Disconnected: the connection was lost after it was sent.
            NoAnswer: nothing came in time.
            QueueFull: too many questions are open.
            ClientError: the client ended meanwhile.
        """
        topic: str | None = fields.get("topic")
        if len(self._open) >= MOST_QUESTIONS:
            raise QueueFull(f"{MOST_QUESTIONS} questions are open; try again later.", topic=topic)
        frame_id = self.next_id()
        text = encode_frame(type_, {"id": frame_id, **fields})
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._open[frame_id] = _Question(text, topic, answer, self._send(text))
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as exc:
            raise NoAnswer(
                f"The gateway did not answer within {timeout:g} s.", topic=topic
            ) from exc
        finally:
            self._open.pop(frame_id, None)

    def flush(self) -> None:
        """Send what waited for a connection."""
        for question in self._open.values():
            question.sent = question.sent or self._send(question.text)

    def settle(self, frame_id: FrameId, frame: Frame) -> bool:
        """Hand an answer to who asked; say whether somebody did."""
        question = self._open.pop(frame_id, None) if frame_id is not None else None
        if question is None:
            return False
        if question.answer.done():
            return True
        if isinstance(frame, Failure):
            topic = frame.topic or question.topic
            question.answer.set_exception(Refused(frame.code, frame.message, topic=topic))
        else:
            question.answer.set_result(frame)
        return True

    def disconnected(self) -> None:
        """Give up on what was sent over a connection that is gone."""
        for question in [one for one in self._open.values() if one.sent]:
            error = Disconnected(
                "The connection was lost before the answer came.", topic=question.topic
            )
            if not question.answer.done():
                question.answer.set_exception(error)

    def refuse(self, error: Callable[[], ClientError]) -> None:
        """Refuse everything that is open."""
        for question in self._open.values():
            if not question.answer.done():
                question.answer.set_exception(error())
