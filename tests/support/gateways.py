"""The gateway as its users run it: `manage.py gateway`, or many processes round NATS and Redis."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from realtime.embedded import NatsServer

from .client import TestClient
from .ports import free_port
from .processes import START, ManageProcess, manage
from .redis import RedisServer
from .waiting import wait_until

# The servers of the one who runs the tests are not the tests' business; empty means unset.
_NOTHING_OUTSIDE = {"DATABASE_URL": "", "NATS_URL": "", "REDIS_URL": ""}
PATIENT = {
    "REALTIME_AUTH_TIMEOUT": "20",
    "REALTIME_AUTH_DEADLINE": "60",
    "REALTIME_API_TIMEOUT": "30",
}
"""How long a gateway waits for what a busy machine does late; what is never done is waited for no
longer than the test says that is about it."""
_tokens: dict[tuple[str | None, ...], str] = {}
_MAKE_ACCOUNTS = "from accounts.demo import make_demo_accounts as make; make()"


def make_template(directory: Path) -> Path:
    """Make a data directory with a migrated database and the demo accounts, to copy from."""
    env = {**_NOTHING_OUTSIDE, "DATA_DIR": str(directory)}
    manage("migrate", "--verbosity", "0", env=env)
    manage("shell", "-c", _MAKE_ACCOUNTS, env=env)
    return directory


class Site:
    """What a gateway in one process and one in many have in common: data, users, addresses."""

    def __init__(self, data_dir: Path, template: Path | None, env: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.env = {**_NOTHING_OUTSIDE, "DATA_DIR": str(data_dir), **env}
        self.ports: list[int] = []
        self.processes: list[ManageProcess] = []
        if template is not None:
            shutil.copytree(template, data_dir, dirs_exist_ok=True)
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def url(self, which: int = 0) -> str:
        """Return the `http://` address of a web process."""
        return f"http://127.0.0.1:{self.ports[which]}"

    def ws_url(self, which: int = 0) -> str:
        """Return the WebSocket address of a web process."""
        return f"ws://127.0.0.1:{self.ports[which]}/ws/"

    def token(self, user: str = "alice", *options: str) -> str:
        """Return a JWT for a user, as `manage.py token USER OPTIONS` prints it.

        Without options, sites that share their keys (copies of one template do) share it, for
        starting a command takes a second.
        """
        if options:
            return manage("token", user, *options, env=self.env).strip()
        keys = (self.env.get("SECRET_KEY"), self.env.get("JWT_KEY"))
        known = (user, (self.data_dir / "secret_key").read_text(), *keys)
        if known not in _tokens:
            _tokens[known] = manage("token", user, env=self.env).strip()
        return _tokens[known]

    def add_rule(self, action: str, topic: str, effect: str = "allow") -> None:
        """Add an access rule for everyone, as an administrator does."""
        fields = {"action": action, "topic": topic, "effect": effect}
        code = f"from accounts.models import AccessRule; AccessRule.objects.create(**{fields!r})"
        manage("shell", "-c", code, env=self.env)

    def client(self, token: str, which: int = 0) -> TestClient:
        """Return a client of a web process, to be entered with `async with`."""
        return TestClient(self.ws_url(which), token=token)

    def run(self, *args: str) -> ManageProcess:
        """Start `manage.py ARGS` on this site's data; `close` ends it."""
        log = self.data_dir / f"{len(self.processes)}-{args[0]}.log"
        process = ManageProcess(args, self.env, log=log)
        self.processes.append(process)
        process.start()
        return process

    def close(self) -> None:
        """End every process, each by its id."""
        for process in self.processes:
            process.kill()


class Gateway(Site):
    """`manage.py gateway --demo`: everything embedded in one process and its nats-server."""

    def __init__(self, data_dir: Path, template: Path | None, env: Mapping[str, str]) -> None:
        super().__init__(data_dir, template, {**PATIENT, **env})
        self.ports = [free_port()]
        self.nats_port = free_port()
        self.nats_url = f"nats://127.0.0.1:{self.nats_port}"
        self.options: tuple[str, ...] = ()

    def start(self, timeout: float = START) -> None:
        """Start it and return when it says that it serves."""
        process = self.run(
            "gateway",
            "--demo",
            *("--port", str(self.ports[0])),
            *("--nats-port", str(self.nats_port)),
            *("--data-dir", str(self.data_dir)),
            *self.options,
        )
        process.wait_for_line(f"http://127.0.0.1:{self.ports[0]}", timeout)


@contextlib.contextmanager
def open_for_requests(directory: Path, template: Path) -> Iterator[Gateway]:
    """Run a gateway whose users may all ask on `rpc.>`, and end it afterwards."""
    site = Gateway(directory / "data", template, {})
    try:
        site.start()
        site.add_rule("request", "rpc.>")
        yield site
    finally:
        site.close()


class Cluster(Site):
    """Web processes, bridges and auth workers round one NATS and one Redis server."""

    def __init__(self, data_dir: Path, template: Path, env: Mapping[str, str]) -> None:
        self.nats = NatsServer(data_dir / "nats", monitor=True, sync_interval="2m")
        self.redis = RedisServer(log=data_dir / "redis.log")
        addresses = {"NATS_URL": self.nats.url, "REDIS_URL": self.redis.url}
        super().__init__(data_dir, template, {**PATIENT, **addresses, **env})
        self.web: list[ManageProcess] = []
        self.bridges: list[ManageProcess] = []
        self.auth_workers: list[ManageProcess] = []

    def start(self, *, web: int, bridges: int, auth_workers: int, timeout: float = START) -> None:
        """Start so many of each and return when all are ready."""
        self.nats.start()
        self.redis.start()
        for _ in range(auth_workers):
            self.auth_workers.append(self.run("auth_worker"))
        for _ in range(bridges):
            self.bridges.append(self.run("runworker", "nats_bridge"))
        for _ in range(web):
            self.add_web()
        for process, port in zip(self.web, self.ports, strict=True):
            # Listening is not enough: it may not have reached NATS yet.
            if auth_workers:
                process.wait_http(f"http://127.0.0.1:{port}/readyz", timeout)
            else:  # as ready as it gets when nobody answers who a socket is
                process.wait_for_line("serving sockets", timeout)
        self.wait_listening("gateway.auth", auth_workers, timeout)
        self.wait_listening("gateway.relay.", bridges, timeout)

    def add_web(self) -> ManageProcess:
        """Start one more web process; its number is the last one."""
        self.ports.append(free_port())
        self.web.append(self.run("serve", "--port", str(self.ports[-1])))
        return self.web[-1]

    def wait_listening(self, prefix: str, count: int, timeout: float = START) -> None:
        """Wait until so many NATS connections subscribe to a subject that starts with `prefix`."""

        def enough() -> bool:
            self._require_alive()
            return self.listening(prefix) >= count

        wait_until(enough, timeout, what=f"{count} NATS subscribers to {prefix}")

    def listening(self, prefix: str) -> int:
        """Return how many NATS connections subscribe to a subject that starts with `prefix`."""
        with urllib.request.urlopen(f"{self.nats.monitor_url}/connz?subs=1", timeout=30) as reply:
            connections = json.load(reply)["connections"]
        return sum(
            any(subject.startswith(prefix) for subject in one.get("subscriptions_list", ()))
            for one in connections
        )

    def close(self) -> None:
        """End every process and both servers."""
        super().close()
        self.nats.kill()
        self.redis.kill()

    def _require_alive(self) -> None:
        for process in self.processes:
            if not process.is_alive():
                raise AssertionError(
                    f"{' '.join(process.argv[2:])} ended with {process.returncode}:\n"
                    f"{process.text()[-4000:]}"
                )
