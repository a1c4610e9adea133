"""The README's way from `make run` to a view of one's own, step by step as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from ..support.ports import free_port
from ..support.processes import ChildProcess

ROOT = Path(__file__).resolve().parents[2]
STEPS = (
    (ROOT / "README.md")
    .read_text(encoding="utf-8")
    .partition("\n## From `make run` to your own view\n")[2]
    .partition("\n### ")[0]
)
COMMANDS = re.findall(r"^\.venv/bin/python (manage\.py .+)$", STEPS, re.MULTILINE)


class Newcomer:
    """Somebody with a fresh copy of this repository who does what the README says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("accounts", "gateway_project", "realtime"):
            shutil.copytree(ROOT / name, directory / name)
        shutil.copy(ROOT / "manage.py", directory)
        self.port = free_port()
        self.env = {"DATA_DIR": "", "NATS_URL": "", "REDIS_URL": "", "DATABASE_URL": ""}
        self.env |= {"PYTHONPATH": "", "NATS_PORT": str(free_port()), "PORT": str(self.port)}
        self.processes: list[ChildProcess] = []

    def start(self, *args: str) -> ChildProcess:
        """Start `python ARGS`."""
        log = self.directory / f"{len(self.processes)}.log"
        argv = [sys.executable, *args]
        process = ChildProcess(argv, env=self.env, cwd=self.directory, log=log)
        self.processes.append(process)
        process.start()
        return process

    def run(self, *args: str) -> None:
        """Run `python ARGS` to its end."""
        process = self.start(*args)
        assert process.wait(120) == 0, process.text()

    def write(self, name: str) -> None:
        """Write a file as the README has it."""
        shown = re.search(rf"^`{name}`[^\n]*:\n\n```\w+\n(.*?)```", STEPS, re.DOTALL | re.MULTILINE)
        assert shown is not None, f"the README does not show {name}"
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown[1])

    def insert(self, name: str, below: str, lines: str) -> None:
        """Add lines to a file that is there."""
        path = self.directory / name
        text = path.read_text()
        assert text.count(below) == 1
        path.write_text(text.replace(below, below + lines))


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """Follow the README up to the last `make run`."""
    someone = Newcomer(tmp_path / "copy")
    try:
        start_app, migrate, _ = COMMANDS
        someone.run(*start_app.split())
        someone.insert("gateway_project/settings.py", "INSTALLED_APPS = [\n", '    "shop",\n')
        for name in (
            "models.py",
            "views.py",
            "templates/shop/orders.html",
            "static/shop/orders.js",
        ):
            someone.write(f"shop/{name}")
        imported = re.search(r"with `(from shop .+)` at the top", STEPS)
        routes = re.search(r"urlpatterns = \[\n(.*?)    # \.\.\.", STEPS, re.DOTALL)
        assert imported is not None
        assert routes is not None
        urls = "gateway_project/urls.py"
        someone.insert(urls, "from realtime.api import urls as api\n", f"{imported[1]}\n")
        someone.insert(urls, "\nurlpatterns = [\n", routes[1])
        someone.run(*migrate.split())
        serving = someone.start("manage.py", "gateway", "--demo")  # what `make run` does
        serving.wait_for_line(f"http://127.0.0.1:{someone.port}", 120)
        yield someone
    finally:
        for process in someone.processes:
            process.kill()


def test_view_of_the_readme_notifies_its_page(newcomer: Newcomer, context: BrowserContext) -> None:
    orders = f"http://127.0.0.1:{newcomer.port}/orders/"
    page = context.new_page()
    page.goto(orders)
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill("alice")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Buy")).to_be_visible()
    other = context.new_page()
    other.goto(orders)
    page.get_by_role("button", name="Buy").click()
    expect(other.locator("#list li")).to_have_text(["Order 1 is in"])
    expect(page.locator("#list li")).to_have_text(["Order 1 is in"])
    newcomer.run(*shlex.split(COMMANDS[2]))
    expect(page.locator("#list li")).to_have_text(["Hello", "Order 1 is in"])
