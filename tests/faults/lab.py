"""The lab: the gateway's processes round a NATS server of their own, and what breaks them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Self

from realtime.broker import Broker
from realtime.embedded import NatsServer, free_port
from realtime.protocol.exceptions import Unavailable
from tests.support.gateways import Site
from tests.support.processes import ManageProcess
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer
from tests.support.waiting import until

from . import backend
from .backend import Publisher, StandIn

VARIABLE = "FAULTS_REALTIME"  # read by settings.py
SECRET_KEY = "faults-secret-key-" + "s" * 40
STREAM = "GATEWAY"
READY = {
    "serve": r"^Serving on",
    "runworker": r"bridge connected",
    "auth_worker": r"auth worker ready",
}
START_SECONDS = 60.0
"""Until a process must be ready; others may use the machine too."""


class Needs(NamedTuple):
    """Which processes a row wants.

    Attributes:
        web: web processes; without bridges each runs its own.
        bridges: `runworker nats_bridge`, with Redis.
        accounts: the project's own auth worker with its database; False: a stand-in.
        proxied: the web processes reach NATS through a proxy.
        nats: servers; three make a cluster and a stream of three replicas.
        settings: changed values of `REALTIME`, as JSON.
    """

    web: int = 1
    bridges: int = 0
    accounts: bool = False
    proxied: bool = False
    nats: int = 1
    settings: str = "{}"


class Lab(Site):
    """One gateway to break. Use it as `async with Lab(directory, needs) as lab`.

    Args:
        directory: an empty one.
        template: a data directory with the demo accounts, where they are needed.
    """

    def __init__(self, directory: Path, needs: Needs, template: Path | None = None) -> None:
        self.needs = needs
        self.servers = _servers(directory, needs.nats)
        self.redis = RedisServer(log=directory / "redis.log") if needs.bridges else None
        self.proxy = Proxy(self.nats.port) if needs.proxied else None
        self.nats_url = ",".join(server.url for server in self.servers)
        super().__init__(directory, template if needs.accounts else None, self._environment())
        self.web: list[ManageProcess] = []
        self.bridges: list[ManageProcess] = []
        self.auth_workers: list[ManageProcess] = []
        self._stack = AsyncExitStack()
        self.broker = Broker(self.nats_url, name="faults", connect_timeout=START_SECONDS)
        self.stand_in = StandIn(self.broker)

    @property
    def nats(self) -> NatsServer:
        """Return the NATS server, the first one of a cluster."""
        return self.servers[0]

    @property
    def urls(self) -> list[str]:
        """Return the WebSocket addresses of the web processes."""
        return [self.ws_url(number) for number in range(len(self.ports))]

    def token_of(self, user_id: int) -> str:
        """Return a JWT for a user by its id."""
        return backend.token(user_id)

    def publisher(self) -> Publisher:
        """Return a publisher with a run of its own."""
        return Publisher(self.broker)

    async def __aenter__(self) -> Self:
        try:
            for server in self.servers:
                server.start()
            if self.redis is not None:
                self.redis.start()
            if self.proxy is not None:
                await self._stack.enter_async_context(calm(self.proxy))
            await self.broker.connect()
            await self._start_processes()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.broker.close()
        self.close()
        for server in self.servers:
            server.kill()
        if self.redis is not None:
            self.redis.resume()
            self.redis.kill()
        await self._stack.aclose()

    async def start(self, process: ManageProcess) -> None:
        """Start a process, again when it ended, and return when it is ready."""
        process.start()
        await self.ready(process)

    async def ready(self, process: ManageProcess) -> None:
        """Return when a process that was started says that it is ready."""
        pattern = READY[process.argv[3]]

        def said() -> bool:
            if not process.is_alive():
                raise AssertionError(f"{process.argv} ended:\n{process.text()[-4000:]}")
            return process.find(pattern) is not None

        await until(said, START_SECONDS, what=f"{process.argv[3:]} to be ready")

    async def restore(self) -> None:
        """Bring back what a fault has ended, frozen or cut off."""
        for process in self.processes:
            if process.is_alive():
                process.resume()
            else:
                process.start()
        for server in self.servers:
            server.start()
        if self.redis is not None:
            self.redis.resume()
            self.redis.start()
        if self.proxy is not None:
            await self.proxy.forward()
        self.stand_in.answer = backend.allow_rooms
        for process in self.processes:
            await self.ready(process)

    async def stored(self, topic: str) -> int:
        """Return how many events the stream holds of a topic."""
        query = {"seq": 1, "next_by_subj": topic, "batch": 1}
        messages = await self.broker.direct_get(STREAM, query, timeout=5)
        return int(messages[0].headers["Nats-Num-Pending"]) + 1 if messages else 0

    def tracebacks(self) -> int:
        """Return how many tracebacks the processes have logged."""
        return sum(
            process.log.read_text(errors="replace").count("Traceback (most")
            for process in self.processes
        )

    async def _start_processes(self) -> None:
        needs = self.needs
        for _ in range(needs.web):
            self.add_web()
        self.bridges = [self.run("runworker", "nats_bridge") for _ in range(needs.bridges)]
        if needs.accounts:
            self.auth_workers = [self.run("auth_worker")]
        else:
            await self.stand_in.start()
        for process in self.processes:
            await self.ready(process)
        await self._stream_ready()

    def add_web(self) -> ManageProcess:
        """Start one more web process."""
        self.ports.append(free_port())
        self.web.append(self.run("serve", "--port", str(self.ports[-1])))
        return self.web[-1]

    async def _stream_ready(self) -> None:
        async def exists() -> bool:
            try:
                return await self.broker.stream_info(STREAM, timeout=2) is not None
            except Unavailable:
                return False

        await until(exists, START_SECONDS, what="the stream")

    def _environment(self) -> dict[str, str]:
        url = f"nats://127.0.0.1:{self.proxy.port}" if self.proxy is not None else self.nats_url
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "SECRET_KEY": SECRET_KEY,
            "JWT_KEY": backend.JWT_KEY,
            "NATS_URL": url,
            "STREAM_REPLICAS": str(min(len(self.servers), 3)),
            VARIABLE: self.needs.settings,
        }
        if self.redis is not None:
            env["REDIS_URL"] = self.redis.url
        return env


@asynccontextmanager
async def calm(proxy: Proxy) -> AsyncIterator[Proxy]:
    """Run a proxy and let its connections end by themselves."""
    async with proxy:
        try:
            yield proxy
        finally:
            await proxy.forward()
            await proxy.refuse()
            await until(lambda: not proxy.connections, what="the proxy's connections to end")


@asynccontextmanager
async def memory_peak(process: ManageProcess) -> AsyncIterator[dict[str, float]]:
    """Measure how much resident memory a process takes beyond what it had (MiB)."""
    found: dict[str, float] = {}
    before = status_mib(process.pid, "VmRSS")
    # Sets the high-water mark to what is resident now (proc(5)).
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    yield found
    found["MiB"] = round(status_mib(process.pid, "VmHWM") - before, 1)


def status_mib(pid: int, name: str) -> float:
    """Return a field of /proc/PID/status in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no {name}")


def changed(**values: object) -> str:
    """Return changed settings as `Needs` takes them."""
    return json.dumps(values)


def _servers(directory: Path, count: int) -> list[NatsServer]:
    """Return NATS servers; several form one cluster."""
    # A killed process loses nothing without fsync, and publishing is twice as fast.
    if count == 1:
        return [NatsServer(directory / "nats", sync_interval="2m")]
    ports = [free_port() for _ in range(count)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    return [
        NatsServer(
            directory / f"nats-{number}",
            sync_interval="2m",
            monitor=True,
            config_extra=(
                f'cluster {{ name: faults, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
            ),
        )
        for number, port in enumerate(ports)
    ]
