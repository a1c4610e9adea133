"""The topics of one connection: subscribe, resume, replay, acknowledge, leave."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from .delivery import Delivery, Socket
from .feed import Feed
from .protocol.client_frames import Ack, Replay, Resume, Subscribe, Unsubscribe
from .protocol.exceptions import BadFrame, BadTopic, GatewayError, SessionExpired
from .protocol.gateway_frames import (
    Gap,
    Recovery,
    Reset,
    Resumed,
    Subscribed,
    Unsubscribed,
    error_for,
)
from .protocol.session import Session, read_ticket
from .protocol.subjects import covers, is_pattern
from .services import Send, Services
from .starts import Start, find_start, locate
from .watchers import Watcher

logger = logging.getLogger(__name__)

FIRST_PAGE = 256
"""Events read at once by a resume, over all its topics."""


class Subscriptions:
    """What one socket holds.

    Args:
        send: writes a frame to the client.
    """

    def __init__(self, services: Services, session: Session, socket: Socket, send: Send) -> None:
        self._fanout = services.fanout
        self._positions = services.positions
        self._holders = services.holders
        self._presence = services.presence
        self._watcher = Watcher(socket)
        self._options = services.options
        self._session = session
        self._socket = socket
        self._send = send
        self._deliveries: dict[str, Delivery] = {}
        self._closed = False

    def __contains__(self, topic: str) -> bool:
        return topic in self._deliveries

    def __iter__(self) -> Iterable[str]:
        return iter(sorted(self._deliveries))

    def close(self) -> None:
        """Let go of every topic."""
        self._closed = True
        for topic in tuple(self._deliveries):
            self._drop(topic)

    def revoke(self, topic: str, reason: str) -> None:
        """Take a topic away; nothing of it is delivered after this."""
        if topic in self._deliveries:
            self._drop(topic)
            self._send(Unsubscribed(topic=topic, reason=reason))

    def take_away(self, topic: str) -> None:
        """Take a topic away for the backend, and with it the patterns that bring it too."""
        for held in tuple(self._deliveries):
            if covers(held, topic):
                self.revoke(held, "server")

    def pause(self) -> None:
        """Deliver nothing until `go_on`; every topic keeps its place."""
        self._watcher.pause()
        for delivery in self._deliveries.values():
            delivery.pause()

    def go_on(self) -> None:
        """Deliver again, from where each topic was left."""
        for delivery in self._deliveries.values():
            delivery.go_on()
        self._watcher.go_on()

    def revoke_denied(self) -> None:
        """Take away what the session's rules no longer allow."""
        rules = self._session.identity.rules
        for topic in tuple(self._deliveries):
            if not rules.decide("subscribe", topic).allowed:
                self.revoke(topic, "acl")

    async def join_granted(self) -> list[Feed]:
        """Join the topics that the backend grants unasked and that are not held yet."""
        feeds = []
        for topic in self._session.identity.subscriptions:
            try:
                if topic not in self._deliveries:
                    self._session.check_subscription(topic)
                    feeds.append(await self._fanout.join(topic))
            except GatewayError as exc:
                logger.warning("granted topic not joined topic=%s reason=%s", topic, exc)
        return feeds

    def enter_granted(self, feed: Feed) -> None:
        """Hold a joined topic from its top on."""
        if feed.topic in self._deliveries:
            # Resumed meanwhile; that delivery joined on its own account.
            self._fanout.leave(feed)
        elif self._allowed(feed.topic):
            self._enter(feed, Start(feed.chain.last), None)
        else:
            self._fanout.leave(feed)
            self._send(Unsubscribed(topic=feed.topic, reason="acl"))

    async def subscribe(self, frame: Subscribe) -> None:
        """Join a topic, or join it anew from another position."""
        topic = frame.topic
        self._session.check_subscription(topic)
        if frame.presence:
            self._check_watch(topic)
        held = self._deliveries.get(topic)
        if held is None:
            self._session.check_room(topic)
        elif (
            frame.since is None
            and held.acknowledges == _acknowledges(frame)
            and frame.durable in (None, held.durable)
        ):
            self._send(self._subscribed(held.feed, frame.id, recovered=True))
            self._watch(topic, asked=bool(frame.presence))
            return
        feed = await self._fanout.join(topic)
        try:
            start = await find_start(
                self._fanout, self._positions, feed, frame, self._session.identity.user_id
            )
            # Rules may have changed while the stream was read.
            self._session.check_subscription(topic)
        except BaseException:
            self._fanout.leave(feed)
            raise
        self._enter(feed, start, frame)

    async def unsubscribe(self, frame: Unsubscribe) -> None:
        """Leave a topic."""
        self._session.check_held(frame.topic)
        self._drop(frame.topic)
        self._send(Unsubscribed(id=frame.id, topic=frame.topic, reason="client"))

    async def resume(self, frame: Resume) -> None:
        """Join topics again, each from its sequence, and send what was missed."""
        ticket = read_ticket(
            frame.session_id,
            self._options.session_key,
            now=time.time(),
            max_age=self._options.session_max_age,
        )
        if ticket.user_id != self._session.identity.user_id:
            raise SessionExpired("This sessionId is another user's: subscribe anew.")
        wanted = frame.last_seq_per_topic
        limit = max(FIRST_PAGE // max(len(wanted), 1), 1)
        found = await asyncio.gather(
            *(self._find(topic, since, ticket.epoch, limit) for topic, since in wanted.items())
        )
        located = []
        for feed, start in filter(None, found):
            # Rules may have changed while another topic was read.
            if self._allowed(feed.topic):
                located.append((feed, start))
            else:
                self._fanout.leave(feed)
                self._send(Unsubscribed(topic=feed.topic, reason="acl"))
        for feed, start in located:
            if start.reset:
                self._send(Reset(topic=feed.topic, epoch=self._fanout.epoch))
        topics = {
            feed.topic: Recovery(start.recovered, wanted[feed.topic], feed.chain.last)
            for feed, start in located
        }
        self._send(Resumed(id=frame.id, session_id=frame.session_id, topics=topics))
        for feed, start in located:
            self._begin(feed, start, None)

    async def replay(self, frame: Replay) -> None:
        """Send again what the stream holds from a sequence on."""
        self._session.check_held(frame.topic)
        self._deliveries[frame.topic].rewind(max(frame.from_seq - 1, 0))

    async def acknowledge(self, frame: Ack) -> None:
        """Take the confirmation of one event, or of all up to one."""
        if frame.topic is not None and frame.seq_no is not None:
            self._session.check_held(frame.topic)
            self._deliveries[frame.topic].acknowledge(frame.seq_no, upto=True)
        elif frame.message_id is not None:
            for delivery in self._deliveries.values():
                sequence = delivery.sequence_of(frame.message_id)
                if sequence is not None:
                    delivery.acknowledge(sequence, upto=False)
        else:
            raise BadFrame("'ack' takes a messageId, or a topic and a seqNo.")

    async def _find(
        self, topic: str, since: int, epoch: str, limit: int
    ) -> tuple[Feed, Start] | None:
        """Join and locate one topic of a resume; what fails is told, the others go on."""
        feed = None
        try:
            self._session.check_subscription(topic)
            if topic not in self._deliveries:
                self._session.check_room(topic)
                self._session.topics.add(topic)
            feed = await self._fanout.join(topic)
            return feed, await locate(self._fanout, feed, since, epoch, limit)
        except GatewayError as exc:
            if topic not in self._deliveries:
                self._session.topics.discard(topic)
            if feed is not None:
                self._fanout.leave(feed)
            exc.topic = topic
            self._send(error_for(exc, None))
            return None

    def _check_watch(self, topic: str) -> None:
        if is_pattern(topic):
            raise BadTopic("Joins and leaves are told of one topic, not of a pattern.", topic=topic)
        self._presence.check_room(topic)

    def _watch(self, topic: str, *, asked: bool) -> None:
        if asked:
            self._presence.watch(topic, self._watcher)
        else:
            self._presence.unwatch(topic, self._watcher)

    def _allowed(self, topic: str) -> bool:
        return self._session.identity.rules.decide("subscribe", topic).allowed

    def _enter(self, feed: Feed, start: Start, frame: Subscribe | None) -> None:
        if start.reset and not self._closed:
            self._send(Reset(topic=feed.topic, epoch=self._fanout.epoch))
        self._send(self._subscribed(feed, frame.id if frame else None, recovered=start.recovered))
        self._begin(feed, start, frame)

    def _begin(self, feed: Feed, start: Start, frame: Subscribe | None) -> None:
        """Deliver a joined topic from `start` on, in place of what was held of it."""
        if self._closed:
            self._fanout.leave(feed)
            return
        self._drop(feed.topic)
        if start.gap > start.since:
            gap = Gap(topic=feed.topic, from_seq=start.since + 1, to_seq=start.gap)
            self._send(gap)
        acknowledges = frame is not None and _acknowledges(frame) and feed.durable
        delivery = Delivery(
            feed, self._socket, start.position, ack=self._options.ack if acknowledges else None
        )
        if frame is not None and frame.durable is not None and feed.durable:
            delivery.durable = frame.durable
            delivery.on_ack = self._positions.noter(
                self._session.identity.user_id, frame.durable, feed.topic, self._fanout
            )
        self._deliveries[feed.topic] = delivery
        self._session.topics.add(feed.topic)
        self._holders.add(feed.topic, self._session)
        self._presence.touch(feed.topic)
        self._watch(feed.topic, asked=frame is not None and bool(frame.presence))
        if self._session.suspended:
            delivery.pause()
        else:
            delivery.start(start.events)

    def _subscribed(self, feed: Feed, frame_id: str | int | None, *, recovered: bool) -> Subscribed:
        return Subscribed(
            id=frame_id,
            topic=feed.topic,
            seq_no=feed.chain.last,
            epoch=self._fanout.epoch,
            recovered=recovered,
        )

    def _drop(self, topic: str) -> None:
        delivery = self._deliveries.pop(topic, None)
        self._session.topics.discard(topic)
        self._holders.discard(topic, self._session)
        self._presence.touch(topic)
        self._presence.unwatch(topic, self._watcher)
        if delivery is not None:
            delivery.stop()
            self._fanout.leave(delivery.feed)


def _acknowledges(frame: Subscribe) -> bool:
    """Say whether events wait for `ack`: a durable position could not move without."""
    return frame.qos == 1 or frame.durable is not None
