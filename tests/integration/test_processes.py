"""The gateway in many processes: each of them, and both servers, may die at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from realtime.broker import Broker, connected
from realtime.protocol.exceptions import Unavailable
from tests.support.client import TestClient
from tests.support.gateways import Cluster
from tests.support.ports import free_port
from tests.support.processes import ManageProcess
from tests.support.recorder import Recorder, Run
from tests.support.waiting import until, wait_until

from .support import ALICE, BOB, add_rules, new_topic

RECOVERY = 30.0
"""Seconds in which everything must have arrived after a fault."""
DRAIN = 30.0
"""Seconds in which a process must have ended after SIGTERM."""


class Site(Cluster):
    """The processes of this module, with tokens, made whole again after each test."""

    tokens: dict[str, str]

    def as_user(self, which: int, user: str = "alice", **options: Any) -> TestClient:
        """Return a client of a demo user at a web process."""
        return TestClient(self.ws_url(which), token=self.tokens[user], **options)

    def mend(self) -> None:
        """Start again what a test has ended, and return when all serve."""
        self.nats.start()
        self.redis.start()
        for process in self.processes:
            if not process.is_alive():
                process.start()
        for process, port in zip(self.web, self.ports, strict=True):
            process.wait_port(port)
        self.wait_listening("gateway.auth", len(self.auth_workers))
        self.wait_listening("gateway.relay.", len(self.bridges))
        self.wait_listening("gateway.control.acl", len(self.web))


@pytest.fixture(scope="module")
def cluster(data_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run two of each process for all tests of this module."""
    # Auth workers that are frozen are waited for: not for long, but longer than one is ever late.
    env = {"REALTIME_AUTH_TIMEOUT": "8"}
    site = Site(tmp_path_factory.mktemp("processes"), data_template, env)
    add_rules(site, [("allow", "request", "rpc.>"), ("allow", "subscribe", "live.>")])
    try:
        site.start(web=2, bridges=2, auth_workers=2)
        site.tokens = {user: site.token(user) for user in ("alice", "bob")}
        site.mend()
        yield site
    finally:
        site.close()


@pytest.fixture
def site(cluster: Site) -> Iterator[Site]:
    """Return the processes, all alive and listening."""
    cluster.mend()
    yield cluster
    for process in cluster.processes:
        assert "Traceback" not in process.text(), process.text()[-4000:]


class Backend:
    """A backend that publishes until the stream has it, as a careful one does."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.run = Run()

    async def publish(self, topic: str, count: int, *, pause: float = 0.0) -> None:
        """Store so many messages; the same id makes trying again harmless."""
        for _ in range(count):
            message_id, payload = self.run.message(topic)
            await self._store(topic, message_id, payload)
            await asyncio.sleep(pause)

    async def _store(self, topic: str, message_id: str, payload: Any) -> None:
        data, headers = json.dumps(payload).encode(), {"Nats-Msg-Id": message_id}
        async with asyncio.timeout(RECOVERY * 2):
            while True:
                try:
                    await self.broker.store(topic, data, headers=headers, timeout=1)
                    return
                except Unavailable:
                    await asyncio.sleep(0.05)


@pytest.fixture
async def backend(site: Site) -> AsyncIterator[Backend]:
    """Return a connected backend."""
    async with connected(site.nats.url, name="backend") as broker:
        yield Backend(broker)


@pytest.fixture
def room() -> str:
    """Return a room that is empty."""
    return new_topic()


async def arrived(recorder: Recorder, backend: Backend, timeout: float = RECOVERY) -> None:
    """Wait until all that was published is there, then require that it came once, in order."""
    await until(
        lambda: recorder.has_all(backend.run.published),
        timeout,
        what=f"all that was published; {recorder.report(backend.run.published)}",
    )
    report = recorder.report(backend.run.published)
    assert report.clean, report


@contextlib.asynccontextmanager
async def publishing(backend: Backend, topic: str, count: int = 300) -> AsyncIterator[None]:
    """Publish beside what a test does, which begins when a third is out."""
    task = asyncio.create_task(backend.publish(topic, count, pause=0.003))
    await until(lambda: len(backend.run.published.get(topic, ())) > count / 3)
    yield
    await task


# When nothing fails.


async def test_event_reaches_every_web_process_once_and_in_order(
    site: Site, backend: Backend, room: str
) -> None:
    async with site.as_user(0) as one, site.as_user(1, "bob") as two:
        await one.subscribe(room)
        await two.subscribe(room)
        await backend.publish(room, 300)
        await arrived(one.recorder, backend)
        await arrived(two.recorder, backend)


async def test_publish_at_one_process_reaches_a_client_of_the_other(site: Site, room: str) -> None:
    async with site.as_user(0) as one, site.as_user(1, "bob") as two:
        await two.subscribe(room)
        ack = await one.publish(room, {"text": "hi"}, message_id="hello")
        message = await two.expect("message", topic=room)
        assert (message["seqNo"], message["messageId"]) == (ack["seqNo"], "hello")


async def test_ephemeral_event_reaches_every_web_process_once(site: Site, backend: Backend) -> None:
    topic = new_topic("live")
    async with site.as_user(0) as one, site.as_user(1) as two:
        await one.subscribe(topic)
        await two.subscribe(topic)
        for number in range(50):
            await backend.broker.publish(topic, str(number).encode())
        for client in (one, two):
            await until(lambda client=client: client.recorder.count(topic) == 50)
            await client.ask("ping", "pong")
            assert len(client.recorder.receipts[topic]) == 50


async def test_pattern_brings_every_topic_to_every_process_once_and_in_order(
    site: Site, backend: Backend, room: str
) -> None:
    """Bridges have no part in it, whether they run here or, as here, elsewhere."""
    topics = [f"{room}.{name}" for name in "abc"]
    async with site.as_user(0) as one, site.as_user(1, "bob") as two:
        for client in (one, two):
            await client.subscribe(f"{room}.*")
        await asyncio.gather(*(backend.publish(topic, 100) for topic in topics))
        await arrived(one.recorder, backend)
        await arrived(two.recorder, backend)


async def test_pattern_resumed_at_the_other_process_misses_nothing(
    site: Site, backend: Backend, room: str
) -> None:
    recorder = Recorder()
    async with site.as_user(0, recorder=recorder) as client:
        await client.subscribe(f"{room}.*")
        await backend.publish(f"{room}.a", 5)
        await arrived(recorder, backend)
        session_id = client.ready["sessionId"]
    await backend.publish(f"{room}.b", 5)
    await backend.publish(f"{room}.a", 5)
    position = recorder.last(f"{room}.a")
    fields = {"sessionId": session_id, "lastSeqPerTopic": {f"{room}.*": position}}
    async with site.as_user(1, recorder=recorder, connect_fields=fields):
        await arrived(recorder, backend)


async def test_presence_counts_the_sockets_of_every_process(site: Site, room: str) -> None:
    async with site.as_user(0) as one, site.as_user(1) as two, site.as_user(1, "bob") as three:
        for client in (one, two, three):
            await client.subscribe(room)

        async def counted() -> bool:  # gateways have a quarter of a second to answer
            reply = await one.ask("presence", "reply", topic=room)
            found = [(member["userId"], member["connections"]) for member in reply["data"]]
            return found == [(ALICE, 2), (BOB, 1)]

        await until(counted, what="the sockets of both processes")


async def users_told(client: TestClient, room: str, joined: list[str], left: list[str]) -> None:
    """Require that the next joins and leaves are of these users, however they are gathered."""
    found: tuple[list[str], list[str]] = ([], [])
    while len(found[0]) < len(joined) or len(found[1]) < len(left):
        frame = await client.expect("presence", topic=room, timeout=RECOVERY)
        found[0].extend(one["userId"] for one in frame["joined"])
        found[1].extend(frame["left"])
    assert (sorted(found[0]), sorted(found[1])) == (joined, left)


def told_of(client: TestClient, field: str) -> list[Any]:
    """Return all that a client was told of those who `joined` or `left`."""
    frames = [frame for frame in client.frames if frame["type"] == "presence"]
    return [one for frame in frames for one in frame[field]]


async def watching(client: TestClient, room: str) -> list[str]:
    """Subscribe to a room and its presence; return the users who are there."""
    await client.subscribe(room, presence=True)
    return await present(client, room)


async def present(client: TestClient, room: str) -> list[str]:
    """Return the users who are in a room."""
    reply = await client.ask("presence", "reply", topic=room)
    return [member["userId"] for member in reply["data"]]


async def watching_both(client: TestClient, room: str) -> None:
    """Subscribe to a room and its presence, and return when alice and bob are there.

    Whom another process tells late is told as one who joins.
    """
    await watching(client, room)

    async def both() -> bool:
        return await present(client, room) == [ALICE, BOB]

    await until(both, what="both users")


async def test_join_and_leave_are_told_to_every_process(site: Site, room: str) -> None:
    async with site.as_user(0) as one, site.as_user(1) as two:
        for client in (one, two):
            assert await watching(client, room) == [ALICE]
        async with site.as_user(1, "bob") as bob:
            await bob.subscribe(room)
            for client in (one, two):
                await users_told(client, room, [BOB], [])
        for client in (one, two):
            await users_told(client, room, [], [BOB])


async def test_control_disconnect_reaches_every_process(site: Site, backend: Backend) -> None:
    async with site.as_user(0) as one, site.as_user(1) as two, site.as_user(1, "bob") as bob:
        await backend.broker.publish(f"gateway.control.user.{ALICE}", b'{"action":"disconnect"}')
        await one.expect_close(4502)
        await two.expect_close(4502)
        await bob.ask("ping", "pong")


async def test_request_nobody_there_is_no_responder(site: Site) -> None:
    """Though the bridges listen to everything that is relayed."""
    async with site.as_user(0) as client:
        error = await client.error("request", topic=new_topic("rpc"), payload=1)
        assert error["code"] == "NO_RESPONDER"


async def test_resume_at_the_other_process_sends_what_was_missed(
    site: Site, backend: Backend, room: str
) -> None:
    recorder = Recorder()
    async with site.as_user(0, recorder=recorder) as client:
        await client.subscribe(room)
        await backend.publish(room, 5)
        await arrived(recorder, backend)
        session_id = client.ready["sessionId"]
    await backend.publish(room, 5)
    fields = {"sessionId": session_id, "lastSeqPerTopic": {room: recorder.last(room)}}
    async with site.as_user(1, recorder=recorder, connect_fields=fields):
        await arrived(recorder, backend)


# Faults.


async def test_bridge_killed_loses_nothing(site: Site, backend: Backend, room: str) -> None:
    async with site.as_user(0) as one, site.as_user(1) as two:
        await one.subscribe(room)
        await two.subscribe(room)
        async with publishing(backend, room):
            site.bridges[0].kill()
        await arrived(one.recorder, backend)
        await arrived(two.recorder, backend)


async def test_every_bridge_killed_is_repaired_from_the_stream(
    site: Site, backend: Backend, room: str
) -> None:
    """Nothing is relayed any more: the web processes' look at the tops is what finds it."""
    async with site.as_user(0) as client:
        await client.subscribe(room)
        for bridge in site.bridges:
            bridge.kill()
        await backend.publish(room, 20)
        await arrived(client.recorder, backend)


async def test_bridge_frozen_and_thawed_repeats_nothing(
    site: Site, backend: Backend, room: str
) -> None:
    async with site.as_user(0) as client:
        await client.subscribe(room)
        try:
            async with publishing(backend, room):
                site.bridges[0].pause()
            await arrived(client.recorder, backend)
        finally:
            site.bridges[0].resume()
        await backend.publish(room, 20)
        await arrived(client.recorder, backend)


async def test_redis_killed_and_restarted_loses_nothing(
    site: Site, backend: Backend, room: str
) -> None:
    async with site.as_user(0) as one, site.as_user(1) as two:
        await one.subscribe(room)
        await two.subscribe(room)
        async with publishing(backend, room):
            site.redis.kill()
            site.redis.start()
        await arrived(one.recorder, backend)
        await arrived(two.recorder, backend)
        # It is heard again at once, not only at the next look at the tops.
        await backend.publish(room, 5)
        await arrived(one.recorder, backend)


async def test_redis_away_subscribe_is_unavailable_and_works_later(
    site: Site, backend: Backend, room: str
) -> None:
    async with site.as_user(0) as client:
        site.redis.kill()
        error = await client.ask("subscribe", "error", topic=room, timeout=30)
        assert (error["code"], error["topic"]) == ("UNAVAILABLE", room)
        site.redis.start()

        async def subscribed() -> bool:
            await client.send("subscribe", topic=room, id="again")
            await client.ask("ping", "pong", timeout=30)
            return any(
                frame["type"] == "subscribed" and frame.get("id") == "again"
                for frame in client.frames
            )

        await until(subscribed, RECOVERY)
        await backend.publish(room, 5)
        await arrived(client.recorder, backend)


async def test_nats_killed_and_restarted_loses_nothing_and_keeps_the_sockets(
    site: Site, backend: Backend, room: str
) -> None:
    async with site.as_user(0) as one, site.as_user(1) as two:
        await one.subscribe(room)
        await two.subscribe(room)
        async with publishing(backend, room):
            site.nats.kill()
            site.nats.start()
        await arrived(one.recorder, backend)
        await arrived(two.recorder, backend)
        assert one.close_code is None
        assert two.close_code is None
        assert not [frame for frame in one.frames if frame["type"] in ("gap", "reset")]


async def test_nats_killed_and_restarted_loses_nothing_of_a_pattern(
    site: Site, backend: Backend, room: str
) -> None:
    async with site.as_user(0) as one:
        await one.subscribe(f"{room}.*")
        async with publishing(backend, f"{room}.a"):
            site.nats.kill()
            site.nats.start()
        # A topic that is new, by whose events nobody could tell what was missed of it.
        await backend.publish(f"{room}.b", 5)
        await arrived(one.recorder, backend)
        assert not [frame for frame in one.frames if frame["type"] in ("gap", "reset")]


async def test_nats_away_is_told_and_everything_works_again(
    site: Site, backend: Backend, room: str
) -> None:
    async with site.as_user(0) as client:
        await client.subscribe(room)
        site.nats.kill()
        # Elsewhere: what was on its way may be stored all the same.
        error = await client.error("publish", topic=new_topic(), messageId="away", payload=1)
        assert error["code"] == "UNAVAILABLE"
        for type, fields in (
            ("subscribe", {"topic": new_topic()}),
            ("history", {"topic": room}),
            ("presence", {"topic": room}),
            ("request", {"topic": "rpc.a", "payload": 1}),
        ):
            error = await client.error(type, **fields)
            assert error["code"] == "UNAVAILABLE", type
        await client.ask("ping", "pong")
        async with TestClient(site.ws_url(1), connect=False) as stranger:
            error = await stranger.error("connect", token=site.tokens["bob"])
            assert error["code"] == "AUTH_UNAVAILABLE"
            await stranger.expect_close(4002)
        site.nats.start()
        await backend.publish(room, 5)
        await arrived(client.recorder, backend)

        async def back() -> bool:
            """Say whether this process is at NATS again; the event came by bridge and Redis."""
            try:
                await client.ask("history", "reply", topic=room)
                return True
            except AssertionError:
                return False

        await until(back, RECOVERY)
        ack = await client.ask("publish", "ack", topic=room, messageId="back", payload=1)
        assert ack["status"] == "ok"


async def test_web_killed_client_goes_on_at_the_other(
    site: Site, backend: Backend, room: str
) -> None:
    recorder = Recorder()
    async with site.as_user(0, recorder=recorder) as client, site.as_user(1) as bystander:
        await client.subscribe(room)
        await bystander.subscribe(room)
        session_id = client.ready["sessionId"]
        async with publishing(backend, room):
            site.web[0].kill()
            assert await client.closed() == 1006
            fields = {"sessionId": session_id, "lastSeqPerTopic": {room: recorder.last(room)}}
            second = site.as_user(1, recorder=recorder, connect_fields=fields)
            await second.__aenter__()
        await arrived(recorder, backend)
        await arrived(bystander.recorder, backend)
        await second.close()


async def test_web_killed_takes_its_users_along(site: Site, room: str) -> None:
    """With kill -9 nobody says goodbye: the sign of life that stays away does."""
    async with site.as_user(0, "bob") as bob, site.as_user(1) as one:
        await bob.subscribe(room)
        await watching_both(one, room)
        site.web[0].kill()
        await until(lambda: told_of(one, "left") == [BOB], what="bob's leave")
        assert await present(one, room) == [ALICE]


async def test_web_killed_user_who_comes_back_at_once_has_not_left(site: Site, room: str) -> None:
    async with site.as_user(0, "bob") as bob, site.as_user(1) as one:
        await bob.subscribe(room)
        await watching_both(one, room)
        site.web[0].kill()
        async with site.as_user(1, "bob") as again:
            await again.subscribe(room)

            async def forgotten() -> bool:
                reply = await one.ask("presence", "reply", topic=room)
                return [each["connections"] for each in reply["data"]] == [1, 1]

            await until(forgotten, RECOVERY)
            await one.ask("ping", "pong")
            assert told_of(one, "left") == []


async def test_nats_restarted_presence_goes_on(site: Site, room: str) -> None:
    """The bucket is in memory: it is made anew, and everything told again."""
    async with site.as_user(0) as one, site.as_user(1, "bob") as bob:
        assert await watching(one, room) == [ALICE]
        site.nats.kill()
        site.nats.start()
        site.wait_listening("$KV.GATEWAY_PRESENCE.", len(site.web))

        async def subscribed() -> bool:
            await bob.send("subscribe", topic=room)
            await bob.ask("ping", "pong", timeout=30)
            return any(frame["type"] == "subscribed" for frame in bob.frames)

        await until(subscribed, RECOVERY)
        await users_told(one, room, [BOB], [])


@pytest.mark.parametrize("how", [ManageProcess.kill, ManageProcess.pause])
async def test_auth_workers_away_is_told_and_closes(
    site: Site, how: Callable[[ManageProcess], None]
) -> None:
    async with site.as_user(0) as open_before:
        for worker in site.auth_workers:
            how(worker)
        try:
            async with TestClient(site.ws_url(0), connect=False) as client:
                error = await client.error("connect", token=site.tokens["alice"])
                assert error["code"] == "AUTH_UNAVAILABLE"
                await client.expect_close(4002)
            await open_before.ask("ping", "pong")
        finally:
            for worker in site.auth_workers:
                if worker.is_alive():
                    worker.resume()


async def test_auth_worker_killed_the_other_answers(site: Site) -> None:
    site.auth_workers[0].kill()
    # Until NATS has seen that, it hands questions to the dead.
    await until(lambda: site.listening("gateway.auth") == 1, what="one auth worker")
    for _ in range(5):
        async with site.as_user(0) as client:
            assert client.ready["userId"] == ALICE


# Leaving in good order.


@pytest.fixture
def leaving(site: Site) -> Iterator[tuple[ManageProcess, int]]:
    """Run one more web process; return it and its number."""
    process = site.add_web()
    which = len(site.web) - 1
    process.wait_port(site.ports[which])
    site.wait_listening("gateway.control.acl", len(site.web))
    yield process, which
    process.kill()
    site.processes.remove(site.web.pop())
    site.ports.pop()


async def test_sigterm_asks_clients_to_come_back_and_exits_0(
    site: Site, backend: Backend, room: str, leaving: tuple[ManageProcess, int]
) -> None:
    process, which = leaving
    recorder = Recorder()
    async with site.as_user(which, recorder=recorder) as client:
        await client.subscribe(room)
        session_id = client.ready["sessionId"]
        async with publishing(backend, room):
            process.terminate()
            reconnect = await client.expect("reconnect")
            assert reconnect["reason"] == "drain"
            assert 0 <= reconnect["afterMs"] <= 10_000
            await client.expect_close(4000)
            fields = {"sessionId": session_id, "lastSeqPerTopic": {room: recorder.last(room)}}
            second = site.as_user(0, recorder=recorder, connect_fields=fields)
            await second.__aenter__()
        await arrived(recorder, backend)
        await second.close()
    assert process.wait(DRAIN) == 0


async def test_sigterm_many_clients_are_spread_in_time(
    site: Site, leaving: tuple[ManageProcess, int]
) -> None:
    process, which = leaving
    clients = [site.as_user(which) for _ in range(20)]
    for client in clients:
        await client.__aenter__()
    process.terminate()
    waits = [(await client.expect("reconnect"))["afterMs"] for client in clients]
    for client in clients:
        await client.expect_close(4000)
    assert len(set(waits)) > 10
    assert process.wait(DRAIN) == 0


async def test_sigterm_client_that_does_not_answer_does_not_hold_it(
    site: Site, leaving: tuple[ManageProcess, int]
) -> None:
    process, which = leaving
    async with site.as_user(which) as deaf, TestClient(site.ws_url(which), connect=False) as mute:
        await mute.ws.ping()
        await deaf.stop_reading()
        process.terminate()
        await until(lambda: not process.is_alive(), DRAIN, what="the end of the web process")
        assert process.returncode == 0
        deaf.abort()


async def test_sigterm_idle_web_process_exits_0(leaving: tuple[ManageProcess, int]) -> None:
    process, _ = leaving
    process.terminate()
    assert process.wait(DRAIN) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["bridges", "auth_workers"])
def test_signal_worker_exits_0(site: Site, kind: str, number: signal.Signals) -> None:
    (process, *_) = getattr(site, kind)
    process.signal(number)
    assert process.wait(DRAIN) == 0


async def test_bridge_stopped_in_good_order_loses_nothing(
    site: Site, backend: Backend, room: str
) -> None:
    async with site.as_user(0) as client:
        await client.subscribe(room)
        async with publishing(backend, room):
            site.bridges[0].terminate()
            await until(lambda: not site.bridges[0].is_alive(), DRAIN)
        await arrived(client.recorder, backend)
    assert site.bridges[0].returncode == 0


# Commands.


def alive(process: ManageProcess) -> list[psutil.Process]:
    """Return the living children of a process."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [one for one in children if one.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def started(site: Site) -> Iterator[Callable[..., ManageProcess]]:
    """Return a function that starts a command; it is ended and forgotten after the test."""
    mine: list[ManageProcess] = []

    def start(*args: str, without: str = "") -> ManageProcess:
        env = {name: value for name, value in site.env.items() if name != without}
        process = ManageProcess(args, env, log=site.data_dir / f"command-{len(mine)}.log")
        process.log.unlink(missing_ok=True)
        mine.append(process)
        process.start()
        return process

    yield start
    for process in mine:
        children = alive(process)
        process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


async def test_serve_two_workers_replaces_one_that_is_killed(
    site: Site, started: Callable[..., ManageProcess]
) -> None:
    port = free_port()
    process = started("serve", "--workers", "2", "--port", str(port))
    process.wait_port(port)
    site.wait_listening("gateway.control.acl", len(site.web) + 2)
    first, second = alive(process)
    first.kill()
    wait_until(
        lambda: len(alive(process)) == 2 and first.pid not in {one.pid for one in alive(process)},
        what="another worker",
    )
    assert second.is_running()
    site.wait_listening("gateway.control.acl", len(site.web) + 2)
    for _ in range(6):
        async with TestClient(f"ws://127.0.0.1:{port}/ws/", token=site.tokens["alice"]):
            pass
    children = alive(process)
    process.terminate()
    assert process.wait(DRAIN + 4) == 0
    assert not [child for child in children if child.is_running()]


def test_serve_taken_port_is_one_sentence(
    site: Site, started: Callable[..., ManageProcess]
) -> None:
    process = started("serve", "--port", str(site.ports[0]))
    assert process.wait(60) == 1
    assert f"Port {site.ports[0]} on 127.0.0.1 cannot be used" in process.text()
    assert "Traceback" not in process.text()


def test_runworker_other_channel_is_channels_own(
    started: Callable[..., ManageProcess],
) -> None:
    process = started("runworker", "thumbnails", "emails")
    process.wait_for_line(r"Running worker for channels \['thumbnails', 'emails'\]")
    assert process.is_alive()


def test_runworker_bridge_beside_another_channel_is_refused(
    started: Callable[..., ManageProcess],
) -> None:
    process = started("runworker", "nats_bridge", "thumbnails")
    assert process.wait(60) != 0
    assert "nats_bridge by itself" in process.text()
    assert "Traceback" not in process.text()


def test_runworker_bridge_without_redis_is_one_sentence(
    started: Callable[..., ManageProcess],
) -> None:
    process = started("runworker", "nats_bridge", without="REDIS_URL")
    assert process.wait(60) != 0
    assert "set REDIS_URL" in process.text()
    assert "Traceback" not in process.text()
    said = [line for line in process.text().splitlines() if "Error" in line]
    assert len(said) == 1


def test_runworker_bridge_waits_for_nats(site: Site, started: Callable[..., ManageProcess]) -> None:
    site.nats.kill()
    process = started("runworker", "nats_bridge")
    process.wait_for_line("nats unreachable")
    site.nats.start()
    process.wait_for_line("bridge connected")
    process.terminate()
    assert process.wait(DRAIN) == 0


async def test_serve_waits_for_nats_and_says_so_meanwhile(
    site: Site, started: Callable[..., ManageProcess]
) -> None:
    site.nats.kill()
    port = free_port()
    process = started("serve", "--port", str(port))
    process.wait_port(port)
    url = f"ws://127.0.0.1:{port}/ws/"
    async with TestClient(url, connect=False) as client:
        error = await client.error("connect", token=site.tokens["alice"])
        assert error["code"] == "AUTH_UNAVAILABLE"
        await client.expect_close(4002)
    site.nats.start()
    process.wait_for_line("serving sockets")

    async def ready() -> bool:
        try:
            async with TestClient(url, token=site.tokens["alice"]):
                return True
        except AssertionError:
            return False

    await until(ready, RECOVERY)
