"""Daphne's WebSocket protocol with the bounds that it lacks, and a heartbeat of its own."""

from __future__ import annotations

import struct
import time
from typing import Any

from .conf import settings
from .handshake import Handshake
from .protocol.deflate import inflate
from .protocol.exceptions import BadFrame, CloseCode, TooLarge

MAX_FRAGMENTS = 4096
"""Fragments of one message; they could be empty, so bytes do not bound them."""
MAX_CONTROL_FRAMES = 500
"""Pings and pongs taken between two of our own pings. They are the smallest frames there are,
so a flood of them would cost the most."""
MAX_AFTER_FAILURE = 64
"""Steps of parsing for a socket that we fail already: its close frame is waited for."""


class GatewayProtocol(Handshake):
    """Daphne's WebSocket protocol with bounds on what comes in, and a heartbeat of its own."""

    after_failure = 0
    control_frames = 0
    address: str | None = None
    message_data: Any
    writer: Any = None
    application_queue: Any

    def dataReceived(self, data: bytes) -> None:
        """Take what came; Autobahn would prepare a debug line about it each time."""
        self._dataReceived(data)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write what Autobahn frames itself, in order with what goes past the transport."""
        if self.state == self.STATE_CONNECTING or self.writer is None:
            super().sendData(data, sync, chopsize)
        else:
            self.writer.enqueue(data)

    def onMessageBegin(self, isBinary: bool) -> None:
        """Count fragments anew."""
        self.fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """Refuse a message of endless fragments."""
        self.fragments += 1
        if self.fragments > MAX_FRAGMENTS and not self.failedByMe:
            self._max_message_size_exceeded(0, 0, f"more than {MAX_FRAGMENTS} fragments")
        super().onMessageFrameBegin(length)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Queue a message for the application."""
        if self.muted:
            return
        try:
            if self._isMessageCompressed:
                payload = inflate(payload, settings.MAX_FRAME_BYTES)
            self.application_queue.put_message(payload, isBinary)
        except TooLarge as exc:
            self._max_message_size_exceeded(0, 0, exc.message)
        except (BadFrame, UnicodeDecodeError) as exc:
            self._invalid_payload(str(exc))

    def sendMessage(self, payload: bytes, isBinary: bool = False) -> None:
        """Send what another application of this server wrote: uncompressed."""
        super().sendMessage(payload, isBinary, doNotCompress=True)

    def onMessageEnd(self) -> None:
        """Hand a message over; Autobahn would also prepare to tell listeners, of whom are none."""
        if not self.failedByMe:
            self._onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = None

    def onPing(self, payload: bytes) -> None:
        """Answer while the other side reads; not every ping has to be (RFC 6455 §5.5.3)."""
        if self._admit_control() and not self.writer.congested:
            super().onPing(payload)

    def processData(self) -> bool:
        """Parse what came; of a socket that failed just enough for its close frame."""
        if self.failedByMe:
            self.after_failure += 1
            if self.after_failure > MAX_AFTER_FAILURE:
                self.data = b""
                return False
        # What is read already can be a thousand times as much when it is inflated.
        if self.extension is not None and self.application_queue.held_back:
            return False
        return bool(super().processData())

    def onPong(self, payload: bytes) -> None:
        """Note that the other side reads."""
        self._admit_control()
        self.heard = time.monotonic()

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        """Stop writing, then let Daphne tell the application."""
        if self.writer is not None:
            self.writer.stop()
        if self.server is None:
            return
        self.server.disconnected(self)
        super().onClose(wasClean, code, reason)
        # Both hold this protocol: in cycles all three would wait for the garbage collector, which
        # stops the process for long when thousands of sockets have gone.
        self.writer = self.application_queue = None

    def check_timeouts(self) -> None:
        """Ping on time, and close a socket whose other side does not answer.

        Daphne pings only those that are silent, so a dead reader that sends a tiny frame a
        second would live for ever.
        """
        if self.state != self.STATE_OPEN:
            if self.state == self.STATE_CONNECTING:
                super().check_timeouts()
            return
        now = time.monotonic()
        if now - self.heard > settings.HEARTBEAT_TIMEOUT:
            self.writer.close(CloseCode.HEARTBEAT_LOST, "no answer to pings")
        elif now - self.pinged >= settings.HEARTBEAT:
            self.pinged = now
            self.control_frames = 0
            self.sendPing(struct.pack("!d", now))

    def _admit_control(self) -> bool:
        self.control_frames += 1
        if self.control_frames <= MAX_CONTROL_FRAMES:
            return True
        self.writer.close(CloseCode.PROTOCOL_VIOLATION, "too many pings or pongs")
        self.failedByMe = True
        return False
