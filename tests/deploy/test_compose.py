"""docker-compose.yml and what goes with it, read as text: no engine is needed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from realtime.embedded import find_binary

from .nats_server import NATS, environment

ROOT = Path(__file__).parents[2]
OVERRIDES = ("deploy/compose.https.yml", "deploy/nats/cluster/compose.yml")
FILES = ("docker-compose.yml", *OVERRIDES)
ENVIRONMENT = (ROOT / "deploy" / "env.example").read_text()
VARIABLE = re.compile(r"\$\{(\w+)")
# Who logs in to NATS as whom.
NATS_USERS = {
    "web1": "gateway",
    "web2": "gateway",
    "bridge": "bridge",
    "auth": "auth",
    "outbox": "backend",
}


def services(file: str = "docker-compose.yml") -> dict[str, dict[str, Any]]:
    """Return the services of a compose file."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / file).read_text())["services"]
    return found


def made_env() -> str:
    """Return what deploy/make_env.py prints."""
    spec = importlib.util.spec_from_file_location("make_env", ROOT / "deploy" / "make_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    filled: str = module.fill(ENVIRONMENT)
    return filled


def test_ports_are_published_by_the_proxy_only() -> None:
    assert [name for name, service in services().items() if "ports" in service] == ["proxy"]


def test_services_are_inside_and_only_the_proxy_is_outside_too() -> None:
    networks = {name: service["networks"] for name, service in services().items()}
    assert networks.pop("proxy") == ["outside", "inside"]
    assert set(map(tuple, networks.values())) == {("inside",)}


def test_services_restart_but_for_the_migration() -> None:
    assert {
        name: service["restart"]
        for name, service in services().items()
        if service["restart"] != "unless-stopped"
    } == {"migrate": "no"}


def test_services_are_waited_for_until_healthy_or_done() -> None:
    all_services = services()
    for service in all_services.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in all_services[needed]["healthcheck"]
            else:
                assert (needed, how["condition"]) == ("migrate", "service_completed_successfully")


@pytest.mark.parametrize("name", ["web1", "web2", "bridge", "auth", "outbox", "migrate"])
def test_service_of_the_project_holds_few_rights_and_has_time_to_drain(name: str) -> None:
    service = services()[name]
    assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == "30s"


@pytest.mark.parametrize(("name", "user"), NATS_USERS.items())
def test_service_logs_in_to_nats_as_its_own_user_with_its_own_inbox(name: str, user: str) -> None:
    variables = services()[name]["environment"]
    assert variables["NATS_URL"].startswith(f"nats://{user}:${{NATS_{user.upper()}_PASSWORD:?")
    assert variables["NATS_INBOX_PREFIX"] == f"_INBOX_{user}"


def test_secrets_reach_the_services_that_need_them_only() -> None:
    holders: dict[str, set[str]] = {}
    for name, service in services().items():
        for variable in VARIABLE.findall(str(service.get("environment", {}))):
            if variable.endswith(("_KEY", "_PASSWORD", "_TOKEN")):
                holders.setdefault(variable, set()).add(name)
    django = {"web1", "web2", "auth", "outbox", "migrate"}
    assert holders == {
        "SECRET_KEY": django,
        "JWT_KEY": django,
        "POSTGRES_PASSWORD": django | {"postgres"},
        "METRICS_TOKEN": {"web1", "web2"},
        "REDIS_PASSWORD": {"web1", "web2", "bridge", "redis"},
        "NATS_GATEWAY_PASSWORD": {"web1", "web2", "nats"},
        "NATS_BRIDGE_PASSWORD": {"bridge", "nats"},
        "NATS_AUTH_PASSWORD": {"auth", "nats"},
        "NATS_BACKEND_PASSWORD": {"outbox", "nats"},
        "NATS_ADMIN_PASSWORD": {"nats"},
        "NATS_SYS_PASSWORD": {"nats"},
    }


@pytest.mark.parametrize("file", FILES)
def test_variables_are_in_the_example(file: str) -> None:
    known = set(re.findall(r"^#?(\w+)=", ENVIRONMENT, re.MULTILINE))
    assert set(VARIABLE.findall((ROOT / file).read_text())) <= known


@pytest.mark.parametrize("file", FILES)
def test_files_that_are_mounted_exist(file: str) -> None:
    for service in services(file).values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                assert (ROOT / volume.partition(":")[0]).exists()


@pytest.mark.parametrize("file", FILES)
def test_images_of_others_have_a_version(file: str) -> None:
    images = {service["image"] for service in services(file).values() if "image" in service}
    for image in images - {"gateway:${GATEWAY_VERSION:-local}"}:
        assert re.fullmatch(r"[a-z]+:\d+(\.\d+)*-alpine", image)


def test_image_runs_as_a_numbered_user_and_holds_nothing_but_the_project() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE) == ["10001:10001"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    wanted = {line[1:] for line in ignored if line.startswith("!")}
    assert wanted == {"manage.py", "requirements.txt", "accounts", "gateway_project", "realtime"}


def test_made_environment_has_every_secret_and_no_two_alike() -> None:
    values = re.findall(r"^\w+_(?:KEY|PASSWORD|TOKEN)=(.*)$", made_env(), re.MULTILINE)
    assert len(set(values)) == len(values) == 12
    assert all(re.fullmatch(r"[a-z][a-z0-9]{50}", value) for value in values)


def test_made_passwords_are_read_by_nats_as_they_are(tmp_path: Path) -> None:
    for _ in range(20):
        made = dict(line.split("=", 1) for line in made_env().splitlines() if "_PASSWORD=" in line)
        done = subprocess.run(
            [find_binary(), "-t", "-c", str(NATS / "nats.conf")],
            env=environment(tmp_path) | made,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_nats_without_a_password_in_the_environment_does_not_start(tmp_path: Path) -> None:
    env = environment(tmp_path)
    del env["NATS_BRIDGE_PASSWORD"]
    done = subprocess.run(
        [find_binary(), "-t", "-c", str(NATS / "nats.conf")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "NATS_BRIDGE_PASSWORD" in done.stderr


@pytest.mark.parametrize("override", ["", *OVERRIDES])
def test_compose_accepts_the_files(tmp_path: Path, override: str) -> None:
    compose = ["docker", "compose"]
    if (
        shutil.which("docker") is None
        or subprocess.run([*compose, "version"], capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("docker compose is not installed")
    env_file = tmp_path / "env"
    env_file.write_text(made_env() + f"\nCERTIFICATES={tmp_path}\n")
    files = [part for file in ("docker-compose.yml", override) if file for part in ("-f", file)]
    done = subprocess.run(
        [*compose, "--env-file", str(env_file), *files, "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
