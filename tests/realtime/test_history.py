"""History on a real stream: tops, pages, the latest, and the epoch."""

from __future__ import annotations

import asyncio

import pytest

from realtime.broker import Broker
from realtime.embedded import NatsServer
from realtime.history import History
from realtime.protocol.exceptions import Unavailable
from realtime.protocol.messages import Event
from tests.support.strict import strict_json
from tests.support.waiting import DEADLINE, until

from .support import TOPIC, config, store, stream_api

OTHER = "room.other"


def sequences(events: list[Event]) -> list[int]:
    """Return the sequences of events."""
    return [one.sequence for one in events]


async def store_many(broker: Broker, topic: str, count: int) -> None:
    """Store so many events, 100 at a time."""
    for start in range(0, count, 100):
        await asyncio.gather(
            *(
                broker.store(topic, str(number).encode(), headers=None, timeout=DEADLINE)
                for number in range(start, min(start + 100, count))
            )
        )


async def limited(broker: Broker, per_topic: int) -> History:
    """Return the history of a stream that keeps so many events a topic."""
    history = History(broker, config(max_msgs_per_subject=per_topic), timeout=DEADLINE)
    await history.open()
    return history


# Tops.


async def test_top_nothing_stored_is_zero(history: History) -> None:
    assert await history.top(TOPIC) == 0


async def test_top_is_the_last_sequence_of_that_topic(broker: Broker, history: History) -> None:
    await store(broker, TOPIC, 3)
    await store(broker, OTHER, 2)
    assert await history.top(TOPIC) == 3
    assert await history.top(OTHER) == 5


async def test_top_asked_together_is_one_question(broker: Broker, history: History) -> None:
    for number in range(20):
        await store(broker, f"room.{number}")
    asked = []
    get = broker.direct_get

    async def counted(*args: object, **options: object) -> object:
        asked.append(args)
        return await get(*args, **options)  # type: ignore[arg-type]

    broker.direct_get = counted  # type: ignore[method-assign, assignment]
    topics = [f"room.{number}" for number in range(20)]
    tops = await asyncio.gather(*(history.top(topic) for topic in [*topics, topics[0]]))
    assert list(tops) == [*range(1, 21), 1]
    assert len(asked) == 1


async def test_tops_more_than_one_request_holds_finds_them_all(
    broker: Broker, history: History
) -> None:
    topics = [f"room.{number}" for number in range(1_100)]
    await asyncio.gather(
        *(broker.store(topic, b"1", headers=None, timeout=DEADLINE) for topic in topics)
    )
    tops = await history.tops([*topics, "room.empty"])
    assert set(tops) == set(topics)
    assert sorted(tops.values()) == list(range(1, 1_101))


async def test_top_cancelled_asker_does_not_disturb_the_others(
    broker: Broker, history: History
) -> None:
    await store(broker, TOPIC, 2)
    first = asyncio.ensure_future(history.top(TOPIC))
    second = asyncio.ensure_future(history.top(TOPIC))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 2


async def test_top_nats_away_is_unavailable(
    broker: Broker, history: History, nats_server: NatsServer
) -> None:
    nats_server.kill()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(DEADLINE):
            await History(broker, config(), timeout=0.3).top(TOPIC)


# Pages.


async def test_page_nothing_stored_is_complete_and_empty(history: History) -> None:
    page = await history.page(TOPIC, 0)
    assert page.events == []
    assert page.complete
    assert not page.more


async def test_page_after_a_held_event_is_complete_and_chained(
    broker: Broker, history: History
) -> None:
    for _ in range(3):
        await store(broker, TOPIC)
        await store(broker, OTHER)
    page = await history.page(TOPIC, 1)
    assert [(one.sequence, one.previous) for one in page.events] == [(3, 1), (5, 3)]
    assert page.complete
    assert not page.more


async def test_page_event_is_what_was_published(broker: Broker, history: History) -> None:
    headers = {"Nats-Msg-Id": "7:m1", "Gateway-Message-Id": "m1"}
    await broker.store(TOPIC, b'{"a":1}', headers=headers, timeout=DEADLINE)
    (one,) = (await history.page(TOPIC, 0)).events
    frame = strict_json(one.text.decode())
    assert frame["data"] == {"a": 1}
    assert frame["messageId"] == "m1"
    assert (frame["seqNo"], frame["prevSeqNo"], frame["topic"]) == (1, 0, TOPIC)


async def test_page_at_the_top_is_empty_and_complete(broker: Broker, history: History) -> None:
    await store(broker, TOPIC, 3)
    page = await history.page(TOPIC, 3)
    assert (page.events, page.complete, page.more) == ([], True, False)


@pytest.mark.parametrize(("limit", "more"), [(1, True), (4, True), (5, False), (6, False)])
async def test_page_limit_says_whether_there_is_more(
    broker: Broker, history: History, limit: int, more: bool
) -> None:
    await store(broker, TOPIC, 6)
    page = await history.page(TOPIC, 1, limit=limit)
    assert sequences(page.events) == list(range(2, 7))[:limit]
    assert page.more is more
    assert page.complete


@pytest.mark.parametrize(("limit", "more"), [(1, True), (5, True), (6, False), (7, False)])
async def test_page_limit_from_the_beginning_says_whether_there_is_more(
    broker: Broker, history: History, limit: int, more: bool
) -> None:
    await store(broker, TOPIC, 6)
    page = await history.page(TOPIC, 0, limit=limit)
    assert sequences(page.events) == list(range(1, 7))[:limit]
    assert page.more is more


async def test_page_upto_leaves_out_later_ones(broker: Broker, history: History) -> None:
    await store(broker, TOPIC, 6)
    page = await history.page(TOPIC, 1, upto=4)
    assert sequences(page.events) == [2, 3, 4]
    assert not page.more
    page = await history.page(TOPIC, 1, limit=2, upto=5)
    assert sequences(page.events) == [2, 3]
    assert page.more


async def test_page_per_topic_limit_discarded_some_is_incomplete(broker: Broker) -> None:
    history = await limited(broker, 4)
    await store(broker, TOPIC, 10)
    page = await history.page(TOPIC, 3)
    assert sequences(page.events) == [7, 8, 9, 10]
    assert not page.complete
    assert not (await history.page(TOPIC, 0)).complete


async def test_page_per_topic_limit_of_another_topic_is_complete(broker: Broker) -> None:
    history = await limited(broker, 4)
    await store(broker, TOPIC, 3)
    await store(broker, OTHER, 10)
    page = await history.page(TOPIC, 0)
    assert sequences(page.events) == [1, 2, 3]
    assert page.complete


async def test_page_limit_reached_exactly_after_the_held_first_is_complete(broker: Broker) -> None:
    history = await limited(broker, 4)
    await store(broker, TOPIC, 10)
    page = await history.page(TOPIC, 7)
    assert sequences(page.events) == [8, 9, 10]
    assert page.complete


async def test_page_stream_purged_is_incomplete(broker: Broker, history: History) -> None:
    await store(broker, TOPIC, 5)
    await stream_api(broker, "PURGE", "TEST")
    page = await history.page(TOPIC, 2)
    assert page.events == []
    assert not page.complete
    await store(broker, TOPIC, 2)
    page = await history.page(TOPIC, 2)
    assert sequences(page.events) == [6, 7]
    assert not page.complete


async def test_page_stream_purged_up_to_the_position_is_complete(
    broker: Broker, history: History
) -> None:
    await store(broker, TOPIC, 5)
    await stream_api(broker, "PURGE", "TEST", {"seq": 4})
    page = await history.page(TOPIC, 3)
    assert sequences(page.events) == [4, 5]
    assert page.complete


async def test_page_topic_purged_is_incomplete(broker: Broker, history: History) -> None:
    """An administrator purges one topic; the stream's first sequence stays where it was."""
    await store(broker, OTHER)
    await store(broker, TOPIC, 5)
    await stream_api(broker, "PURGE", "TEST", {"filter": TOPIC})
    await store(broker, TOPIC)
    page = await history.page(TOPIC, 3)
    assert sequences(page.events) == [7]
    assert not page.complete


async def test_page_a_thousand_events_are_read_in_pages(broker: Broker, history: History) -> None:
    await store_many(broker, TOPIC, 1_000)
    found: list[Event] = []
    pages = 0
    more = True
    while more:
        page = await history.page(TOPIC, found[-1].sequence if found else 0)
        assert page.complete
        found += page.events
        more = page.more
        pages += 1
    assert sequences(found) == list(range(1, 1_001))
    assert [one.previous for one in found] == list(range(1_000))
    assert pages == 4


async def test_page_large_events_are_cut_by_bytes_and_lose_none(
    broker: Broker, history: History
) -> None:
    payload = b'"' + b"x" * 200_000 + b'"'
    for _ in range(7):
        await broker.store(TOPIC, payload, headers=None, timeout=DEADLINE)
    found: list[int] = []
    more = True
    while more:
        page = await history.page(TOPIC, found[-1] if found else 0)
        assert page.complete
        assert len(page.events) < 7
        found += sequences(page.events)
        more = page.more
    assert found == list(range(1, 8))


async def test_page_position_event_fills_the_byte_budget_goes_on_behind_it(
    broker: Broker, history: History
) -> None:
    await broker.store(TOPIC, b'"' + b"x" * 600_000 + b'"', headers=None, timeout=DEADLINE)
    await store(broker, TOPIC, 2)
    page = await history.page(TOPIC, 1)
    assert sequences(page.events) == [2, 3]
    assert page.complete


# The latest.


async def test_latest_nothing_stored_is_empty(history: History) -> None:
    assert await history.latest(TOPIC, 10, None) == []


@pytest.mark.parametrize(
    ("limit", "before", "expected"),
    [
        (3, None, [8, 9, 10]),
        (1, None, [10]),
        (10, None, list(range(1, 11))),
        (1000, None, list(range(1, 11))),
        (3, 8, [5, 6, 7]),
        (3, 3, [1, 2]),
        (3, 1, []),
        (3, 0, []),
        (3, 11, [8, 9, 10]),
        (3, 5_000, [8, 9, 10]),
    ],
)
async def test_latest_before_a_sequence_is_the_newest_before_it(
    broker: Broker, history: History, limit: int, before: int | None, expected: list[int]
) -> None:
    await store(broker, TOPIC, 10)
    assert sequences(await history.latest(TOPIC, limit, before)) == expected


async def test_latest_among_other_topics_steps_back_far_enough(
    broker: Broker, history: History
) -> None:
    for _ in range(5):
        await store(broker, TOPIC)
        await store_many(broker, OTHER, 100)
    assert sequences(await history.latest(TOPIC, 3, None)) == [203, 304, 405]
    assert sequences(await history.latest(TOPIC, 2, 304)) == [102, 203]
    assert sequences(await history.latest(TOPIC, 50, None)) == [1, 102, 203, 304, 405]


async def test_latest_over_the_page_size_is_all_of_it(broker: Broker, history: History) -> None:
    await store_many(broker, TOPIC, 1_000)
    assert sequences(await history.latest(TOPIC, 700, None)) == list(range(301, 1_001))
    assert sequences(await history.latest(TOPIC, 300, 500)) == list(range(200, 500))


async def test_latest_paging_backwards_meets_every_event_once(
    broker: Broker, history: History
) -> None:
    await store_many(broker, TOPIC, 95)
    found: list[int] = []
    before: int | None = None
    while page := sequences(await history.latest(TOPIC, 20, before)):
        found = page + found
        before = page[0]
    assert found == list(range(1, 96))


async def test_latest_discarded_head_is_left_out(broker: Broker) -> None:
    history = await limited(broker, 4)
    await store(broker, TOPIC, 10)
    assert sequences(await history.latest(TOPIC, 10, None)) == [7, 8, 9, 10]
    assert sequences(await history.latest(TOPIC, 10, 8)) == [7]
    assert await history.latest(TOPIC, 10, 5) == []


# The epoch.


async def test_open_again_keeps_epoch_and_events(broker: Broker, history: History) -> None:
    epoch = history.epoch
    assert epoch
    await store(broker, TOPIC, 3)
    info = await history.open()
    assert (history.epoch, info.created, info.state.last) == (epoch, epoch, 3)


async def test_info_stream_recreated_has_another_epoch(broker: Broker, history: History) -> None:
    epoch = history.epoch
    await stream_api(broker, "DELETE", "TEST")
    await stream_api(broker, "CREATE", "TEST", config())
    await history.info()
    assert history.epoch != epoch


async def test_info_stream_deleted_is_made_anew(broker: Broker, history: History) -> None:
    epoch = history.epoch
    await store(broker, TOPIC, 3)
    await stream_api(broker, "DELETE", "TEST")
    info = await history.info()
    assert info.state.last == 0
    assert history.epoch == info.created != epoch
    assert (await store(broker, TOPIC))[0].sequence == 1


async def test_info_server_restarted_keeps_the_epoch(
    broker: Broker, history: History, nats_server: NatsServer
) -> None:
    epoch = history.epoch
    await store(broker, TOPIC, 3)
    nats_server.kill()
    nats_server.start()
    await until(lambda: broker.connected and broker.reconnects)
    assert (await history.info()).state.last == 3
    assert history.epoch == epoch
    assert sequences((await history.page(TOPIC, 0)).events) == [1, 2, 3]
