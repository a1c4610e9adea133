"""The tools on NATS servers that do not take their user, password or token."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ..deploy.nats_server import nats_server
from ..support.processes import START
from .conftest import listening

PASSWORD = 'authorization { user: "shop", password: "right" }\n'
TOKEN = 'authorization { token: "right" }\n'
CONSUME = ("consume", "-t", "room.a", "--count", "1")
PRODUCE = ("produce", "-t", "room.a", "-m", "1")


def config_of(directory: Path, text: str) -> Path:
    """Return a file with the configuration of a server."""
    path = directory / "nats.conf"
    path.write_text(text)
    return path


@pytest.mark.parametrize("command", [CONSUME, PRODUCE], ids=["consume", "produce"])
@pytest.mark.parametrize(
    ("text", "credentials"),
    [(PASSWORD, "shop:wrong@"), (PASSWORD, ""), (TOKEN, "wrong@")],
    ids=["password", "none", "token"],
)
def test_credentials_that_nats_refuses_are_told_and_denied(
    tools, tmp_path, command, text, credentials
):
    with nats_server(tmp_path, config=config_of(tmp_path, text)) as server:
        done = tools.run(*command, "-u", f"nats://{credentials}{server.address}")
    assert (done.code, done.out) == (4, "")
    assert "NATS refused the user, password or token: give the right ones" in done.log
    assert "Traceback" not in done.log
    assert "wrong" not in done.log


@pytest.mark.parametrize(
    "options", [(), ("--since", "0"), ("--rpc",)], ids=["core", "stream", "rpc"]
)
def test_consumer_whose_password_was_changed_meanwhile_ends_denied(tools, tmp_path, options):
    config = config_of(tmp_path, f"jetstream {{}}\n{PASSWORD}")
    with nats_server(tmp_path, config=config) as server:
        url = f"nats://shop:right@{server.address}"
        consumer = tools.start("consume", "-u", url, "-t", "room.a", *options)
        listening(consumer)
        config.write_text(f"jetstream {{}}\n{PASSWORD.replace('right', 'other')}")
        os.kill(server.pid, signal.SIGHUP)
        assert consumer.wait(START) == 4
    assert "NATS refused the user, password or token" in consumer.text()
    assert "Traceback" not in consumer.text()


def test_right_password_is_taken(tools, tmp_path):
    with nats_server(tmp_path, config=config_of(tmp_path, PASSWORD)) as server:
        url = f"nats://shop:right@{server.address}"
        done = tools.run("produce", "-u", url, "-t", "live.a", "-m", "1")
    assert done.code == 0, done.log
