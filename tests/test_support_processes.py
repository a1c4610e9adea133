"""The processes that tests start: they say what went wrong, and they end."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .support.ports import free_port
from .support.processes import START, ChildProcess, ManageProcess, manage
from .support.redis import RedisServer
from .support.waiting import until, wait_until

StartChild = Callable[..., ChildProcess]

# Says that it is ready, then what signals it gets; the second SIGTERM ends it.
_STUBBORN = """
import signal, time
def told(number, frame):
    print("got", number, flush=True)
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[StartChild]:
    """Return a function that starts `python -c CODE ARGS`."""
    started: list[ChildProcess] = []

    def start(code: str, *args: str, env: dict[str, str] | None = None) -> ChildProcess:
        argv = [sys.executable, "-u", "-c", code, *args]
        process = ChildProcess(argv, env=env, log=tmp_path / f"{len(started)}.log")
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()


def state(pid: int) -> str:
    """Return the state letter of a process (proc(5)), empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_wait_for_line_written_returns_the_match(child: StartChild) -> None:
    process = child("import time; print('port 42'); time.sleep(60)")
    assert process.wait_for_line(r"port (\d+)").group(1) == "42"


def test_wait_for_line_last_words_count(child: StartChild) -> None:
    assert child("print('bye')").wait_for_line("bye")


def test_wait_for_line_ended_tells_status_and_output(child: StartChild) -> None:
    process = child("import sys; sys.exit('it broke')")
    with pytest.raises(AssertionError, match=r"(?s)ended with 1 before it wrote 'ready'.*it broke"):
        process.wait_for_line("ready")


def test_wait_for_line_never_written_times_out(child: StartChild) -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.1 s: 'ready'"):
        child("import time; time.sleep(60)").wait_for_line("ready", timeout=0.1)


def test_env_is_added_to_ours(child: StartChild) -> None:
    process = child("import os; print(os.environ['EXTRA'], os.environ['PATH'])", env={"EXTRA": "1"})
    assert process.wait_for_line(r"^1 .+")


def test_terminate_running_ends_with_the_signal(child: StartChild) -> None:
    process = child("import time; print('ready'); time.sleep(60)")
    process.wait_for_line("ready")
    assert process.returncode is None
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    process.terminate()


def test_stop_stubborn_is_killed_after_the_timeout(child: StartChild) -> None:
    process = child(_STUBBORN)
    process.wait_for_line("ready")
    process.stop(timeout=3)
    assert process.returncode == -signal.SIGKILL
    assert f"got {signal.SIGTERM:d}" in process.text()


def test_stop_paused_ends_it(child: StartChild) -> None:
    process = child("import time; print('ready'); time.sleep(60)")
    process.wait_for_line("ready")
    process.pause()
    process.stop()
    assert process.returncode == -signal.SIGTERM


def test_pause_and_resume_freeze_and_thaw(child: StartChild) -> None:
    process = child("import time; print('ready'); time.sleep(60)")
    process.wait_for_line("ready")
    process.pause()
    wait_until(lambda: state(process.pid) == "T")
    assert process.is_alive()
    process.resume()
    wait_until(lambda: state(process.pid) == "S")


def test_start_again_searches_only_the_new_output(child: StartChild) -> None:
    process = child("print('ready')")
    process.wait_for_line("ready")
    process.wait()
    process.argv[-1] = "import time; time.sleep(60)"
    process.start()
    assert process.find("ready") is None
    assert "ready" in process.log.read_text()


def test_own_process_group_is_not_ours(child: StartChild) -> None:
    process = child("import time; time.sleep(60)")
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


def test_parent_killed_takes_its_children_along(child: StartChild) -> None:
    parent = child(
        "import sys, time\n"
        "from tests.support.processes import ChildProcess\n"
        "child = ChildProcess([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "child.start()\n"
        "print('child', child.pid)\n"
        "time.sleep(60)"
    )
    pid = int(parent.wait_for_line(r"child (\d+)").group(1))
    parent.kill()
    wait_until(lambda: state(pid) in ("", "Z"))


def test_wait_http_serving_returns_and_refusing_fails(child: StartChild, tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import sys\n"
        "from http.server import *\n"
        "HTTPServer(('127.0.0.1', int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()"
    )
    process = child(code, str(port))
    process.wait_http(f"http://127.0.0.1:{port}/")
    process.wait_port(port)
    with pytest.raises(AssertionError, match="not within"):
        process.wait_http(f"http://127.0.0.1:{port}/missing", timeout=0.1)
    process.kill()
    with pytest.raises(AssertionError, match="ended with -9 before it served"):
        process.wait_http(f"http://127.0.0.1:{port}/")


async def test_manage_process_command_runs_on_its_data(data_dir: Path) -> None:
    process = ManageProcess(["check"], {"DATA_DIR": str(data_dir)}, log=data_dir / "check.log")
    process.start()
    await until(lambda: not process.is_alive(), START)
    assert process.returncode == 0, process.text()
    assert (data_dir / "secret_key").exists()


def test_manage_failing_command_raises_what_it_said(data_dir: Path) -> None:
    with pytest.raises(AssertionError, match="Unknown command: 'nonsense'"):
        manage("nonsense", env={"DATA_DIR": str(data_dir)})


# Redis.


def test_redis_server_killed_comes_back_empty_on_its_port(redis_server: RedisServer) -> None:
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.set("key", "value")
    redis_server.kill()
    assert not redis_server.is_alive()
    redis_server.start()
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.get("key") is None


def test_redis_server_paused_does_not_answer(redis_server: RedisServer) -> None:
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        assert client.ping()
    redis_server.pause()
    with (
        redis.Redis.from_url(redis_server.url, socket_timeout=0.1, retry=None) as client,
        pytest.raises(redis.exceptions.TimeoutError),
    ):
        client.ping()
    redis_server.resume()
    wait_until(redis_server.answers)


# Waiting.


async def test_until_condition_returns_its_value() -> None:
    values = iter([0, None, "", "yes"])
    assert await until(lambda: next(values)) == "yes"


async def test_until_async_condition_is_awaited() -> None:
    values = iter([False, True])

    async def condition() -> bool:
        return next(values)

    assert await until(condition) is True


async def test_until_never_true_names_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=re.escape("not within 0.02 s: the moon")):
        await until(lambda: False, 0.02, what="the moon")


def test_wait_until_failing_condition_raises_at_once() -> None:
    def broken() -> bool:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        wait_until(broken)
