"""How the tools end: exit codes, signals, readers that go away, and what cannot be sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import yaml

from ..support.ports import free_port
from ..support.processes import PROJECT, START
from .conftest import listening


@pytest.mark.parametrize("scheme", ["ws", "nats"])
def test_nobody_there_has_its_exit_code(tools, scheme):
    url = f"{scheme}://127.0.0.1:{free_port()}"
    done = tools.run("produce", "-u", url, "-t", "room.a", "-m", "1", "--timeout", "1")
    assert done.code == 3
    assert "reach" in done.log


def test_timeout_without_count_is_a_normal_end(tools, topic):
    done = tools.run("consume", "-u", tools.ws, "-t", topic, "--timeout", "8")
    assert (done.code, done.out) == (0, "")


@pytest.mark.parametrize("options", [(), ("--count", "1")], ids=["endless", "counted"])
@pytest.mark.parametrize("scheme", ["ws", "nats"])
def test_consume_that_never_was_connected_says_so(tools, scheme, options):
    url = f"{scheme}://127.0.0.1:{free_port()}"
    done = tools.run("consume", "-u", url, "-t", "room.a", "--timeout", "1", *options)
    assert done.code == 3
    assert "there was no connection" in done.log


@pytest.mark.parametrize(
    ("options", "code"), [((), 0), (("--count", "5"), 130)], ids=["endless", "unfinished"]
)
def test_ctrl_c_ends_it_cleanly(tools, topic, options, code):
    consumer = tools.start("consume", "-u", tools.ws, "-t", topic, *options)
    listening(consumer)
    consumer.signal(signal.SIGINT)
    assert consumer.wait() == code
    assert "Traceback" not in consumer.text()
    assert "connection closed" in consumer.text()


def test_ctrl_c_while_it_is_loaded_ends_it_quietly(tools, tmp_path):
    (tmp_path / "slow.py").write_text("import time; print('loading'); time.sleep(60)")
    loading = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "slow"}
    consumer = tools.start("consume", "-u", tools.nats, "-t", "room.a", **loading)
    consumer.wait_for_line("loading")
    consumer.signal(signal.SIGINT)
    assert consumer.wait() == 130
    assert consumer.text() == "loading\n"


def test_reader_that_goes_away_ends_it_at_once(tools, topic):
    tools.run("produce", "-u", tools.nats, "-t", topic, "-m", "1")
    consumer = subprocess.Popen(
        [sys.executable, "manage.py", "consume", "-u", tools.ws, "-t", topic, "--since", "0"],
        cwd=PROJECT,
        env=tools.env({"PATH": "/usr/bin"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert topic in consumer.stdout.readline()
        consumer.stdout.close()  # nothing more is published: it has to notice by itself
        assert consumer.wait(START) == 0
        log = consumer.stderr.read()
        assert "BrokenPipe" not in log
        assert "Traceback" not in log
    finally:
        consumer.kill()
        consumer.wait()
        consumer.stderr.close()


def test_full_disk_under_the_output_is_told(tools, topic):
    tools.run("produce", "-u", tools.nats, "-t", topic, "-m", "1")
    consume = ("consume", "-u", tools.nats, "-t", topic, "--since", "0")
    done = tools.run(*consume, shell='exec "$@" > /dev/full')
    assert done.code == 1
    assert done.log.endswith("Standard output cannot be written: No space left on device.\n")
    assert "Traceback" not in done.log


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--count", "2"), 141)])
def test_output_that_was_closed_at_the_start_is_as_if_nobody_reads(tools, topic, options, code):
    tools.run("produce", "-u", tools.nats, "-t", topic, "-m", "1")
    consume = ("consume", "-u", tools.nats, "-t", topic, "--since", "0", *options)
    done = tools.run(*consume, shell='exec "$@" >&-')
    assert done.code == code
    assert "Traceback" not in done.log


def test_reason_why_nats_is_not_reached_is_told(tools):
    url = f"nats://127.0.0.1:{free_port()}"
    done = tools.run("produce", "-u", url, "-t", "room.a", "-m", "1", "--timeout", "3")
    assert "NATS was not reached within 3 s: " in done.log.splitlines()[-1]
    assert "refused" in done.log.splitlines()[-1]
    done = tools.run("consume", "-u", url, "-t", "room.a", "--timeout", "3")
    assert "no connection, trying again reason=" in done.log


def test_scenario_is_sent_to_its_end_though_nobody_reads_the_output(tools, topic, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump([{"payload": n, "delay": 100} for n in range(10)]))
    command = [sys.executable, "manage.py", "produce", "-u", tools.ws, "-t", topic, "-s", str(path)]
    sending = subprocess.Popen(
        command, cwd=PROJECT, env={**os.environ, **tools.env({})}, stdout=subprocess.PIPE
    )
    try:
        sending.stdout.close()
        assert sending.wait(START) == 0
    finally:
        sending.kill()
        sending.wait()
    got = tools.run("consume", "-u", tools.nats, "-t", topic, "--since", "0", "--count", "10",
                    "--log", "json")  # fmt: skip
    assert got.data == list(range(10))


def test_message_over_the_limit_of_nats_is_refused_and_not_out_of_reach(tools, topic, tmp_path):
    path = tmp_path / "large.json"
    path.write_text(f'"{"x" * 2_000_000}"')
    done = tools.run("produce", "-u", tools.nats, "-t", topic, "-f", str(path))
    assert done.code == 1
    assert "maximum payload" in done.log


@pytest.mark.parametrize("messages", [0, 1])
def test_full_disk_under_a_dump_is_told(tools, topic, tmp_path, messages):
    for _ in range(messages):
        tools.run("produce", "-u", tools.nats, "-t", topic, "-m", "1")
    dump = str(tmp_path / "dump.yaml")
    consume = ("consume", "-u", tools.nats, "-t", topic, "--since", "0", "--dump", dump)
    # No file may be larger than nothing: what a full disk is, with another name for the error.
    done = tools.run(*consume, "--timeout", "8", shell='ulimit -f 0; exec "$@"')
    assert done.code == 1
    assert f"{dump} cannot be written: " in done.log
    assert "Traceback" not in done.log


@pytest.mark.parametrize(
    ("side", "bad"),
    [
        ("ws", {"payload": b"\xff"}),
        ("nats", {"topic": "room.two words", "payload": 1}),
        ("nats", {"topic": "room.*", "payload": 1}),
    ],
)
def test_scenario_that_the_side_cannot_send_sends_nothing(tools, topic, tmp_path, side, bad):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump([{"payload": 1}, bad]))
    done = tools.run("produce", "-u", getattr(tools, side), "-t", topic, "-s", str(path))
    assert done.code == 2
    assert "sent" not in done.log


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("consume", "-u", "ws://[half", "-t", "t"), "a scheme, a host and a port"),
        (("consume", "-u", "ws://h:99999/ws/", "-t", "t"), "a scheme, a host and a port"),
        (("consume", "-u", "ws://a..b/ws/", "-t", "t"), "a scheme, a host and a port"),
        (("consume", "-u", "nats://a..b:4222", "-t", "t"), "a scheme, a host and a port"),
        (("consume", "-u", "nats://h:x", "-t", "t"), "a scheme, a host and a port"),
        (("consume", "-u", "nats://h,ws://h", "-t", "t"), "ws://, wss://, nats://"),
        (("consume", "-u", "nats://127.0.0.1:1", "-t", "two words"), "no subject of NATS"),
        (("consume", "-u", "nats://127.0.0.1:1", "-t", "a.>.b"), "no subject of NATS"),
        (("consume", "-u", "ftp://h", "-t", "t"), "ws://, wss://, nats://"),
        (("consume", "-u", "ws://h/?token=x", "-t", "t"), "holds no credential"),
        (("consume", "-u", "ws://h", "-t", "t", "--rpc"), "wants a nats:// address"),
        (("consume", "-u", "ws://h", "-t", "t", "-m", "1"), "to send, use produce"),
        (("consume", "-u", "ws://h", "-t", "t", "--count", "0"), "from 1 on"),
        (("consume", "-u", "ws://h", "-t", "t", "--since", "x"), "a sequence is"),
        (("produce", "-u", "ws://h", "-t", "t"), "Give one of -m"),
        (("produce", "-u", "ws://h", "-m", "1"), "there is no topic"),
        (("produce", "-u", "ws://h", "-t", "t", "-m", "oops"), "not JSON"),
    ],
)
def test_wrong_usage_says_what_to_write(tools, args, complaint):
    done = tools.run(*args)
    assert done.code == 2
    assert complaint.lower() in done.log.lower()
