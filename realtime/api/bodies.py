"""What the REST API takes and gives: values, checked by msgspec while it decodes them.

The OpenAPI document is made from these (schema.py), so it cannot say anything else.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ..protocol.messages import parse_payload
from ..protocol.subjects import MAX_TOPIC_BYTES

MAX_EVENTS = 100
"""Events in one request to publish."""
MAX_TARGETS = 500
"""Topics, and users, of one event."""
MAX_PAGE = 100
"""Events in one page."""
DEFAULT_PAGE = 50

# It travels in a NATS header, which has no place for control characters or outer spaces.
MessageId = Annotated[str, Meta(pattern=r"\A[!-~]{1,128}\Z", examples=["order-7-paid"])]
Topic = Annotated[
    str,
    Meta(
        max_length=MAX_TOPIC_BYTES,
        pattern=r"\A[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z",
        examples=["room.lobby"],
    ),
]
# A JSON number beyond 2^53 is not the same number in JavaScript.
Sequence = Annotated[int, Meta(ge=1, le=2**53)]
UserId = Annotated[str, Meta(max_length=MAX_TOPIC_BYTES)] | int
DeliveryStatus = Literal["stored", "duplicate", "sent", "failed"]


class Input(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What every request body is: a misspelt field is told, not ignored."""


class Output(Struct, frozen=True, rename="camel"):
    """What every answer is."""


class EventInput(Input, frozen=True):
    """One event and where it goes: topics, users (their notifications), or both."""

    data: Raw
    topics: (
        Annotated[list[str], Meta(min_length=1, max_length=MAX_TARGETS, examples=[["room.lobby"]])]
        | UnsetType
    ) = UNSET
    users: (
        Annotated[list[UserId], Meta(min_length=1, max_length=MAX_TARGETS, examples=[[7]])]
        | UnsetType
    ) = UNSET
    message_id: MessageId | UnsetType = UNSET

    schema_extra: ClassVar[dict[str, Any]] = {
        "anyOf": [{"required": ["topics"]}, {"required": ["users"]}]
    }

    def __post_init__(self) -> None:
        if self.topics is UNSET and self.users is UNSET:
            raise ValueError("Say where the event goes: 'topics', 'users', or both")
        # Raw was only skipped over; a full pass refuses bad UTF-8 and numbers that no reader
        # holds (1e999) before anybody else gets them.
        if not parse_payload(bytes(self.data)):
            raise ValueError("'data' is no strict JSON")


class PublishInput(Input, frozen=True):
    """Events to publish. Those on one topic are stored in the order given."""

    events: Annotated[list[EventInput], Meta(min_length=1, max_length=MAX_EVENTS)]


class DeliveryError(Output, frozen=True):
    """Why an event was not published on a topic."""

    code: str
    detail: str


class Delivery(Output, frozen=True):
    """What became of one event on one topic; `event` is its index in the request.

    `stored`: the stream has it, as `seqNo`. `duplicate`: it had it before. `sent`: the topic is
    not stored, and NATS has it. `failed`: see `error`.
    """

    event: int
    topic: str
    message_id: str
    status: DeliveryStatus
    seq_no: int | UnsetType = UNSET
    error: DeliveryError | UnsetType = UNSET


class PublishOutput(Output, frozen=True):
    """One result for each event and topic, in the order of the request."""

    failed: int
    results: list[Delivery]


class StoredEvent(Output, frozen=True):
    """One event of the stream. `ts`: when it was stored, Unix ms."""

    seq_no: int
    message_id: str
    ts: int
    data: Raw
    encoding: Literal["base64"] | UnsetType = UNSET


class Notification(StoredEvent, frozen=True, kw_only=True):
    """One notification."""

    read: bool


class HistoryOutput(Output, frozen=True):
    """Events of a topic, newest first. `nextCursor` leads to older ones; null: there are none."""

    topic: str
    epoch: str
    results: list[StoredEvent]
    next_cursor: str | None


class NotificationsOutput(Output, frozen=True):
    """Notifications, newest first; `unread` counts all of them, not only this page's.

    `readSeqNo`: everything up to it is read.
    """

    epoch: str
    unread: int
    read_seq_no: int
    results: list[Notification]
    next_cursor: str | None


class MarkReadInput(Input, frozen=True):
    """Mark as read everything up to a sequence."""

    seq_no: Sequence


class MarkReadOutput(Output, frozen=True):
    """Where the read position stands now, and what is unread after it."""

    epoch: str
    read_seq_no: int
    unread: int


class Member(Output, frozen=True):
    """A user on a topic, with how many sockets, and what the backend says of them."""

    user_id: str
    connections: int
    info: dict[str, Any] | None = None


class PresenceOutput(Output, frozen=True):
    """Who is on a topic."""

    topic: str
    members: list[Member]


class DisconnectInput(Input, frozen=True):
    """Why the sockets are closed, for the close frame."""

    reason: Annotated[str, Meta(max_length=100)] = ""


class UnsubscribeInput(Input, frozen=True):
    """The topic that is taken away."""

    topic: Topic


class ProcessOutput(Output, frozen=True):
    """What one gateway process holds. `name`: its host and process id."""

    name: str
    sessions: int
    users: int
    subscriptions: int


class TopicOutput(Output, frozen=True):
    """A topic and how many sockets hold it."""

    topic: str
    subscriptions: int


class StreamOutput(Output, frozen=True):
    """What the stream holds."""

    name: str
    epoch: str
    first_seq_no: int
    last_seq_no: int
    events: int
    bytes: int
    topics: int


class StatsOutput(Output, frozen=True):
    """The gateway as it is now. `topics`: the busiest ones. `outbox`: rows that wait."""

    sessions: int
    subscriptions: int
    processes: list[ProcessOutput]
    topics: list[TopicOutput]
    stream: StreamOutput
    outbox: int
