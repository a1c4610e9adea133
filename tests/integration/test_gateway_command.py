"""`manage.py gateway`: it starts or says why not, and it leaves nothing behind."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartGateway
from tests.support.client import TestClient
from tests.support.gateways import Gateway
from tests.support.ports import free_port
from tests.support.processes import ManageProcess, manage
from tests.support.waiting import until, wait_until

GONE = 30.0
"""Seconds in which everything must be gone after a signal."""
FAILS = 60.0
"""Seconds in which a command that cannot run has said so, on a busy machine."""
TOPIC = "user.1.notifications"

Run = Callable[..., ManageProcess]


@pytest.fixture
def run(data_dir: Path, data_template: Path) -> Iterator[Run]:
    """Return a function that starts `manage.py` with this test's data directory."""
    started: list[ManageProcess] = []

    def start(*args: str, **env: str) -> ManageProcess:
        given = {"DATA_DIR": str(data_dir), "NATS_URL": "", "REDIS_URL": "", **env}
        process = ManageProcess(args, given, log=data_dir.parent / f"{len(started)}.log")
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()


def nats_children(process: ManageProcess) -> list[psutil.Process]:
    """Return the nats-server children of a gateway."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if child.name().startswith("nats-server")]


def listens(port: int) -> bool:
    """Say whether something listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def refused(process: ManageProcess, *words: str) -> None:
    """Require that a command ended with one sentence that has these words."""
    assert process.wait(FAILS) not in (0, None)
    text = process.text()
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, text


# It cannot start.


def test_taken_port_is_one_sentence_and_leaves_nothing(run: Run) -> None:
    nats_port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = run("gateway", "--port", str(port), "--nats-port", str(nats_port))
        refused(process, f"Port {port} on 127.0.0.1 cannot be used", "--port")
    assert not listens(nats_port)


def test_taken_nats_port_is_one_sentence_and_leaves_nothing(run: Run) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nats_port = taken.getsockname()[1]
        process = run("gateway", "--port", str(port), "--nats-port", str(nats_port))
        refused(process, f"Port {nats_port} on 127.0.0.1 cannot be used", "--nats-port")
    assert not listens(port)


@pytest.mark.parametrize("command", ["gateway", "serve"])
@pytest.mark.parametrize("value", ["0", "65536", "http"])
def test_port_that_is_none_is_one_sentence(run: Run, command: str, value: str) -> None:
    refused(run(command, f"--port={value}"), "is no port: give a number from 1 to 65535")


def test_port_that_is_none_in_the_environment_is_one_sentence(run: Run) -> None:
    """Kubernetes sets such a variable for a service of that name."""
    process = run("gateway", NATS_PORT="tcp://10.0.0.1:4222")
    refused(process, "--nats-port", "is no port: give a number from 1 to 65535")


@pytest.mark.parametrize("way", ["option", "environment"])
def test_unreachable_nats_url_is_one_sentence(run: Run, way: str) -> None:
    url = f"nats://user:secret@127.0.0.1:{free_port()}"
    port = str(free_port())
    if way == "option":
        process = run("gateway", "--port", port, "--nats-url", url)
    else:
        process = run("gateway", "--port", port, NATS_URL=url)
    refused(process, "NATS is not reachable at")
    assert "secret" not in process.text()


@pytest.mark.parametrize("way", ["option", "environment"])
def test_unwritable_data_dir_is_one_sentence(run: Run, tmp_path: Path, way: str) -> None:
    """Below a file: that cannot be made by root either."""
    (tmp_path / "file").touch()
    directory = str(tmp_path / "file" / "data")
    if way == "option":
        process = run("gateway", "--data-dir", directory)
    else:
        process = run("gateway", DATA_DIR=directory)
    refused(process, directory, "DATA_DIR")


def test_second_on_the_same_data_is_one_sentence_and_leaves_the_first(
    gateway: StartGateway,
) -> None:
    site = gateway()
    second = site.run("gateway", "--port", str(free_port()), "--nats-port", str(free_port()))
    refused(second, "Another NATS server uses the store")
    assert site.processes[0].is_alive()
    assert "Sent to alice" in manage("notify", "alice", "still here", env=site.env)


# It ends.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_leaves_no_process(gateway: StartGateway, number: signal.Signals) -> None:
    site = gateway()
    process = site.processes[0]
    (nats,) = nats_children(process)
    async with site.client(site.token()) as client:
        await client.subscribe(TOPIC)
        process.signal(number)
        assert (await client.expect("reconnect"))["reason"] == "drain"
        await client.expect_close(4000)
    await until(lambda: not process.is_alive() and not nats.is_running(), GONE)
    assert process.returncode == 0
    assert not listens(site.ports[0])
    assert not listens(site.nats_port)
    assert "Traceback" not in process.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_with_a_client_that_does_not_answer_leaves_no_process(
    gateway: StartGateway, number: signal.Signals
) -> None:
    site = gateway()
    process = site.processes[0]
    (nats,) = nats_children(process)
    async with site.client(site.token()) as client:
        await client.stop_reading()
        process.signal(number)
        await until(lambda: not process.is_alive() and not nats.is_running(), GONE)
        client.abort()
    assert process.returncode == 0


def test_signal_twice_leaves_no_process(gateway: StartGateway) -> None:
    """An impatient Ctrl-C."""
    site = gateway()
    process = site.processes[0]
    (nats,) = nats_children(process)
    process.signal(signal.SIGINT)
    process.signal(signal.SIGINT)
    wait_until(lambda: not process.is_alive() and not nats.is_running(), GONE)
    assert not listens(site.nats_port)


def test_killed_takes_nats_along_and_starts_again(gateway: StartGateway) -> None:
    site = gateway()
    process = site.processes[0]
    (nats,) = nats_children(process)
    manage("notify", "alice", "before", env=site.env)
    process.kill()
    wait_until(lambda: not nats.is_running(), GONE)
    site.start()
    assert "as event 2" in manage("notify", "alice", "after", env=site.env)


# It starts again.


async def history(site: Gateway) -> tuple[str, list[object]]:
    """Return the epoch and the data of alice's notifications."""
    async with site.client(site.token()) as client:
        reply = await client.ask("history", "reply", topic=TOPIC)
        return client.ready["epoch"], [one["data"] for one in reply["data"]]


async def test_second_start_finds_stream_and_events(gateway: StartGateway) -> None:
    site = gateway()
    manage("notify", "alice", "one", env=site.env)
    manage("notify", "alice", '{"n": 2}', env=site.env)
    async with site.client(site.token()) as client:
        session_id = client.ready["sessionId"]
    before = await history(site)
    assert before[1] == [{"message": "one"}, {"n": 2}]
    site.processes[0].stop()
    site.start()
    assert await history(site) == before
    # Keys are kept too: a token and a sessionId from before are still good.
    fields = {"sessionId": session_id, "lastSeqPerTopic": {TOPIC: 1}}
    async with TestClient(site.ws_url(), token=site.token(), connect_fields=fields) as client:
        resumed = await client.expect("resumed")
        assert resumed["topics"][TOPIC] == {"recovered": True, "from": 1, "to": 2}
        assert (await client.expect("message"))["data"] == {"n": 2}


def test_first_start_makes_everything_and_says_how_to_log_in(gateway: StartGateway) -> None:
    site = gateway(fresh=True)
    text = site.processes[0].text()
    for name in ("alice", "bob", "admin"):
        assert f"{name:8} password {name}" in text
    assert site.ws_url() in text
    assert site.token("bob")


# Other commands meet it.


async def test_notify_and_token_with_only_the_data_dir_reach_it(gateway: StartGateway) -> None:
    """Though NATS is not on its usual port."""
    site = gateway()
    assert site.nats_port != 4222
    only = {"DATA_DIR": str(site.data_dir), "NATS_URL": ""}
    token = manage("token", "alice", env=only).strip()
    async with site.client(token) as client:
        await client.subscribe(TOPIC)
        assert manage("notify", "alice", "hello", env=only).strip() == "Sent to alice as event 1."
        assert (await client.expect("message"))["data"] == {"message": "hello"}
        assert manage("notify", "1", "[1, 2]", env=only).strip() == "Sent to 1 as event 2."
        assert (await client.expect("message"))["data"] == [1, 2]


def test_notify_same_message_id_says_it_was_stored_before(gateway: StartGateway) -> None:
    site = gateway()
    for note in ("", " (stored before)"):
        said = manage("notify", "alice", "hello", "--message-id", "m1", env=site.env)
        assert said.strip() == f"Sent to alice as event 1{note}."


def test_notify_nobody_of_that_name_is_one_sentence(gateway: StartGateway) -> None:
    site = gateway()
    refused(site.run("notify", "nobody", "hello"), "There is no user 'nobody'")


def test_notify_gateway_stopped_is_one_sentence(gateway: StartGateway) -> None:
    """What it told other commands is gone with it."""
    site = gateway()
    site.processes[0].stop()
    env = {**site.env, "NATS_URL": f"nats://127.0.0.1:{free_port()}"}
    process = ManageProcess(["notify", "alice", "hello"], env, log=site.data_dir / "notify.log")
    process.start()
    refused(process, "NATS is not reachable")
    assert not (site.data_dir / "nats_url").exists()
