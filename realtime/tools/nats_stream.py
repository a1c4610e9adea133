"""Reading the stream: what it holds of a topic after a sequence, and whether it is still the same.

Sequences mean nothing in another stream, so every page is checked against the stream's creation
time (its epoch) before it is handed on.
"""

from __future__ import annotations

import logging

from realtime.broker import Broker
from realtime.nats_client import Message
from realtime.protocol.exceptions import Unavailable
from realtime.protocol.messages import SEQUENCE

logger = logging.getLogger(__name__)

PAGE = 256
"""Events read from the stream at once."""


class StreamReader:
    """A position in the stream, which moves on with every page.

    Args:
        topic: or a pattern.
        since: the last sequence that is not wanted any more.
        epoch: of the stream that `since` belongs to; None: of the one that is there, unless
            `since` is beyond its end.
        timeout: seconds for an answer.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        topic: str,
        *,
        since: int,
        epoch: str | None,
        timeout: float,
    ) -> None:
        self._broker = broker
        self._stream = stream
        self._topic = topic
        self._last = since
        self._epoch = epoch
        self._timeout = timeout
        self._begun = False

    async def page(self) -> list[Message]:
        """Return the next events, oldest first; none: there are none now.

        Raises:
            Unavailable: when the stream cannot be read; try again.
        """
        if not self._begun:
            await self._renewed()
            self._begun = True
        while True:
            query = {"seq": self._last + 1, "next_by_subj": self._topic, "batch": PAGE}
            page = await self._broker.direct_get(self._stream, query, timeout=self._timeout)
            # Asked behind the page: the stream was the same before and after it was read.
            if not await self._renewed():
                break
        if page:
            self._last = int(page[-1].headers[SEQUENCE])
        return page

    async def _renewed(self) -> bool:
        """Say whether the stream is another one than before; then begin with it anew."""
        info = await self._broker.stream_info(self._stream, timeout=self._timeout)
        if info is None:
            raise Unavailable(f"There is no stream {self._stream}.")
        known, self._epoch = self._epoch, info.created
        if not self._begun:
            logger.info("reading the stream stream=%s epoch=%s", self._stream, info.created)
        renewed = self._last > info.state.last if known is None else known != info.created
        if renewed:
            logger.warning(
                "the stream was made anew and its sequences with it: reading it from its beginning;"
                " what was not read of the old one is gone stream=%s after=%d epoch=%s",
                self._stream,
                self._last,
                info.created,
            )
            self._last = 0
        return renewed
