"""The served OpenAPI document is what the API does: schemathesis tries to prove otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.integration.support import add_rules
from tests.support.processes import PROJECT, manage

from .conftest import Site

SECONDS = 25
"""How long it tries."""

CONFIG = f"""
hooks = "{Path(__file__).with_name("schemathesis_hooks.py")}"
"""


@pytest.fixture
def rooms_for_all(site: Site) -> None:
    """Let everybody into the rooms, so that the admin reaches what is behind the rules."""
    add_rules(site, [("allow", "subscribe", "room.>")])


def test_contract_holds_against_schemathesis(site: Site, rooms_for_all: None, tmp_path: Path):
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run"),
            f"{site.url()}/api/schema/",
            *("--header", f"Authorization: Bearer {site.token('admin')}"),
            *("--phases", "examples,coverage,fuzzing"),
            *("--max-time", str(SECONDS), "--request-timeout", "60"),
            *("--continue-on-failure", "--no-shrink", "--warnings", "off"),
        ],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=SECONDS + 180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Operations:       9 selected / 9 total" in done.stdout


def test_schema_is_served_to_anybody(site: Site):
    with urllib.request.urlopen(f"{site.url()}/api/schema/", timeout=30) as reply:
        assert reply.headers.get_content_type() == "application/vnd.oai.openapi+json"
    answer = site.api().get("schema/")
    assert answer.body["openapi"] == "3.1.1"
    assert set(answer.body["components"]["securitySchemes"]) == {"bearer", "cookieAuth"}


def test_schema_is_made_without_warnings(data_dir: Path):
    env = {"DATA_DIR": str(data_dir)}
    manage("spectacular", "--validate", "--fail-on-warn", "--file", os.devnull, env=env)


def test_deploy_checks_have_no_word_of_the_schema():
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "drf_spectacular" not in done.stderr
