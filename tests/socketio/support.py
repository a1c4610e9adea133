"""The real socket.io-client in a Node process, waited for with deadlines."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
from pathlib import Path
from typing import Any, Self

from ..support.waiting import DEADLINE, until

MISSING = object()
OPEN = "/socket.io/?EIO=4&transport=polling"


class NodeClient:
    """A Socket.IO client: `async with NodeClient(modules, url, auth={"token": …}) as client`.

    Args:
        modules: where socket.io-client is installed, and the driver lies.
        url: `http://HOST:PORT`.
        options: of socket.io-client.
    """

    def __init__(self, modules: Path, url: str, **options: Any) -> None:
        options.setdefault("reconnection", False)
        self.argv = ["node", "driver.mjs", url, json.dumps(options)]
        self.modules = modules
        self.seen: list[dict[str, Any]] = []
        self._acks = 0

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *self.argv, cwd=self.modules, stdin=pipe, stdout=pipe, limit=2**24
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.seen.append(json.loads(line))

    def all(self, event: str) -> list[list[Any]]:
        """Return the arguments of every event of a name so far."""
        return [one["args"] for one in self.seen if one["event"] == event]

    async def expect(self, event: str, timeout: float = DEADLINE) -> list[Any]:
        """Return the arguments of the first event of a name that was not yet taken."""

        def take() -> dict[str, Any] | None:
            return next((one for one in self.seen if one["event"] == event), None)

        try:
            found = await until(take, timeout, what=event)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; came: {self.seen[-10:]}") from None
        self.seen.remove(found)
        return found["args"]

    async def frame(self, type: str, timeout: float = DEADLINE, **fields: Any) -> dict[str, Any]:
        """Return the first frame of a type that came as the event `gateway`."""
        wanted = {"type": type, **fields}

        def take() -> dict[str, Any] | None:
            for one in self.seen:
                frame = one["args"][0] if one["event"] == "gateway" else {}
                if all(frame.get(name, MISSING) == value for name, value in wanted.items()):
                    return one
            return None

        try:
            found = await until(take, timeout, what=str(wanted))
        except AssertionError as exc:
            raise AssertionError(f"{exc}; came: {self.seen[-10:]}") from None
        self.seen.remove(found)
        return found["args"][0]

    async def tell(self, **command: Any) -> None:
        """Send a command to the driver."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()

    async def emit(self, *args: Any) -> None:
        """Emit an event without waiting for its acknowledgement."""
        await self.tell(emit=args)

    async def ask(self, *args: Any) -> dict[str, Any]:
        """Emit an event and return its acknowledgement."""
        self._acks += 1
        await self.tell(emit=args, ack=f"ack-{self._acks}")
        (answer,) = await self.expect(f"ack-{self._acks}")
        return answer

    def freeze(self) -> None:
        """Have the process read nothing any more."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it read on."""
        self.process.send_signal(signal.SIGCONT)


class Poller:
    """Engine.IO by raw HTTP: one who need not keep to it."""

    def __init__(self, url: str, **headers: str) -> None:
        self.host = url.removeprefix("http://")
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.sid = ""

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, Any]:
        """Return status, text and headers of an answer."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, path, body, self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers
        finally:
            connection.close()

    def open(self) -> None:
        status, text, _ = self.ask("GET", OPEN)
        assert status == 200, text
        self.sid = json.loads(text[1:])["sid"]

    def poll(self) -> tuple[int, str]:
        return self.ask("GET", f"{OPEN}&sid={self.sid}")[:2]

    def post(self, *packets: str | bytes) -> int:
        body = b"\x1e".join(it if isinstance(it, bytes) else it.encode() for it in packets)
        return self.ask("POST", f"{OPEN}&sid={self.sid}", body)[0]

    def hear(self, word: str) -> None:
        """Poll until a word comes: packets of one moment may come in two polls."""
        while word not in (polled := self.poll())[1]:
            assert polled[0] == 200, polled

    def connect(self, token: str) -> None:
        assert self.post(f"40{json.dumps({'token': token})}") == 200
