"""The operations of the REST API."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from .. import commands
from ..bridge import is_durable
from ..broker import Broker
from ..conf import settings
from ..notifications import mark_read, notifications, page
from ..parts import make_history
from ..protocol.messages import Event
from ..protocol.subjects import is_token
from ..publish import notifications_of
from . import bodies
from .access import asker, run_allowed
from .base import GatewayView
from .inputs import read_body, read_query
from .parameters import (
    CURSOR,
    IDEMPOTENCY_KEY,
    LIMIT,
    TOPIC,
    UNREAD,
    USER_ID,
    PageQuery,
    next_cursor,
    position_of,
    read_cursor,
)
from .publishing import plans_for, publish_all
from .schema import RETRY_AFTER, answers
from .stats import gather_stats

logger = logging.getLogger(__name__)

_decode_event = msgspec.json.Decoder(bodies.StoredEvent).decode


class PublishView(GatewayView):
    """Publishing, as a backend does."""

    permission = "realtime.publish_event"
    throttle_scope = "write"

    @extend_schema(
        operation_id="publish",
        summary="Publish events",
        tags=["events"],
        parameters=[IDEMPOTENCY_KEY, RETRY_AFTER],
        request=bodies.PublishInput,
        responses={
            **answers(bodies.PublishOutput, 400, 411, 413, 415, text="All were published."),
            207: OpenApiResponse(bodies.PublishOutput, "Some were not published."),
        },
    )
    def post(self, request: Request) -> Response:
        """Publish events on topics and to users, and wait until the stream has them.

        Answers 207 when some were not published, and tells each result by itself. Needs the
        permission `realtime.publish_event`.
        """
        body = read_body(request, bodies.PublishInput)
        key = request.headers.get("Idempotency-Key")
        results = publish_all(plans_for(body.events, str(request.user.pk), key))
        failed = sum(one.status == "failed" for one in results)
        return Response(bodies.PublishOutput(failed, results), 207 if failed else 200)


class HistoryView(GatewayView):
    """What the stream holds of a topic."""

    @extend_schema(
        operation_id="topic_history",
        summary="Read what the stream holds of a topic",
        tags=["topics"],
        parameters=[TOPIC, LIMIT, CURSOR, RETRY_AFTER],
        responses=answers(bodies.HistoryOutput, 400, 404),
    )
    def get(self, request: Request, topic: str) -> Response:
        """Return stored events of a topic, newest first.

        Needs the right to subscribe to it, by the same rules as a socket.
        """
        query = read_query(request, PageQuery)
        cursor = read_cursor(query.cursor)

        async def read(broker: Broker) -> bodies.HistoryOutput:
            history = make_history(broker)
            events: Sequence[Event] = ()
            more = False
            await history.info()
            end = position_of(cursor, history.epoch)
            if is_durable(topic, settings.DURABLE_TOPICS):
                events, more = await page(history, topic, query.limit, end)
            return bodies.HistoryOutput(
                topic=topic,
                epoch=history.epoch,
                results=[_stored_event(event) for event in events],
                next_cursor=next_cursor(events, more, history.epoch),
            )

        return Response(run_allowed(request, "subscribe", topic, read))


class PresenceView(GatewayView):
    """Who is on a topic."""

    @extend_schema(
        operation_id="topic_presence",
        summary="See who is on a topic",
        tags=["topics"],
        parameters=[TOPIC, RETRY_AFTER],
        responses=answers(bodies.PresenceOutput, 404),
    )
    def get(self, request: Request, topic: str) -> Response:
        """Return who holds a topic now, over all gateways.

        Needs the right to subscribe to it, by the same rules as a socket. Takes a quarter of a
        second.
        """

        async def read(broker: Broker) -> bodies.PresenceOutput:
            members = await asker(broker).presence(topic)
            return bodies.PresenceOutput(topic, msgspec.convert(members, list[bodies.Member]))

        return Response(run_allowed(request, "subscribe", topic, read))


class UserView(GatewayView):
    """A command about one user's sockets."""

    permission = "realtime.disconnect_user"
    throttle_scope = "write"

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        """Refuse what cannot be a user's id, whatever is asked.

        Raises:
            NotFound: when it is not one token: it becomes a part of a NATS subject.
        """
        super().initial(request, *args, **kwargs)
        if not is_token(self.kwargs["user_id"]):
            raise NotFound("A user id is letters, digits, '-' and '_'.")


class DisconnectView(UserView):
    """Ending a user's sockets."""

    @extend_schema(
        operation_id="user_disconnect",
        summary="Close a user's sockets",
        tags=["users"],
        parameters=[USER_ID, RETRY_AFTER],
        request=bodies.DisconnectInput,
        responses=answers(None, 400, 404, 411, 413, 415, ok=202, text="The gateways were told."),
    )
    def post(self, request: Request, user_id: str) -> Response:
        """Close all sockets of a user with 4502; they do not come back by themselves.

        Needs the permission `realtime.disconnect_user`.
        """
        body = read_body(request, bodies.DisconnectInput)
        commands.disconnect(user_id, body.reason)
        logger.info("disconnect user=%s by=%s", user_id, request.user.pk)
        return Response(status=202)


class UnsubscribeView(UserView):
    """Taking a topic away."""

    @extend_schema(
        operation_id="user_unsubscribe",
        summary="Take a topic away from a user's sockets",
        tags=["users"],
        parameters=[USER_ID, RETRY_AFTER],
        request=bodies.UnsubscribeInput,
        responses=answers(None, 400, 404, 411, 413, 415, ok=202, text="The gateways were told."),
    )
    def post(self, request: Request, user_id: str) -> Response:
        """Take a topic away from all sockets of a user. It forbids nothing: rules do that.

        Needs the permission `realtime.disconnect_user`.
        """
        body = read_body(request, bodies.UnsubscribeInput)
        commands.unsubscribe(user_id, body.topic)
        logger.info("unsubscribe user=%s topic=%s by=%s", user_id, body.topic, request.user.pk)
        return Response(status=202)


class NotificationsView(GatewayView):
    """One's own notifications."""

    @extend_schema(
        operation_id="my_notifications",
        summary="Read my notifications",
        tags=["notifications"],
        parameters=[LIMIT, CURSOR, UNREAD, RETRY_AFTER],
        responses=answers(bodies.NotificationsOutput, 400, 404),
    )
    def get(self, request: Request) -> Response:
        """Return one's notifications, newest first, and which of them are read."""
        query = read_query(request, PageQuery)
        cursor, user_id = read_cursor(query.cursor), str(request.user.pk)

        async def read(broker: Broker) -> bodies.NotificationsOutput:
            found = await notifications(
                broker,
                user_id,
                limit=query.limit,
                before=cursor.before if cursor else None,
                unread=query.unread,
            )
            mark = found.mark
            position_of(cursor, mark.epoch)
            return bodies.NotificationsOutput(
                epoch=mark.epoch,
                unread=mark.unread,
                read_seq_no=mark.sequence,
                results=[_notification(event, mark.sequence) for event in found.events],
                next_cursor=next_cursor(found.events, found.more, mark.epoch),
            )

        return Response(run_allowed(request, "subscribe", notifications_of(user_id), read))

    @extend_schema(
        operation_id="mark_my_notifications_read",
        summary="Mark my notifications as read",
        tags=["notifications"],
        parameters=[RETRY_AFTER],
        request=bodies.MarkReadInput,
        responses=answers(bodies.MarkReadOutput, 400, 404, 411, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """Mark as read all notifications up to a sequence.

        The mark never goes back. It is the durable position `read` on
        `user.<id>.notifications`, so sockets that use that name agree with it.
        """
        body, user_id = read_body(request, bodies.MarkReadInput), str(request.user.pk)

        async def write(broker: Broker) -> bodies.MarkReadOutput:
            mark = await mark_read(broker, user_id, body.seq_no)
            return bodies.MarkReadOutput(mark.epoch, mark.sequence, mark.unread)

        return Response(run_allowed(request, "subscribe", notifications_of(user_id), write))


class StatsView(GatewayView):
    """The gateway as it is now."""

    permission = "realtime.view_stats"

    @extend_schema(
        operation_id="stats",
        summary="See sessions, topics and the stream",
        tags=["gateway"],
        parameters=[RETRY_AFTER],
        responses=answers(bodies.StatsOutput),
    )
    def get(self, request: Request) -> Response:
        """Return sessions, topics and the state of the stream.

        Needs the permission `realtime.view_stats`. Takes a quarter of a second, in which every
        gateway process answers.
        """
        return Response(gather_stats())


def _stored_event(event: Event) -> bodies.StoredEvent:
    return _decode_event(event.text)


def _notification(event: Event, read: int) -> bodies.Notification:
    fields = msgspec.structs.asdict(_stored_event(event))
    return bodies.Notification(**fields, read=event.sequence <= read)
