"""Fixtures of the tools' tests: a real gateway, and the tools as their users run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..support.gateways import Gateway, open_for_requests
from ..support.processes import PROJECT, ManageProcess


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Gateway]:
    """Run the real gateway for the tests of this package; each leaves it alive."""
    with open_for_requests(tmp_path_factory.mktemp("live"), data_template) as site:
        yield site


@pytest.fixture
def topic() -> str:
    """Return a topic of the test's own."""
    return f"room.{uuid.uuid4().hex}"


class Done:
    """How a tool ended, and what it printed."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.log = done.stderr

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The messages, of `--log json`."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def data(self) -> list[Any]:
        """Their payloads."""
        return [line["data"] for line in self.lines]


class Tools:
    """Runs `manage.py consume` and `manage.py produce`."""

    def __init__(self, site: Gateway, directory: Path, finish: Callable[..., None]) -> None:
        self.site = site
        self.ws = site.ws_url()
        self.nats = site.nats_url
        self.directory = directory
        self._finish = finish

    def env(self, extra: Mapping[str, str]) -> dict[str, str]:
        token = {} if "GATEWAY_PASSWORD" in extra else {"GATEWAY_TOKEN": self.site.token()}
        return {**self.site.env, **token, **extra}

    def run(self, *args: str, stdin: str = "", shell: str = 'exec "$@"', **env: str) -> Done:
        """Run a tool to its end.

        Args:
            shell: a line for `sh`, in which `"$@"` is the tool.
        """
        return Done(
            subprocess.run(
                ["sh", "-c", shell, "sh", sys.executable, "manage.py", *args],
                cwd=PROJECT,
                env={**os.environ, **self.env(env)},
                input=stdin,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
        )

    def start(self, *args: str, **env: str) -> ManageProcess:
        """Start a tool; its output and its log come to one file."""
        log = self.directory / f"{uuid.uuid4().hex}.log"
        process = ManageProcess(args, self.env(env), log=log)
        self._finish(process.kill)
        process.start()
        return process


@pytest.fixture
def tools(live: Gateway, tmp_path: Path, request: pytest.FixtureRequest) -> Tools:
    """Return the tools, on the running gateway."""
    return Tools(live, tmp_path, request.addfinalizer)


def listening(process: ManageProcess) -> None:
    """Wait until a consumer is connected; what it prints later it was there for."""
    process.wait_for_line("connection open")
