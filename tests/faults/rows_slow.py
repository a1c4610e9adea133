"""Rows about clients that do not read, or write too much: 10, 11, 12, 14, 17."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from tests.support.client import TestClient
from tests.support.processes import ChildProcess, ManageProcess
from tests.support.proxy import Proxy
from tests.support.waiting import until

from .backend import Publisher
from .client import Follower
from .lab import Lab, calm, memory_peak
from .measure import account, arrived, bystander, following
from .outcome import Outcome
from .rows import ONE, Pace, fault
from .wire import RawSocket, text

MAX_BUFFER_MIB = 1.0
"""What may wait for one socket (MAX_BUFFER)."""
SLACK_MIB = 24.0
"""What a process may take besides: rings, allocator, event loop."""


@fault(10, "slow readers: SO_RCVBUF 4096, never read; half of them send a frame a second", ONE)
async def slow_readers(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    publisher = lab.publisher()
    topic = f"room.slow-{publisher.run.id}"
    count = int(pace.of(40, 12))
    web = lab.web[0]
    async with AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(RawSocket(lab.ports[0], receive_buffer=4096))
            for _ in range(count)
        ]
        for one in slow:
            await one.open(lab.token_of(1), topic)
        await publisher.burst([topic], 1)
        seen = [(await one.until("message"))["seqNo"] for one in slow]
        await stack.enter_async_context(_chatter(slow[::2]))
        reader = await stack.enter_async_context(Follower(lab.urls, lab.token_of(1), [topic]))
        before = web.text().count("slow reader closed")
        async with memory_peak(web) as memory, bystander(lab, outcome):
            begun = time.monotonic()
            flood = asyncio.create_task(
                _flood(publisher, topic, lambda: web.text().count("slow reader") >= before + count)
            )
            # One chatty and one silent one wake up when they are closed: is the code to be had?
            waking = asyncio.gather(*(_wake(one, web) for one in slow[-2:]))
            await until(lambda: web.text().count("slow reader") > before, 60, what="a close")
            outcome.figures["first closed s"] = round(time.monotonic() - begun, 2)
            await flood
            outcome.figures["all closed s"] = round(time.monotonic() - begun, 2)
            codes = await waking
        outcome.figures |= memory
        outcome.figures["codes"] = ", ".join(map(str, codes))
        bound = count * MAX_BUFFER_MIB + SLACK_MIB
        outcome.must(f"memory below {bound:g} MiB", memory["MiB"] < bound)
        outcome.must("closed 4001", set(codes) == {4001})
        # What a slow reader missed it gets from the stream when it comes back.
        back = Follower(lab.urls, lab.token_of(1), [topic], since={topic: seen[0]})
        async with following([back]):
            missed = {topic: publisher.published[topic][1:]}
            await arrived([back], missed)
            account(outcome, [back], missed)
            await arrived([reader], missed)
            outcome.must("others lose nothing", not reader.app.report(missed).lost)
            outcome.must("others keep their sockets", not reader.closes)
    return outcome


async def _flood(publisher: Publisher, topic: str, done: Callable[[], bool]) -> None:
    """Publish 2 MiB a second until that has had its effect."""
    while not done():
        await asyncio.gather(
            *(publisher.publish(topic, padding="x" * 8192) for _ in range(16)),
            asyncio.sleep(16 / 250),
        )


@asynccontextmanager
async def _chatter(sockets: list[RawSocket]) -> AsyncIterator[None]:
    """Have sockets send a tiny frame a second, though they read nothing."""

    async def chat() -> None:
        while True:
            for one in sockets:
                with suppress(OSError, TimeoutError):
                    await one.send(text(type="ping"), timeout=0.1)
            await asyncio.sleep(1)

    task = asyncio.create_task(chat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _wake(one: RawSocket, web: ManageProcess) -> int | None:
    """Begin to read once it is closed, and return the code: it is there for five seconds."""
    closed = rf"slow reader closed client=.*\b{one.socket.getsockname()[1]}\b"
    await until(lambda: web.find(closed), 90, what="the close of a slow reader")
    one.widen(1 << 20)
    with suppress(TimeoutError):
        return await one.ending(timeout=30)
    return None


@fault(11, "half-open: the client's machine frozen (SIGSTOP); a network that swallows all", ONE)
async def half_open(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    before = _open_sockets(lab)
    code = (
        "import asyncio, sys\n"
        "from tests.support.client import TestClient\n"
        "async def main():\n"
        "    async with TestClient(sys.argv[1], token=sys.argv[2]) as client:\n"
        "        await client.subscribe('room.frozen')\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.sleep(3600)\n"
        "asyncio.run(main())"
    )
    frozen = ChildProcess([sys.executable, "-c", code, lab.ws_url(), lab.token_of(1)])
    frozen.start()
    async with calm(Proxy(lab.ports[0])) as proxy:
        client = TestClient(f"ws://127.0.0.1:{proxy.port}/ws/", token=lab.token_of(1))
        async with client:
            await until(lambda: frozen.find("ready"), 30, what="the client that will freeze")
            assert _open_sockets(lab) == before + 2
            frozen.pause()
            proxy.black_hole()
            begun = time.monotonic()
            await until(lambda: _open_sockets(lab) == before, 120, what="both to be reaped")
            outcome.figures["reaped s"] = round(time.monotonic() - begun, 1)
            client.abort()
    frozen.kill()
    outcome.must("reaped within 70 s", time.monotonic() - begun < 70, timed=True)
    return outcome


def _open_sockets(lab: Lab) -> int:
    """Return how many TCP connections to the web process's port it holds itself."""
    # st 01 is ESTABLISHED, 08 CLOSE_WAIT: what the process has not closed yet (proc(5)).
    port = f":{lab.ports[0]:04X}"
    found = 0
    with open("/proc/net/tcp") as table:
        for line in table:
            fields = line.split()
            found += fields[1].endswith(port) and fields[3] in ("01", "08")
    return found


@fault(12, "inbound flood: 60 kB frames while authentication is pending", ONE)
async def inbound_flood(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    sockets = 10
    web = lab.web[0]
    async with memory_peak(web) as memory, bystander(lab, outcome):
        answer = lab.stand_in.answer
        # Only the attackers' questions stay open.
        lab.stand_in.answer = lambda request: (
            None if request.token == "pending" else answer(request)
        )
        # It ends with its sockets, which are closed after AUTH_TIMEOUT.
        found = await attack(lab, "flood", token="pending", sockets=sockets, seconds=60)
    outcome.figures |= memory
    outcome.figures["most MiB taken of a socket"] = found["most MiB of one socket"]
    outcome.figures["codes"] = str(found["codes"])
    bound = sockets * 0.5 + SLACK_MIB
    outcome.must(f"memory below {bound:g} MiB", memory["MiB"] < bound)
    outcome.must("closed 4002 when nobody answers", found["codes"] == [4002])
    return outcome


@fault(14, "fragments: 200,000 of one byte, pings between", ONE)
async def many_fragments(lab: Lab, pace: Pace) -> Outcome:
    outcome = Outcome()
    async with memory_peak(lab.web[0]) as memory, bystander(lab, outcome):
        found = await attack(lab, "fragments", token=lab.token_of(1), sockets=3, seconds=60)
    outcome.figures |= memory
    outcome.figures["codes"] = str(found["codes"])
    outcome.must(f"memory below {SLACK_MIB:g} MiB", memory["MiB"] < SLACK_MIB)
    outcome.must("closed 1009", found["codes"] == [1009])
    return outcome


async def flooded(lab: Lab, pace: Pace, kind: str, bound: float) -> Outcome:
    """Flood a web process from four sockets; memory in MiB must stay below the bound."""
    outcome = Outcome()
    seconds = pace.of(10, 4)
    async with memory_peak(lab.web[0]) as memory, bystander(lab, outcome):
        found = await attack(lab, kind, token=lab.token_of(1), sockets=4, seconds=seconds)
    outcome.figures |= memory
    outcome.figures["MiB sent"] = found["MiB"]
    outcome.figures["codes"] = str(found["codes"])
    outcome.must(f"memory below {bound:g} MiB", memory["MiB"] < bound)
    return outcome


@fault(17, "ping flood: WebSocket pings whose pongs nobody reads", ONE)
async def ping_flood(lab: Lab, pace: Pace) -> Outcome:
    return await flooded(lab, pace, "pings", 4 * MAX_BUFFER_MIB + SLACK_MIB)


@fault(17, "pong flood: the smallest frames there are", ONE)
async def pong_flood(lab: Lab, pace: Pace) -> Outcome:
    return await flooded(lab, pace, "pongs", SLACK_MIB)


@fault(17, "ping flood: `ping` frames whose answers nobody reads", ONE)
async def ask_flood(lab: Lab, pace: Pace) -> Outcome:
    return await flooded(lab, pace, "asks", 4 * MAX_BUFFER_MIB + SLACK_MIB)


@fault(17, "subscribe flood: ever new topics", ONE)
async def subscribe_flood(lab: Lab, pace: Pace) -> Outcome:
    return await flooded(lab, pace, "subscribes", 2 * SLACK_MIB)


async def attack(
    lab: Lab, kind: str, *, token: str, sockets: int, seconds: float
) -> dict[str, Any]:
    """Run an attacker as a process and return what it tells."""
    options = {"port": lab.ports[0], "token": token, "sockets": sockets, "seconds": seconds}
    argv = [sys.executable, "-m", "tests.faults.attack", kind]
    for name, value in options.items():
        argv += [f"--{name}", str(value)]
    process = ChildProcess(argv)
    process.start()
    try:
        await until(lambda: not process.is_alive(), seconds + 60, what=f"the end of {kind}")
        assert process.returncode == 0, process.text()
        found: dict[str, Any] = json.loads(process.text().splitlines()[-1])
    finally:
        process.kill()
    return found
