"""The link: one connection to NATS for threads, event loops and forks of a backend process."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pytest_django import Settings

from realtime import commands, link
from realtime.broker import Broker, connected
from realtime.embedded import NatsServer
from realtime.nats_client import Message
from realtime.protocol.exceptions import Unavailable
from tests.support.backend import close_link
from tests.support.ports import free_port
from tests.support.processes import manage
from tests.support.proxy import Proxy
from tests.support.waiting import DEADLINE, until, wait_until

SUBJECT = "link.test"
THREADS = 8
CONNECT_TIMEOUT = 0.5
HELD = 30.0
"""Seconds until an attempt to connect goes on although nobody lets it."""

forking = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def fresh_link() -> Iterator[None]:
    yield
    close_link()


@pytest.fixture
def nats(nats_server: NatsServer, settings: Settings) -> NatsServer:
    """Return the server that links of this test use."""
    settings.REALTIME = {**settings.REALTIME, "NATS_URL": nats_server.url}
    return nats_server


@pytest.fixture
def away(settings: Settings) -> str:
    """Point links at an address where nobody listens, and return it."""
    address = f"nats://127.0.0.1:{free_port()}"
    settings.REALTIME = {
        **settings.REALTIME,
        "NATS_URL": address,
        "NATS_CONNECT_TIMEOUT": CONNECT_TIMEOUT,
    }
    return address


class Attempts:
    """Attempts to connect, and what waits for them.

    Attributes:
        timeouts: how long each may take, in seconds.
        asked: how much work the link was given.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timeouts: list[float] = []
        self.asked = 0
        self.go_on: Callable[[], bool] = lambda: True
        connect, submit = Broker.connect, link.Link.submit

        async def held(broker: Broker) -> None:
            self.timeouts.append(broker._connect_timeout)
            await until(self.go_on, HELD, what="the test to let it connect")
            await connect(broker)

        def counted(one: link.Link, work: link.Work[object]) -> Future[object]:
            self.asked += 1
            return submit(one, work)

        monkeypatch.setattr(Broker, "connect", held)
        monkeypatch.setattr(link.Link, "submit", counted)

    def hold_until(self, go_on: Callable[[], bool]) -> None:
        """Have attempts wait for a condition."""
        self.go_on = go_on


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    """Return the attempts to connect to NATS, which go on at once unless told otherwise."""
    return Attempts(monkeypatch)


class Inbox:
    """What came on the test's subject."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        self.data.append(message.data)

    async def has(self, count: int) -> None:
        await until(lambda: len(self.data) >= count, what=f"{count} messages")


@asynccontextmanager
async def listening(server: NatsServer, subject: str = SUBJECT) -> AsyncIterator[Inbox]:
    """Yield what is published on a subject."""
    inbox = Inbox()
    async with connected(server.url, name="test") as broker:
        await broker.subscribe(subject, inbox)
        await broker.flush(DEADLINE)
        yield inbox


async def connection_of(broker: Broker) -> tuple[int, str]:
    """Say in which thread the work runs and on which connection."""
    await broker.flush()
    return threading.get_ident(), broker.inbox


def say(data: bytes) -> link.Work[None]:
    """Return work that publishes on the test's subject."""
    return lambda broker: broker.publish(SUBJECT, data)


def failing(work: Callable[[], object]) -> BaseException | None:
    """Return how it failed."""
    try:
        work()
    except Exception as exc:
        return exc
    return None


# Threads and loops.


def test_run_from_many_threads_shares_one_connection(nats: NatsServer) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        barrier = threading.Barrier(THREADS)

        def work(_: int) -> tuple[int, str]:
            barrier.wait(DEADLINE)
            return link.run(connection_of)

        found = set(pool.map(work, range(THREADS)))
    assert len(found) == 1
    assert threading.get_ident() not in {ident for ident, _ in found}


async def test_run_that_the_server_has_not_seen_is_unavailable(
    nats: NatsServer, settings: Settings
) -> None:
    async with Proxy(nats.port) as proxy:
        settings.REALTIME = {
            **settings.REALTIME,
            "NATS_URL": f"nats://{proxy.host}:{proxy.port}",
        }
        await asyncio.to_thread(link.run, say(b"seen"))
        proxy.black_hole()
        with pytest.raises(Unavailable):
            await asyncio.to_thread(link.run, say(b"not seen"))


async def test_arun_from_two_loops_shares_one_connection(nats: NatsServer) -> None:
    here = await link.arun(connection_of)
    there = await asyncio.to_thread(lambda: asyncio.run(link.arun(connection_of)))
    assert here == there


async def test_arun_does_not_block_the_loop_it_is_called_from(nats: NatsServer) -> None:
    release = threading.Event()

    async def wait(broker: Broker) -> str:
        return "done" if await asyncio.to_thread(release.wait, DEADLINE) else "timed out"

    waiting = asyncio.create_task(link.arun(wait))
    asyncio.get_running_loop().call_later(0.05, release.set)
    assert await waiting == "done"


def test_run_work_that_raises_passes_it_on_and_the_link_lives(nats: NatsServer) -> None:
    async def fail(broker: Broker) -> None:
        raise LookupError("mine")

    before = link.run(connection_of)
    with pytest.raises(LookupError, match="mine"):
        link.run(fail)
    assert link.run(connection_of) == before


async def test_arun_given_up_leaves_the_link_usable(nats: NatsServer) -> None:
    entered = threading.Event()
    ended = threading.Event()

    async def hang(broker: Broker) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(link.arun(hang))
    await until(entered.is_set, what="the work to begin")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(ended.is_set, what="the work to be cancelled in the link's thread")
    assert await link.arun(connection_of)


async def test_run_with_another_nats_url_uses_it(
    nats: NatsServer, settings: Settings, tmp_path: Path
) -> None:
    other = NatsServer(tmp_path / "other")
    other.start()
    try:
        async with listening(nats) as here, listening(other) as there:
            await link.arun(say(b"first"))
            settings.REALTIME = {**settings.REALTIME, "NATS_URL": other.url}
            await link.arun(say(b"second"))
            await here.has(1)
            await there.has(1)
        assert (here.data, there.data) == ([b"first"], [b"second"])
    finally:
        other.kill()


# Forks.


def forked(work: Callable[[], str]) -> str | None:
    """Return what work returns in a fork of this process, None when it fails or hangs.

    Fork from the main thread: a child of a pool's thread cannot end properly.
    """
    ours, theirs = forking.Pipe()
    child = forking.Process(target=lambda: theirs.send(work()))
    child.start()
    theirs.close()
    try:
        return str(ours.recv()) if ours.poll(DEADLINE) else None
    except EOFError:
        return None
    finally:
        child.kill()
        child.join()


def test_run_after_a_fork_connects_anew_in_the_child_only(nats: NatsServer) -> None:
    before = link.run(connection_of)
    in_child = forked(lambda: link.run(connection_of)[1])
    assert in_child is not None
    assert in_child != before[1]
    assert link.run(connection_of) == before


def test_run_forked_while_a_thread_holds_the_links_lock_works_in_the_child(
    nats: NatsServer,
) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with link._lock:
            held.set()
            release.wait(2 * DEADLINE)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(DEADLINE)
        assert forked(lambda: link.run(connection_of)[1]) is not None
    finally:
        release.set()
        holder.join()


# NATS away.


def test_run_nats_away_is_unavailable_in_a_sentence_after_the_connect_timeout(
    away: str, attempts: Attempts
) -> None:
    exc = failing(lambda: link.run(say(b"")))
    assert isinstance(exc, Unavailable)
    assert str(exc).startswith(f"NATS is not reachable at {away}: ")
    assert str(exc).endswith(".")
    assert attempts.timeouts == [CONNECT_TIMEOUT]


async def test_arun_nats_away_is_unavailable_after_the_connect_timeout(
    away: str, attempts: Attempts
) -> None:
    with pytest.raises(Unavailable, match=away):
        await link.arun(say(b""))
    assert attempts.timeouts == [CONNECT_TIMEOUT]


async def test_run_nats_silent_is_unavailable_after_the_connect_timeout(
    nats: NatsServer, settings: Settings, attempts: Attempts
) -> None:
    async with Proxy(nats.port) as proxy:
        proxy.black_hole()
        settings.REALTIME = {
            **settings.REALTIME,
            "NATS_URL": f"nats://{proxy.host}:{proxy.port}",
            "NATS_CONNECT_TIMEOUT": CONNECT_TIMEOUT,
        }
        exc = await asyncio.to_thread(failing, lambda: link.run(say(b"")))
    assert isinstance(exc, Unavailable)
    assert attempts.timeouts == [CONNECT_TIMEOUT]


def test_run_nats_away_many_threads_all_fail_by_one_attempt(away: str, attempts: Attempts) -> None:
    attempts.hold_until(lambda: attempts.asked == THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        failures = list(pool.map(lambda _: failing(lambda: link.run(say(b""))), range(THREADS)))
    assert {type(exc) for exc in failures} == {Unavailable}
    assert attempts.timeouts == [CONNECT_TIMEOUT]


def test_run_nats_away_behind_posts_fails_by_the_same_attempt(
    away: str, attempts: Attempts
) -> None:
    attempts.hold_until(lambda: attempts.asked == THREADS + 1)
    for _ in range(THREADS):
        link.post(say(b""), "a post")
    assert isinstance(failing(lambda: link.run(say(b""))), Unavailable)
    assert attempts.timeouts == [CONNECT_TIMEOUT]


def test_run_nats_back_works_again(nats: NatsServer, settings: Settings) -> None:
    settings.REALTIME = {**settings.REALTIME, "NATS_CONNECT_TIMEOUT": CONNECT_TIMEOUT}
    nats.kill()
    with pytest.raises(Unavailable):
        link.run(connection_of)
    settings.REALTIME = {**settings.REALTIME, "NATS_CONNECT_TIMEOUT": DEADLINE}
    nats.start()
    assert link.run(connection_of)


def test_run_nats_restarted_comes_back_by_itself(nats: NatsServer) -> None:
    link.run(connection_of)
    nats.kill()
    with pytest.raises(Unavailable):
        link.run(connection_of)
    nats.start()

    def back() -> bool:
        try:
            return bool(link.run(connection_of))
        except Unavailable:
            return False

    wait_until(back, what="the link to come back")


# Posting.


async def test_post_does_not_wait_and_goes_out(nats: NatsServer) -> None:
    async with listening(nats) as inbox:
        link.post(say(b"1"), "a post")
        link.post(say(b"2"), "a post")
        await inbox.has(2)
    assert inbox.data == [b"1", b"2"]


def test_post_nats_away_does_not_wait_for_it_and_the_failure_is_logged(
    away: str, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    returned = threading.Event()
    attempts.hold_until(returned.is_set)
    link.post(say(b""), "reauthorize user=7")
    returned.set()
    wait_until(lambda: "reauthorize user=7 failed reason=" in caplog.text, what="the log line")
    (record,) = [one for one in caplog.records if one.name == "realtime.link"]
    assert record.levelno == logging.WARNING
    assert f"NATS is not reachable at {away}" in record.getMessage()


def test_post_over_the_bound_is_let_go_and_said_so(
    away: str,
    attempts: Attempts,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = threading.Event()
    attempts.hold_until(told.is_set)
    wait_until(lambda: not link._posted, 30, what="the posts of other tests to end")
    monkeypatch.setattr(link, "MAX_POSTED", 2)
    for number in range(3):
        link.post(say(b""), f"post-{number}")
    assert "post-2 let go" in caplog.text
    assert "post-1 let go" not in caplog.text
    told.set()
    wait_until(lambda: not link._posted, what="the posts to fail")
    link.post(say(b""), "post-3")
    assert "post-3 let go" not in caplog.text


async def test_close_lets_what_runs_end_and_what_does_not_hear_of_it(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CLOSE_SECONDS", 3.0)
    one = link.Link()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def endless(broker: Broker) -> None:
        loop.call_soon_threadsafe(begun.set)
        await asyncio.Event().wait()

    async def flushing(broker: Broker) -> str:
        await broker.flush()
        return "sent"

    stuck, sent = one.submit(endless), one.submit(flushing)
    await begun.wait()
    one.close()
    assert await asyncio.wrap_future(sent) == "sent"
    await until(stuck.done, what="the stuck one to be cancelled")
    assert stuck.cancelled()


async def test_post_of_a_process_that_ends_goes_out(nats: NatsServer) -> None:
    # Users would not wait as long for a post to go out, as a busy machine may take.
    script = (
        "from realtime import commands, link;"
        f"link.FINISH_SECONDS = {DEADLINE}; commands.rules_changed([7])"
    )
    async with listening(nats, "gateway.control.acl") as inbox:
        env = {"NATS_URL": nats.url, "DATA_DIR": os.environ["DATA_DIR"]}
        await asyncio.to_thread(lambda: manage("shell", "-v", "0", "-c", script, env=env))
        await inbox.has(1)
    assert inbox.data == [b'{"users":[7],"groups":null}']


async def test_post_of_a_process_that_ends_without_nats_holds_it_up_briefly(away: str) -> None:
    # The post itself would wait for an hour, and `manage` gives up long before that.
    script = (
        "from django.conf import settings; from realtime import commands;"
        'settings.REALTIME = {**settings.REALTIME, "NATS_CONNECT_TIMEOUT": 3600.0};'
        'commands.reauthorize(7); print("posted")'
    )
    env = {"NATS_URL": away, "DATA_DIR": os.environ["DATA_DIR"]}
    out = await asyncio.to_thread(lambda: manage("shell", "-v", "0", "-c", script, env=env))
    assert out == "posted\n"


# What commands publish.


@pytest.mark.parametrize(
    ("command", "subject", "data"),
    [
        (
            lambda: commands.disconnect(7, "kicked"),
            "gateway.control.user.7",
            b'{"action":"disconnect","topic":null,"reason":"kicked"}',
        ),
        (
            lambda: commands.unsubscribe("7", "room.1"),
            "gateway.control.user.7",
            b'{"action":"unsubscribe","topic":"room.1","reason":null}',
        ),
        (
            lambda: commands.reauthorize(7),
            "gateway.control.user.7",
            b'{"action":"reauthorize","topic":null,"reason":null}',
        ),
        (
            lambda: commands.rules_changed(iter([1, 2])),
            "gateway.control.acl",
            b'{"users":[1,2],"groups":null}',
        ),
        (
            lambda: commands.rules_changed(None),
            "gateway.control.acl",
            b'{"users":null,"groups":null}',
        ),
    ],
    ids=["disconnect", "unsubscribe", "reauthorize", "rules of some", "rules of all"],
)
@pytest.mark.django_db(transaction=True)  # disconnecting is written down, in the thread
async def test_command_publishes_its_control_message(
    nats: NatsServer, command: Callable[[], None], subject: str, data: bytes
) -> None:
    async with listening(nats, subject) as inbox:
        await asyncio.to_thread(command)
        await inbox.has(1)
    assert inbox.data == [data]
