"""`manage.py check --deploy` with the settings that docker-compose.yml makes, behind TLS."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.processes import manage

from .test_compose import made_env, services

VARIABLE = re.compile(r"\$\{(\w+):[-?]([^}]*)\}")
REPLACED = {
    # SQLite in DATA_DIR, since no PostgreSQL runs here; no server is asked for anything.
    "DATABASE_URL": "",
    "ALLOWED_HOSTS": "gateway.example.com,127.0.0.1",
    "CSRF_TRUSTED_ORIGINS": "https://gateway.example.com",
    "HTTPS": "true",
}
DEPLOY = ("check", "--deploy", "--fail-level", "WARNING")


def web_environment(data_dir: Path) -> dict[str, str]:
    """Return the environment of a web container, as Compose would fill it in."""
    values = dict(re.findall(r"^(\w+)=(.*)$", made_env(), re.MULTILINE))
    filled = {
        name: VARIABLE.sub(lambda match: values.get(match[1], match[2] or ""), value)
        for name, value in services()["web1"]["environment"].items()
    }
    return {**filled, **REPLACED, "DATA_DIR": str(data_dir)}


@pytest.fixture
def env(data_dir: Path) -> dict[str, str]:
    """Return it over a database that was just made."""
    env = web_environment(data_dir)
    manage("migrate", "--verbosity", "0", env=env)
    return env


def test_check_of_a_deployment_finds_nothing(env: dict[str, str]) -> None:
    assert "no issues" in manage(*DEPLOY, env=env)


def test_check_of_a_deployment_gone_wrong_finds_each(env: dict[str, str]) -> None:
    rule = "from accounts.models import AccessRule as R; R.objects.create(topic='>')"
    demo = "from accounts.demo import make_demo_accounts as make; make()"
    for code in (rule, demo):
        manage("shell", "-v", "0", "-c", code, env=env)
    wrong = {
        "SECRET_KEY": "secret",
        "JWT_KEY": "secret",
        "DEBUG": "true",
        "ALLOWED_HOSTS": "*",
        "ALLOWED_ORIGINS": "http://app.example.com",
        "EVENT_LOOP": "asyncio",
    }
    with pytest.raises(AssertionError) as failed:
        manage(*DEPLOY, env={**env, **wrong})
    assert set(re.findall(r"\((\w+\.[EWI]\d+)\)", str(failed.value))) == {
        *("security.W009", "security.W018"),
        *("realtime.W003", "realtime.W004", "realtime.W005"),
        *("accounts.E007", "accounts.W001", "accounts.W002"),
    }


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"REDIS_URL": ""}, "realtime.E006"),
        ({"ALLOWED_ORIGINS": "*"}, "realtime.E007"),
        ({"HTTPS": "false"}, "security.W012"),
    ],
    ids=str,
)
def test_check_of_a_setting_that_cannot_be_finds_it(
    env: dict[str, str], wrong: dict[str, str], found: str
) -> None:
    with pytest.raises(AssertionError, match=re.escape(found)):
        manage(*DEPLOY, env={**env, **wrong})
