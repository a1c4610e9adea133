"""The broker against a real nats-server, which goes and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from realtime import broker as broker_module
from realtime.broker import Broker, connected
from realtime.embedded import NatsServer, find_binary, free_port
from realtime.nats_client import Message, parse_headers
from realtime.protocol.exceptions import NoResponder, RequestTimeout, Unavailable
from tests.support.processes import ChildProcess, freeze
from tests.support.proxy import Proxy
from tests.support.waiting import until

from .support import TOPIC, config, settled, store, stream_api

DEADLINE = 30.0
"""Seconds in which whatever ends by itself has ended."""
FOREVER = 3600.0


class Inbox:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def data(self) -> list[bytes]:
        return [message.data for message in self.messages]


class Responder:
    """A handler that answers with what it was asked, a number of times."""

    def __init__(self, broker: Broker, times: int = 1) -> None:
        self._broker = broker
        self._times = times
        self.asked: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.asked.append(message)
        for _ in range(self._times):
            await self._broker.publish(message.reply, b"re:" + message.data)


@pytest.fixture
async def other(nats_server: NatsServer) -> AsyncIterator[Broker]:
    """Return a second connection."""
    async with connected(nats_server.url, name="other") as other:
        yield other


async def restart(server: NatsServer, *brokers: Broker) -> None:
    """Kill the server, start it again and wait until everyone is back."""
    before = [broker.reconnects for broker in brokers]
    server.kill()
    for broker in brokers:
        await until(lambda broker=broker: not broker.connected, what="the loss noticed")
    server.start()
    for broker, count in zip(brokers, before, strict=True):
        await until(
            lambda broker=broker, count=count: broker.reconnects > count and broker.connected,
            what="the reconnect",
        )
    # The server may take in what another connection sends before these subscribe again.
    await settled(*brokers)


# Connecting.


async def test_connect_nobody_there_is_unavailable() -> None:
    broker = Broker(f"nats://127.0.0.1:{free_port()}", name="test", connect_timeout=0.3)
    with pytest.raises(Unavailable, match=r"not reachable at nats://127\.0\.0\.1"):
        async with asyncio.timeout(DEADLINE):
            await broker.connect()
    assert not broker.connected
    await broker.close()


async def test_connect_given_up_at_any_moment_ends() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    # A cancellation may come at the very end of what nats-py waits for; it used to get lost there.
    for step in range(60):
        broker = Broker(url, name="test", connect_timeout=0.00005 * (step + 1))
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(Unavailable):
                await broker.connect()


async def test_connect_nobody_there_does_not_tell_the_password() -> None:
    url = f"nats://user:secret@127.0.0.1:{free_port()}"
    broker = Broker(url, name="test", connect_timeout=0.3)
    with pytest.raises(Unavailable) as caught:
        await broker.connect()
    assert "secret" not in str(caught.value)
    await broker.close()


async def test_connect_tls_to_a_server_without_it_is_refused(nats_server: NatsServer) -> None:
    """Or the credentials would go out in plain."""
    url = nats_server.url.replace("nats://", "tls://user:secret@")
    # One attempt has to come to the refusal.
    broker = Broker(url, name="test", connect_timeout=3)
    with pytest.raises(Unavailable, match="does not ask for TLS"):
        await broker.connect()
    await broker.close()


async def test_connect_forever_server_comes_later_connects(nats_server: NatsServer) -> None:
    nats_server.kill()
    broker = Broker(nats_server.url, name="test", connect_timeout=0.3)
    connecting = asyncio.create_task(broker.connect_forever())
    await asyncio.sleep(0)
    broker._connect_timeout = DEADLINE
    nats_server.start()
    await asyncio.wait_for(connecting, DEADLINE)
    assert broker.connected
    await broker.close()


async def test_subscribe_before_connect_receives_afterwards(
    nats_server: NatsServer, other: Broker
) -> None:
    broker, inbox = Broker(nats_server.url, name="test"), Inbox()
    await broker.subscribe("a.b", inbox)
    await broker.connect()
    await settled(broker)
    await other.publish("a.b", b"1")
    await until(lambda: inbox.data == [b"1"])
    await broker.close()


async def test_close_sends_what_is_buffered(nats_server: NatsServer, other: Broker) -> None:
    inbox = Inbox()
    await other.subscribe("a.b", inbox)
    await settled(other)
    async with connected(nats_server.url, name="test") as broker:
        for number in range(100):
            await broker.publish("a.b", str(number).encode())
    await until(lambda: len(inbox.data) == 100)


async def test_close_server_gone_returns_in_time(nats_server: NatsServer) -> None:
    broker = Broker(nats_server.url, name="test")
    await broker.connect()
    nats_server.kill()
    await until(lambda: not broker.connected)
    async with asyncio.timeout(DEADLINE):
        await broker.close()


class LosesCancellations:
    """Connects for ever, and like `wait_for` lets cancellations go that come with a refusal."""

    def __init__(self, lost: int) -> None:
        self.left = lost
        self.attempts = 0

    async def __call__(self, client: Client, server: object) -> None:
        self.attempts += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left -= 1
            if self.left < 0:
                raise
            raise ConnectionRefusedError from None


async def test_connect_forever_cancelled_twice_and_lost_ends_what_it_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.run` cancels what is being cancelled, and waits for all that is left."""
    attempts = LosesCancellations(3)
    monkeypatch.setattr(Client, "_connect_to_server", lambda *args: attempts(*args))
    broker = Broker("nats://127.0.0.1:1", name="test")
    connecting = asyncio.create_task(broker.connect_forever())
    await until(lambda: attempts.attempts == 1)
    connecting.cancel()
    await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(DEADLINE):
            await connecting
    assert len(asyncio.all_tasks()) == 1


async def test_close_while_a_reconnect_loses_its_cancellation_ends_it(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "RECONNECT_WAIT", 0.01)
    broker = Broker(nats_server.url, name="test")
    await broker.connect()
    attempts = LosesCancellations(1)
    monkeypatch.setattr(Client, "_connect_to_server", lambda *args: attempts(*args))
    nats_server.kill()
    await until(lambda: attempts.attempts == 1)
    await broker.close()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert attempts.attempts == 1


# Publish and subscribe.


async def test_publish_and_subscribe_carry_headers_and_order(broker: Broker, other: Broker) -> None:
    inbox = Inbox()
    await broker.subscribe("a.>", inbox)
    await settled(broker)
    for number in range(200):
        await other.publish("a.b", str(number).encode(), headers={"X": f"é{number}"})
    await until(lambda: len(inbox.messages) == 200)
    assert inbox.data == [str(number).encode() for number in range(200)]
    assert inbox.messages[7].headers == {"X": "é7"}
    assert inbox.messages[7].subject == "a.b"
    assert inbox.messages[7].status == 0


class Wire:
    """A server of a few lines that keeps what a client writes, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","headers":true,')
        writer.write(b'"max_payload":1048576,"proto":1}\r\n')
        while line := await reader.readline():
            self.lines.append(line.decode().strip())
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    def before_the_last_ping(self, start: str) -> bool:
        """Say whether a line that starts so was written before the last PING."""
        last = len(self.lines) - 1 - self.lines[::-1].index("PING")
        return any(line.startswith(start) for line in self.lines[:last])


@pytest.mark.parametrize("command", ["SUB a.b", "PUB a.b"])
async def test_flush_asks_after_what_was_sent_before(command: str) -> None:
    """Else it returns before the server has seen that, as its caller believes it has."""
    wire = Wire()
    async with await asyncio.start_server(wire, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(f"nats://127.0.0.1:{port}", name="test") as broker:
            if command.startswith("SUB"):
                await broker.subscribe("a.b", Inbox())
            else:
                await broker.publish("a.b", b"1")
            await broker.flush()
            assert wire.before_the_last_ping(command)


async def test_flush_given_up_leaves_a_connection_that_works(
    nats_server: NatsServer, broker: Broker
) -> None:
    assert nats_server.pid is not None
    freeze(nats_server.pid)
    try:
        with pytest.raises(Unavailable):
            await broker.flush(timeout=0.2)
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)
    await broker.flush(timeout=DEADLINE)


async def test_flush_cancelled_as_its_answer_comes_is_cancelled(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushing = asyncio.create_task(broker.flush())
    process_pong = Client._process_pong

    async def answered(client: Client) -> None:
        await process_pong(client)
        flushing.cancel()

    monkeypatch.setattr(Client, "_process_pong", answered)
    with pytest.raises(asyncio.CancelledError):
        await flushing


async def test_subscribe_queue_group_shares(broker: Broker, other: Broker) -> None:
    one, two = Inbox(), Inbox()
    await broker.subscribe("a.b", one, queue="q")
    await other.subscribe("a.b", two, queue="q")
    await settled(broker, other)
    for number in range(100):
        await broker.publish("a.b", str(number).encode())
    await until(lambda: len(one.data) + len(two.data) == 100)
    assert one.data
    assert two.data
    assert not set(one.data) & set(two.data)


async def test_unsubscribe_receives_nothing_more(broker: Broker, other: Broker) -> None:
    gone, kept = Inbox(), Inbox()
    subscription = await broker.subscribe("a.b", gone)
    await broker.subscribe("a.b", kept)
    await broker.unsubscribe(subscription)
    await settled(broker)
    await other.publish("a.b", b"1")
    await until(lambda: kept.data == [b"1"])
    assert gone.data == []


async def test_handler_that_raises_ends_nothing(
    broker: Broker, other: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()

    async def broken(message: Message) -> None:
        raise ValueError("broken")

    await broker.subscribe("a.b", broken)
    await broker.subscribe("a.b", inbox)
    await settled(broker)
    await other.publish("a.b", b"1")
    await other.publish("a.b", b"2")
    await until(lambda: inbox.data == [b"1", b"2"])
    assert broker.connected
    assert "handler failed subject=a.b" in caplog.text


async def test_publish_over_the_servers_limit_is_unavailable(broker: Broker) -> None:
    with pytest.raises(Unavailable):
        await broker.publish("a.b", b"x" * (2 * 1024**2))
    assert broker.connected


# Requests.


async def test_request_answered_returns_the_reply(broker: Broker, other: Broker) -> None:
    responder = Responder(other)
    await other.subscribe("rpc.echo", responder)
    await settled(other)
    reply = await broker.request("rpc.echo", b"hi", timeout=DEADLINE, headers={"Gateway-User": "7"})
    assert reply.data == b"re:hi"
    assert responder.asked[0].headers == {"Gateway-User": "7"}


async def test_request_many_at_once_get_each_their_own(broker: Broker, other: Broker) -> None:
    await other.subscribe("rpc.echo", Responder(other))
    await settled(other)
    replies = await asyncio.gather(
        *(
            broker.request("rpc.echo", str(number).encode(), timeout=DEADLINE)
            for number in range(200)
        )
    )
    assert [reply.data for reply in replies] == [f"re:{number}".encode() for number in range(200)]


async def test_request_nobody_listens_is_no_responder_before_the_timeout(broker: Broker) -> None:
    with pytest.raises(NoResponder):
        async with asyncio.timeout(DEADLINE):
            await broker.request("rpc.nobody", b"", timeout=FOREVER)


async def test_request_mute_responder_times_out(broker: Broker, other: Broker) -> None:
    await other.subscribe("rpc.mute", Inbox())
    await settled(other)
    with pytest.raises(RequestTimeout):
        await broker.request("rpc.mute", b"", timeout=0.05)


async def test_request_second_and_late_replies_are_ignored(broker: Broker, other: Broker) -> None:
    held: list[Message] = []

    async def late(message: Message) -> None:
        held.append(message)

    await other.subscribe("rpc.twice", Responder(other, times=2))
    await other.subscribe("rpc.late", late)
    await settled(other)
    with pytest.raises(RequestTimeout):
        await broker.request("rpc.late", b"1", timeout=0.05)
    await until(lambda: held)
    await other.publish(held[0].reply, b"too late")
    assert (await broker.request("rpc.twice", b"2", timeout=DEADLINE)).data == b"re:2"
    assert (await broker.request("rpc.twice", b"3", timeout=DEADLINE)).data == b"re:3"


async def test_gather_returns_every_reply(broker: Broker, other: Broker) -> None:
    for _ in range(3):
        await other.subscribe("who", Responder(other))
    await settled(other)

    async def all_of_them() -> bool:
        # On a busy machine some may come too late, to one asking or another.
        replies = await broker.gather("who", b"x", wait=0.2)
        return [reply.data for reply in replies] == [b"re:x"] * 3

    await until(all_of_them)


async def test_gather_nobody_listens_is_empty(broker: Broker) -> None:
    assert await broker.gather("who", b"x", wait=0.02) == []


# JetStream.


async def test_store_returns_the_sequence(broker: Broker) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    assert [one.sequence for one in await store(broker, TOPIC, 3)] == [1, 2, 3]


async def test_store_same_message_id_is_a_duplicate(broker: Broker) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    headers = {"Nats-Msg-Id": "7:a"}
    first = await broker.store(TOPIC, b"1", headers=headers, timeout=DEADLINE)
    again = await broker.store(TOPIC, b"2", headers=headers, timeout=DEADLINE)
    assert (first.sequence, first.duplicate) == (1, False)
    assert (again.sequence, again.duplicate) == (1, True)


async def test_store_duplicate_after_a_kill_is_still_one(
    broker: Broker, nats_server: NatsServer
) -> None:
    """A publish that is retried across a restart of the server is stored once."""
    await broker.ensure_stream(config(), timeout=DEADLINE)
    headers = {"Nats-Msg-Id": "7:a"}
    await broker.store(TOPIC, b"1", headers=headers, timeout=DEADLINE)
    await restart(nats_server, broker)
    assert (await broker.store(TOPIC, b"1", headers=headers, timeout=DEADLINE)).duplicate


async def test_store_no_stream_there_is_unavailable(broker: Broker) -> None:
    with pytest.raises(Unavailable):
        await broker.store("elsewhere.a", b"1", headers=None, timeout=1)


async def test_store_somebody_else_answers_is_unavailable(broker: Broker, other: Broker) -> None:
    """A subscriber on the subject is no stream, whatever it replies."""
    await other.subscribe("elsewhere.a", Responder(other))
    await settled(other)
    with pytest.raises(Unavailable):
        await broker.store("elsewhere.a", b"1", headers=None, timeout=1)


async def test_store_refused_tells_why(broker: Broker) -> None:
    await broker.ensure_stream(config(max_msg_size=100), timeout=DEADLINE)
    with pytest.raises(Unavailable, match="message size"):
        await broker.store(TOPIC, b"x" * 200, headers=None, timeout=DEADLINE)


async def test_ensure_stream_missing_is_made_and_again_is_left_alone(broker: Broker) -> None:
    assert await broker.stream_info("TEST", timeout=DEADLINE) is None
    made = await broker.ensure_stream(config(), timeout=DEADLINE)
    await store(broker, TOPIC, 3)
    again = await broker.ensure_stream(config(), timeout=DEADLINE)
    assert again.created == made.created
    assert again.state.last == 3
    for key, value in config().items():
        assert again.config[key] == value


async def test_ensure_stream_changed_is_updated_and_keeps_what_it_holds(broker: Broker) -> None:
    made = await broker.ensure_stream(config(), timeout=DEADLINE)
    await store(broker, TOPIC, 3)
    changed = config(max_msgs_per_subject=5, subjects=["user.>", "room.>", "news.>"])
    info = await broker.ensure_stream(changed, timeout=DEADLINE)
    assert info.created == made.created
    assert info.state.last == 3
    assert info.config["max_msgs_per_subject"] == 5
    assert (await store(broker, "news.a"))[0].sequence == 4


async def test_ensure_stream_same_configuration_is_not_written(broker: Broker) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    inbox = Inbox()
    await broker.subscribe("$JS.EVENT.ADVISORY.STREAM.UPDATED.>", inbox)
    await settled(broker)
    await broker.ensure_stream(config(), timeout=DEADLINE)
    await broker.ensure_stream(config(max_msgs_per_subject=7), timeout=DEADLINE)
    await until(lambda: inbox.messages)
    await settled(broker)
    assert len(inbox.messages) == 1


async def test_ensure_stream_impossible_tells_why(broker: Broker) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    with pytest.raises(Unavailable, match="overlap"):
        await broker.ensure_stream(config(name="OTHER"), timeout=DEADLINE)


async def test_ensure_stream_no_jetstream_says_so(tmp_path: Path) -> None:
    port = free_port()
    server = ChildProcess(
        [find_binary(), "-a", "127.0.0.1", "-p", str(port)], log=tmp_path / "nats.log"
    )
    server.start()
    try:
        server.wait_port(port)
        async with connected(f"nats://127.0.0.1:{port}", name="test") as broker:
            with pytest.raises(Unavailable, match="JetStream is not enabled"):
                await broker.ensure_stream(config(), timeout=DEADLINE)
    finally:
        server.kill()


async def test_direct_get_reads_what_is_held_in_order(broker: Broker) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    await store(broker, TOPIC, 5)
    query = {"seq": 2, "next_by_subj": TOPIC, "batch": 3}
    messages = await broker.direct_get("TEST", query, timeout=DEADLINE)
    assert [message.data for message in messages] == [b"1", b"2", b"3"]
    assert messages[-1].headers["Nats-Num-Pending"] == "1"


async def test_direct_get_nothing_there_is_empty(broker: Broker) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    query = {"seq": 1, "next_by_subj": TOPIC, "batch": 3}
    assert await broker.direct_get("TEST", query, timeout=DEADLINE) == []


async def test_direct_get_no_stream_is_unavailable(broker: Broker) -> None:
    with pytest.raises(Unavailable):
        await broker.direct_get("TEST", {"seq": 1}, timeout=0.3)


async def test_direct_get_refused_query_is_unavailable(broker: Broker) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    with pytest.raises(Unavailable, match="refused"):
        await broker.direct_get("TEST", {"batch": -1, "multi_last": "x"}, timeout=DEADLINE)


class ShortAnswers:
    """A stand-in for the stream that leaves messages out of its answers.

    It speaks the wire protocol itself, since no client lets one publish a status line.
    """

    def __init__(self, server: NatsServer, sent: list[int], last: int | None) -> None:
        self._server = server
        self._sent = sent
        self._last = last

    async def __call__(self, message: Message) -> None:
        reader, writer = await asyncio.open_connection(self._server.host, self._server.port)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
        lines = [f"NATS/1.0\r\nNats-Sequence: {number}\r\n\r\n" for number in self._sent]
        if self._last is not None:
            lines.append(f"NATS/1.0 204 EOB\r\nNats-Last-Sequence: {self._last}\r\n\r\n")
        for line in lines:
            writer.write(f"HPUB {message.reply} {len(line)} {len(line)}\r\n{line}\r\n".encode())
        writer.write(b"PING\r\n")
        while not (await reader.readline()).startswith(b"PONG"):
            pass
        writer.close()


async def short_answer(
    broker: Broker, other: Broker, answers: ShortAnswers, timeout: float
) -> list[Message]:
    """Ask the stand-in."""
    await other.subscribe("$JS.API.DIRECT.GET.FAKE", answers)
    await settled(other)
    return await broker.direct_get("FAKE", {"seq": 1}, timeout=timeout)


async def test_direct_get_whole_answer_of_the_stand_in_passes(
    broker: Broker, other: Broker, nats_server: NatsServer
) -> None:
    answers = ShortAnswers(nats_server, [1, 2], 2)
    assert len(await short_answer(broker, other, answers, DEADLINE)) == 2


async def test_direct_get_last_message_missing_is_unavailable(
    broker: Broker, other: Broker, nats_server: NatsServer
) -> None:
    with pytest.raises(Unavailable, match="cut short"):
        await short_answer(broker, other, ShortAnswers(nats_server, [1, 2], 3), DEADLINE)


@pytest.mark.parametrize("sent", [[1, 2], []])
async def test_direct_get_without_its_end_is_unavailable(
    broker: Broker, other: Broker, nats_server: NatsServer, sent: list[int]
) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await short_answer(broker, other, ShortAnswers(nats_server, sent, None), 0.2)


async def test_direct_get_server_killed_meanwhile_is_unavailable_and_works_again(
    broker: Broker, nats_server: NatsServer
) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    await store(broker, TOPIC, 5)
    query = {"seq": 1, "next_by_subj": TOPIC, "batch": 5}
    nats_server.kill()
    with pytest.raises(Unavailable):
        await broker.direct_get("TEST", query, timeout=0.3)
    nats_server.start()
    await until(lambda: broker.reconnects and broker.connected)
    assert len(await broker.direct_get("TEST", query, timeout=DEADLINE)) == 5


# The server goes and comes back.


async def test_subscribe_across_kill_and_restart_receives_again(
    broker: Broker, other: Broker, nats_server: NatsServer
) -> None:
    inbox, heard = Inbox(), []
    broker.on_disconnect.append(lambda: heard.append("gone"))
    broker.on_reconnect.append(lambda: heard.append("back"))
    await broker.subscribe("a.b", inbox)
    await restart(nats_server, broker, other)
    await other.publish("a.b", b"1")
    await until(lambda: inbox.data == [b"1"])
    assert heard == ["gone", "back"]
    await restart(nats_server, broker, other)
    await other.publish("a.b", b"2")
    await until(lambda: inbox.data == [b"1", b"2"])


async def test_subscribe_while_away_receives_after_the_reconnect(
    broker: Broker, other: Broker, nats_server: NatsServer
) -> None:
    inbox = Inbox()
    nats_server.kill()
    await until(lambda: not broker.connected and not other.connected)
    await broker.subscribe("a.b", inbox)
    nats_server.start()
    await until(lambda: broker.connected and other.connected)
    await settled(broker)
    await other.publish("a.b", b"1")
    await until(lambda: inbox.data == [b"1"])


async def test_unsubscribe_while_away_receives_nothing_after_the_reconnect(
    broker: Broker, other: Broker, nats_server: NatsServer
) -> None:
    gone, kept = Inbox(), Inbox()
    subscription = await broker.subscribe("a.b", gone)
    await broker.subscribe("a.b", kept)
    nats_server.kill()
    await until(lambda: not broker.connected and not other.connected)
    await broker.unsubscribe(subscription)
    nats_server.start()
    await until(lambda: broker.connected and other.connected)
    await settled(broker)
    await other.publish("a.b", b"1")
    await until(lambda: kept.data == [b"1"])
    assert gone.data == []


async def test_publish_and_request_while_away_are_unavailable_before_their_timeouts(
    broker: Broker, nats_server: NatsServer
) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    nats_server.kill()
    await until(lambda: not broker.connected)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Unavailable):
            await broker.publish("a.b", b"1")
        with pytest.raises(Unavailable):
            await broker.request("a.b", b"1", timeout=FOREVER)
        with pytest.raises(Unavailable):
            await broker.store(TOPIC, b"1", headers=None, timeout=FOREVER)
        with pytest.raises(Unavailable):
            await broker.direct_get("TEST", {"seq": 1}, timeout=FOREVER)
        with pytest.raises(Unavailable):
            await broker.gather("a.b", b"1", wait=FOREVER)
        with pytest.raises(Unavailable):
            await broker.flush(timeout=FOREVER)


async def test_publish_while_away_is_not_sent_later(
    broker: Broker, other: Broker, nats_server: NatsServer
) -> None:
    inbox = Inbox()
    await other.subscribe("a.b", inbox)
    nats_server.kill()
    await until(lambda: not broker.connected and not other.connected)
    with pytest.raises(Unavailable):
        await broker.publish("a.b", b"away")
    nats_server.start()
    await until(lambda: broker.connected and other.connected)
    await settled(other)
    await broker.publish("a.b", b"back")
    await until(lambda: inbox.data)
    assert inbox.data == [b"back"]


async def test_black_hole_is_noticed_and_left(nats_server: NatsServer, other: Broker) -> None:
    inbox = Inbox()
    async with (
        Proxy(nats_server.port) as proxy,
        connected(f"nats://127.0.0.1:{proxy.port}", name="test") as broker,
    ):
        await broker.subscribe("a.b", inbox)
        await settled(broker)
        proxy.black_hole()
        started = time.monotonic()
        await until(lambda: not broker.connected, DEADLINE, what="the black hole noticed")
        assert time.monotonic() - started > 0.5  # a silence alone is no fault
        await proxy.forward()
        await until(lambda: broker.connected, what="the way back")
        await settled(broker)
        await other.publish("a.b", b"1")
        await until(lambda: inbox.data == [b"1"])


async def test_connection_reset_again_and_again_comes_back_each_time(
    nats_server: NatsServer, other: Broker
) -> None:
    inbox = Inbox()
    async with (
        Proxy(nats_server.port) as proxy,
        connected(f"nats://127.0.0.1:{proxy.port}", name="test") as broker,
    ):
        await broker.subscribe("a.b", inbox)
        for number in range(3):
            before = broker.reconnects
            proxy.abort()
            await until(lambda before=before: broker.reconnects > before and broker.connected)
            await settled(broker)
            await other.publish("a.b", str(number).encode())
            await until(lambda number=number: len(inbox.data) == number + 1)
    assert inbox.data == [b"0", b"1", b"2"]


async def test_stream_deleted_is_told_apart_from_no_answer(broker: Broker) -> None:
    await broker.ensure_stream(config(), timeout=DEADLINE)
    await stream_api(broker, "DELETE", "TEST")
    assert await broker.stream_info("TEST", timeout=DEADLINE) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", (0, {})),
        (b"NATS/1.0\r\nA: b\r\nC:d\r\n\r\n", (0, {"A": "b", "C": "d"})),
        (b"NATS/1.0 503\r\n\r\n", (503, {})),
        (b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\n\r\n", (204, {"Nats-Num-Pending": "0"})),
        (b"NATS/1.0\r\nA: b:c\r\n\r\n", (0, {"A": "b:c"})),
        (b"NATS/1.0\r\nno header\r\n\r\n", (0, {})),
        (b"NATS/1.0\r\nA: \xff\r\n\r\n", (0, {"A": "\ufffd"})),
        (b"NATS/1.0 abc\r\n\r\n", (0, {})),
    ],
)
def test_parse_headers_block_is_taken_apart(
    raw: bytes, expected: tuple[int, dict[str, str]]
) -> None:
    assert parse_headers(raw) == expected
