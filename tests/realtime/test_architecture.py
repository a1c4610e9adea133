"""The floors of the house: imports point down, and each boundary has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("realtime", "accounts", "gateway_project")

# Floors 0 to 2 by name; what is not named is Django glue, floor 3.
PROTOCOL = "realtime.protocol"
FLOOR_1 = {"broker", "nats_client", "request_reply"}
MAY_IMPORT_NATS = {"realtime.broker", "realtime.nats_client"}
FLOOR_2 = {
    "admission",
    "authentication",
    "authorization",
    "bridge",
    "compression",
    "connection",
    "control",
    "delivery",
    "fanout",
    "feed",
    "history",
    "holders",
    "layers",
    "lifecycle",
    "metrics",
    "patterns",
    "peer",
    "positions",
    "presence",
    "reauthorization",
    "redis_shard",
    "repair",
    "rosters",
    "selfcheck",
    "services",
    "snapshot",
    "socketio_server",
    "socketio_session",
    "socketio_socket",
    "sockets",
    "starts",
    "subscriptions",
    "timers",
    "tools",
    "tops",
    "upstream",
    "watchers",
    "watch",
    "weak",
}
# Children and sockets of this machine, by the standard library alone, and traces: they stand
# beside floor 1.
STANDALONE = {"embedded", "supervisor", "tracing"}
# The other side of the wire, for any Python program: it uses floor 0, and no floor uses it.
CLIENT = {"client"}
GLUE = 3
ROOF = 4

WEB = {"django", "channels", "channels_redis", "rest_framework", "daphne", "twisted", "autobahn"}
MAY_IMPORT_CHANNELS = {"realtime.bridge", "realtime.layers", "realtime.redis_shard"}


def modules() -> dict[str, Path]:
    """Return every module of the project by its dotted name."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path in (PROJECT / package).rglob("*.py"):
            parts = path.relative_to(PROJECT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


MODULES = modules()


def floor(module: str) -> int:
    """Return the floor of a module of the project."""
    package, _, rest = module.partition(".")
    if package == "gateway_project":
        return ROOF
    if package == "accounts":
        return GLUE
    if module == "realtime" or module.startswith(PROTOCOL):
        return 0
    name = rest.partition(".")[0]
    if name in FLOOR_1 | STANDALONE | CLIENT:
        return 1
    return 2 if name in FLOOR_2 else GLUE


def imports(module: str, *, everywhere: bool = False) -> Iterator[str]:
    """Yield what a module imports when it is loaded, `everywhere`: also within functions."""
    tree = ast.parse(MODULES[module].read_text())
    inside = ast.walk(tree) if everywhere else _at_load(tree)
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in inside:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                dotted = f"{base}.{alias.name}"
                yield dotted if dotted in MODULES else base


def _at_load(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is loaded; what is for type checkers does not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _at_load(node)


def own(names: Iterator[str]) -> set[str]:
    """Return those that are modules of the project."""
    return {name for name in names if name in MODULES}


def test_modules_are_found() -> None:
    """The rest proves nothing about what it does not see."""
    assert {"realtime.protocol.chain", "realtime.fanout", "accounts.worker"} <= set(MODULES)
    assert "realtime.protocol.exceptions" in own(imports("realtime.broker"))
    assert "nats" in set(imports("realtime.broker"))
    assert {f"realtime.{name}" for name in FLOOR_1 | FLOOR_2 | STANDALONE} <= set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    above = {other for other in own(imports(module)) if floor(other) > floor(module)}
    assert not above


@pytest.mark.parametrize("module", sorted(name for name in MODULES if floor(name) <= 2))
def test_imports_of_lower_floors_point_down_within_functions_too(module: str) -> None:
    above = {o for o in own(imports(module, everywhere=True)) if floor(o) > floor(module)}
    assert not above


def test_imports_make_no_circle() -> None:
    graph = {name: own(imports(name)) - {name} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, (*path, name))
        done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("module", sorted(n for n in MODULES if n.startswith("realtime")))
def test_realtime_knows_neither_accounts_nor_the_project(module: str) -> None:
    for other in imports(module, everywhere=True):
        assert other.partition(".")[0] not in ("accounts", "gateway_project", "tests")


@pytest.mark.parametrize("module", sorted(set(MODULES) - MAY_IMPORT_NATS))
def test_only_the_broker_speaks_to_nats(module: str) -> None:
    for other in imports(module, everywhere=True):
        assert other.partition(".")[0] != "nats"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if floor(name) <= 2))
def test_lower_floors_know_no_web_framework(module: str) -> None:
    found = {other.partition(".")[0] for other in imports(module, everywhere=True)} & WEB
    if module in MAY_IMPORT_CHANNELS:
        found -= {"channels", "channels_redis"}
    assert not found


@pytest.mark.parametrize("module", sorted(n for n in MODULES if n.startswith("realtime.client")))
def test_client_needs_websockets_and_the_exceptions_only(module: str) -> None:
    """So that a program without the gateway's requirements can use it."""
    found = set(imports(module, everywhere=True))
    foreign = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names)
    assert foreign <= {"websockets", "realtime"}
    others = {name for name in own(iter(found)) if not name.startswith("realtime.client")}
    assert others <= {"realtime.protocol.exceptions"}


@pytest.mark.parametrize("module", sorted(n for n in MODULES if n.startswith(PROTOCOL)))
def test_protocol_does_no_io(module: str) -> None:
    """No clock of its own either: time comes in as an argument."""
    doors = {"asyncio", "socket", "threading", "time", "os", "pathlib", "subprocess", "redis"}
    assert not {other.partition(".")[0] for other in imports(module, everywhere=True)} & doors


_BLOCKED = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
for name in {names!r}:
    importlib.import_module(name)
print("loaded", len({names!r}))
"""


@pytest.mark.parametrize("highest", [0, 2])
def test_lower_floors_load_without_django(highest: int) -> None:
    names = sorted(name for name in MODULES if floor(name) <= highest)
    blocked = {"django"} | ({"nats", "channels", "redis", "twisted"} if highest == 0 else set())
    if highest:
        # Channels itself imports Django.
        names = [name for name in names if not _needs_channels(name)]
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKED.format(blocked=blocked, names=names)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"loaded {len(names)}"
    assert len(names) > 5


def _needs_channels(module: str) -> bool:
    needed, new = {module}, {module}
    while new:
        new = set().union(*(own(imports(one)) for one in new)) - needed
        needed |= new
    return not needed.isdisjoint(MAY_IMPORT_CHANNELS)
