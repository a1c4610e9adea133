"""docs/integrate.md: `realtime` in a project that is not this one, by the page's commands."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from realtime.embedded import NatsServer
from realtime.testing.client import RealtimeClient

from ..browser.conftest import mark_all_read
from ..support.ports import free_port
from ..support.processes import ChildProcess
from ..support.waiting import wait_until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOC = (ROOT / "docs" / "integrate.md").read_text(encoding="utf-8")
MAKE = 'from shop.models import Customer; print("id", Customer.objects.create(email="{}").pk)'
HOLDS_WORK = ("worker.py", "manage.py auth_worker", "manage.py serve")


def commands(heading: str) -> list[str]:
    """Return the page's Python commands below a heading, in order."""
    below = DOC.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    block = re.findall(r"```sh\n(.*?)```", below, re.DOTALL)[0]
    return [line.removeprefix("python ") for line in block.splitlines() if "python " in line]


class OwnProject:
    """A copy of the project with `realtime` copied into it: nothing else of ours is there."""

    def __init__(self, directory: Path, nats_url: str, settings: str, apps: list[str]) -> None:
        self.directory = shutil.copytree(HERE / "mysite", directory)
        for app in apps:
            shutil.copytree(ROOT / app, directory / app)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            "NATS_URL": nats_url,
            "PORT": str(self.port),
            "DJANGO_SETTINGS_MODULE": settings,
            "PYTHONPATH": "",
        }
        self.processes: list[ChildProcess] = []

    def start(self, *args: str) -> ChildProcess:
        """Start `python ARGS` in the project."""
        log = self.directory / f"{len(self.processes)}.log"
        process = ChildProcess([sys.executable, *args], env=self.env, cwd=self.directory, log=log)
        self.processes.append(process)
        process.start()
        return process

    def run(self, *args: str) -> str:
        """Run `python ARGS` to its end and return what it wrote."""
        process = self.start(*args)
        assert process.wait(120) == 0, process.text()
        return process.text()

    def follow(self, lines: list[str]) -> None:
        """Do what the page says; what stays is waited for."""
        for line in lines:
            if not line.startswith(HOLDS_WORK):
                self.run(*line.split())
                continue
            process = self.start(*line.split())
            if line.startswith("manage.py serve"):
                process.wait_for_line("Serving on", 60)

    def customer(self, email: str) -> str:
        """Make a customer and return the id."""
        found = re.search(r"id ([\w-]+)", self.run("manage.py", "shell", "-c", MAKE.format(email)))
        assert found is not None
        return found[1]


@pytest.fixture(params=["alone", "with accounts"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, nats_server: NatsServer
) -> Iterator[OwnProject]:
    """Run the project, with a worker of its own or with that of `accounts`."""
    alone = request.param == "alone"
    site = OwnProject(
        tmp_path / "mysite",
        nats_server.url,
        "mysite.settings" if alone else "mysite.settings_accounts",
        ["realtime"] if alone else ["realtime", "accounts"],
    )
    try:
        site.follow(commands("Run it" if alone else "With `accounts`"))
        yield site
    finally:
        for process in site.processes:
            process.kill()


def test_view_of_theirs_notifies_a_page_of_theirs(project: OwnProject, page: Page) -> None:
    ann = project.customer("ann@example.com")
    page.goto(f"{project.url}/enter/?email=ann@example.com")
    items = page.locator("#list li")
    with page.expect_response("**/buy/"):
        page.get_by_role("button", name="Buy").click()
    page.goto(f"{project.url}/")
    expect(items).to_have_text(["Tea is on its way"])  # from the stream, by the template tag
    project.run("manage.py", "notify", ann, '{"title": "Live"}')
    expect(items).to_have_text(["Live", "Tea is on its way"])
    page.goto(f"{project.url}/bell/")
    badge = page.locator(".rt-bell-badge")
    expect(badge).to_have_text("2")
    page.locator(".rt-bell-button").click()
    mark_all_read(page)
    expect(badge).to_be_hidden()
    page.reload()
    expect(page.locator(".rt-bell")).to_be_visible()
    expect(badge).to_be_hidden()


def test_stranger_is_not_let_in_and_error_pages_are_theirs(project: OwnProject, page: Page) -> None:
    answer = page.request.get(f"{project.url}/nothing-here")
    assert answer.status == 404
    assert "Realtime gateway" not in answer.text()

    def refused() -> bool:
        # In a thread, for Playwright keeps a loop running in this one.
        with ThreadPoolExecutor(1) as pool:
            said = pool.submit(asyncio.run, refusal(project.url)).result(120)
        assert "AUTH_" in said
        return "AUTH_FAILED" in said  # until its worker listens, it is AUTH_UNAVAILABLE

    wait_until(refused, 60, what="a denial by the auth worker")


async def refusal(url: str) -> str:
    """Return why a socket with a made-up cookie is not let in."""
    cookie = {"Cookie": "sessionid=made-up"}
    address = f"{url.replace('http', 'ws', 1)}/ws/"
    client = RealtimeClient(address, headers=cookie, origin=url, timeout=30)
    with pytest.raises(AssertionError) as caught:
        async with client:
            pass
    return str(caught.value)


def test_tests_of_theirs_run_with_the_plugin(tmp_path: Path) -> None:
    site = OwnProject(tmp_path / "mysite", "nats://127.0.0.1:1", "mysite.settings", ["realtime"])
    site.run("manage.py", "makemigrations", "shop")
    said = site.run("-m", "pytest", "test_shop.py", "-c", "/dev/null", "--rootdir", ".")
    assert "2 passed" in said


@pytest.mark.parametrize(
    "name",
    [
        "mysite/asgi.py",
        "shop/views.py",
        "shop/templates/shop/orders.html",
        "shop/static/shop/orders.js",
        "worker.py",
    ],
)
def test_file_on_the_page_is_the_tested_one(name: str) -> None:
    assert (HERE / "mysite" / name).read_text(encoding="utf-8") in DOC


def test_settings_on_the_page_are_the_tested_ones() -> None:
    below = DOC.partition("## Settings\n")[2].partition("\n## ")[0]
    shown = re.findall(r"```python\n(.*?)```", below, re.DOTALL)[0]
    tested = (HERE / "mysite" / "mysite" / "settings.py").read_text(encoding="utf-8")
    for part in shown.split("\n\n"):
        assert part.strip() in tested
