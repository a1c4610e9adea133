"""The browser client as an npm package: what is in it, its types, and the packed module in Node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "realtime" / "static" / "realtime"
HERE = Path(__file__).resolve().parent
NAME = "realtime-gateway-client"
PACKAGE = json.loads((SOURCE / "package.json").read_text())
TYPES = (SOURCE / "client.d.ts").read_text()

NODE, NPM, TSC = (shutil.which(name) for name in ("node", "npm", "tsc"))


def run(*argv: str, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def node_version() -> int:
    if NODE is None:
        return 0
    return int(run(NODE, "--version", cwd=ROOT).lstrip("v").partition(".")[0])


needs_node = pytest.mark.skipif(node_version() < 20, reason="needs Node 20 or later")
needs_npm = pytest.mark.skipif(NPM is None, reason="needs npm")
needs_tsc = pytest.mark.skipif(TSC is None, reason="needs tsc: npm install -g typescript")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of a Node program into which the packed client was installed."""
    directory = tmp_path_factory.mktemp("node")
    assert NPM is not None
    run(NPM, "pack", str(SOURCE), "--pack-destination", str(directory), cwd=directory)
    (archive,) = directory.glob("*.tgz")
    shutil.unpack_archive(archive, directory / "unpacked")
    modules = directory / "node_modules"
    modules.mkdir()
    (directory / "unpacked" / "package").rename(modules / NAME)
    (directory / "package.json").write_text('{"type": "module"}')
    return directory


def imported(name: str, seen: set[str]) -> set[str]:
    """Return a module and what it imports, directly or not."""
    seen.add(name)
    text = (SOURCE / name).read_text()
    for other in re.findall(r'^(?:import|export) .*?from "\./([\w-]+\.js)"', text, re.M | re.S):
        if other not in seen:
            imported(other, seen)
    return seen


def test_package_lists_just_the_modules_that_the_client_needs():
    assert set(PACKAGE["files"]) == imported("client.js", set()) | {"client.d.ts"}


def test_package_has_the_version_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert PACKAGE["version"] == project["version"]


@needs_npm
def test_packed_archive_holds_what_is_listed(project):
    files = {path.name for path in (project / "node_modules" / NAME).iterdir()}
    assert files == {*PACKAGE["files"], "package.json", "README.md"}


@needs_node
def test_types_declare_just_what_the_module_has():
    script = f"""
        const module = await import({json.dumps((SOURCE / "client.js").as_uri())});
        const {{ DEFAULTS }} = await import({json.dumps((SOURCE / "options.js").as_uri())});
        console.log(JSON.stringify({{
            exports: Object.keys(module),
            members: Object.getOwnPropertyNames(module.GatewayClient.prototype),
            options: Object.keys(DEFAULTS),
            codes: Object.keys(module.CloseCode),
        }}));"""
    assert NODE is not None
    code = json.loads(run(NODE, "--input-type=module", "-e", script, cwd=ROOT))
    exports = re.findall(r"^export (?:class|const|function) (\w+)", TYPES, re.M)
    assert set(exports) == set(code["exports"])
    body = TYPES.partition("export class GatewayClient")[2]
    members = set(re.findall(r"^  (?:get )?(\w+)[(<]", body, re.M))
    assert members - {"addEventListener", "removeEventListener"} == set(code["members"])
    options = TYPES.partition("interface ClientOptions")[2].partition("\n}")[0]
    assert set(code["options"]) <= set(re.findall(r"^  (\w+)\?:", options, re.M))
    assert set(code["codes"]) == set(re.findall(r'\| "(\w+)"', TYPES.partition("CloseCode")[2]))


@needs_npm
@needs_tsc
def test_types_hold_for_a_typescript_program(project):
    shutil.copy(HERE / "types.test-d.ts", project / "program.ts")
    options = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2022"]
    assert TSC is not None
    run(TSC, *options, "--lib", "es2022,dom", "program.ts", cwd=project)


@needs_npm
@needs_node
def test_packed_module_runs_in_node_on_a_real_gateway(project, live):
    shutil.copy(HERE / "run_packed.mjs", project / "run.mjs")
    flags = ["--experimental-websocket"] if node_version() < 22 else []
    arguments = [live.ws_url(), live.token("alice"), f"room.{uuid.uuid4().hex}"]
    assert NODE is not None
    said = json.loads(run(NODE, *flags, "run.mjs", *arguments, cwd=project).splitlines()[-1])
    assert "hand one in as { WebSocket }" in said.pop("missing")
    assert said == {
        "states": ["connecting", "open", "closed"],
        "got": [1, {"two": 2}, [3]],
        "status": ["ok", "duplicate"],
        "refused": [True, "ACL_DENIED"],
        "history": [1, {"two": 2}, [3]],
        "denied": 4500,
    }
