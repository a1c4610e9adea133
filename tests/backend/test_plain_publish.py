"""The publishers of docs/backend.md: run as processes, against a real nats-server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from realtime.broker import connected
from realtime.parts import stream_config
from tests.deploy.nats_server import Server
from tests.support.waiting import DEADLINE

from .languages import LANGUAGES, command

pytestmark = pytest.mark.asyncio

TOPIC = "user.7.notifications"


def run(argv: list[str], server: Server) -> subprocess.CompletedProcess[str]:
    """Run an example with the rights of the NATS user `backend`."""
    env = {**os.environ, "NATS_URL": server.url("backend")}
    return subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@pytest.mark.parametrize("language", LANGUAGES)
async def test_publisher_run_twice_stores_once(
    server: Server, tmp_path: Path, language: str
) -> None:
    argv = command(language, "plain_publish", tmp_path)
    async with connected(server.url("gateway"), name="t", inbox_prefix="_INBOX_gateway") as broker:
        await broker.ensure_stream(stream_config(), timeout=DEADLINE)
        said = [run(argv, server).stdout for _ in range(2)]
        query = {"seq": 1, "next_by_subj": TOPIC, "batch": 10}
        events = await broker.direct_get("GATEWAY", query, timeout=DEADLINE)
    assert said == ["1 stored\n", "1 stored before\n"]
    assert [json.loads(event.data) for event in events] == [{"text": "Order 42 is on its way."}]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_publisher_without_a_stream_fails(
    server: Server, tmp_path: Path, language: str
) -> None:
    done = run(command(language, "plain_publish", tmp_path), server)
    assert (done.stdout, done.returncode != 0) == ("", True)
