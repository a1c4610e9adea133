"""The gateway as it is now: what its processes, the stream and the outbox hold."""

from __future__ import annotations

import asyncio
from collections import Counter

from ..broker import Broker
from ..conf import settings
from ..models import OutboxMessage
from ..parts import make_history
from ..protocol.jetstream import StreamInfo
from ..protocol.messages import ProcessStats
from .access import asker, run
from .bodies import ProcessOutput, StatsOutput, StreamOutput, TopicOutput

BUSIEST = 20
"""Topics in the statistics."""


def gather_stats() -> StatsOutput:
    """Return what every process that answers in time holds.

    Raises:
        Unavailable: when NATS does not answer.
    """

    async def read(broker: Broker) -> tuple[list[ProcessStats], StreamInfo]:
        return await asyncio.gather(asker(broker).stats(), make_history(broker).info())

    processes, info = run(read)
    topics: Counter[str] = Counter()
    for process in processes:
        topics.update(process.topics)
    return StatsOutput(
        sessions=sum(one.sessions for one in processes),
        subscriptions=sum(one.subscriptions for one in processes),
        processes=[
            ProcessOutput(one.name, one.sessions, one.users, one.subscriptions) for one in processes
        ],
        topics=[TopicOutput(*one) for one in topics.most_common(BUSIEST)],
        stream=_stream(info),
        outbox=OutboxMessage.objects.count(),
    )


def _stream(info: StreamInfo) -> StreamOutput:
    return StreamOutput(
        name=settings.STREAM,
        epoch=info.created,
        first_seq_no=info.state.first,
        last_seq_no=info.state.last,
        events=info.state.messages,
        bytes=info.state.bytes,
        topics=info.state.subjects,
    )
