"""The live page in admin, in front of two web processes: figures, connections, disconnecting."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from ..integration.support import ALICE, BOB
from ..support.client import TestClient
from ..support.gateways import Cluster
from ..support.processes import PROJECT, manage
from .conftest import UNHURRIED

PAGE = "/admin/realtime/gateway/"
LABEL = "document.querySelector('#live-charts figure > svg').getAttribute('aria-label')"
IMAGE = PROJECT / "docs" / "images" / "live.png"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Cluster]:
    """Run two web processes with a bridge and an auth worker."""
    cluster = Cluster(tmp_path_factory.mktemp("live") / "data", data_template, UNHURRIED)
    try:
        cluster.start(web=2, bridges=1, auth_workers=1, timeout=60)
        yield cluster
    finally:
        cluster.close()


class Clients:
    """Sockets of users, kept open by an event loop in a thread: Playwright has one in this one."""

    def __init__(self, site: Cluster) -> None:
        self.site = site
        self.loop = asyncio.new_event_loop()
        self.open: list[TestClient] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and return its result."""
        return self.begin(work).result(60)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Begin to run a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def connect(self, user: str, *topics: str, which: int = 0) -> TestClient:
        """Open a socket on a web process."""

        async def connect() -> TestClient:
            client = self.site.client(self.site.token(user), which)
            await client.__aenter__()
            for topic in topics:
                await client.ask("subscribe", "subscribed", topic=topic, timeout=30)
            return client

        self.open.append(self.run(connect()))
        return self.open[-1]

    def close(self) -> None:
        """Close every socket, and the loop."""
        for client in self.open:
            self.run(client.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


async def store(client: TestClient, topic: str) -> None:
    """Publish, and wait for the confirmation as long as a busy machine takes."""
    event = {"topic": topic, "messageId": uuid.uuid4().hex, "payload": "x"}
    await client.ask("publish", "ack", timeout=30, **event)


@pytest.fixture
def clients(site: Cluster) -> Iterator[Clients]:
    found = Clients(site)
    yield found
    found.close()


def log_in(site: Cluster, page: Page, user: str, path: str = PAGE) -> None:
    page.goto(f"{site.url()}/admin/login/?next={path}")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(user)
    page.get_by_role("button", name="Log in").click()


@pytest.fixture
def faults(page: Page) -> list[str]:
    """Return what goes wrong in the page: errors of scripts, what is forbidden, no answers."""
    found: list[str] = []

    def on_console(said: ConsoleMessage) -> None:
        if said.type == "error":
            found.append(said.text)

    page.on("console", on_console)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


@pytest.fixture
def live_page(site: Cluster, page: Page, faults: list[str]) -> Page:
    """Return the page as the admin sees it, once figures have come."""
    log_in(site, page, "admin")
    expect(page.locator("#live-state")).to_contain_text("Live: figures of 2 processes")
    return page


def rows(page: Page, user: str) -> Any:
    return page.locator("#live-connections tr").filter(has_text=user)


def figure(page: Page, key: str) -> Any:
    return page.locator(f'dd[data-key="{key}"]')


def test_page_shows_figures_of_all_processes_and_of_each(
    live_page: Page, clients: Clients, faults: list[str]
) -> None:
    page = live_page
    sender = clients.connect("alice", "room.live", which=0)
    clients.connect("bob", "room.live", which=1)
    clients.connect("bob", "room.live", which=1)
    expect(figure(page, "sessions")).to_have_text("4")

    async def publish() -> None:
        while True:
            await store(sender, "room.live")
            await asyncio.sleep(0.1)

    # Until it is seen: quantiles are taken over the last ten seconds.
    publishing = clients.begin(publish())
    expect(figure(page, "latency50")).to_have_text(re.compile(r"\d"))
    expect(figure(page, "lag99")).to_have_text(re.compile(r"\d"))
    page.wait_for_function(
        "document.querySelectorAll('#live-charts svg[role=img] path.line-0[d^=M]').length > 5"
    )
    publishing.cancel()
    label = page.locator("#live-charts svg[role=img]").first.get_attribute("aria-label") or ""
    assert re.match(r"Connections: at most [1-9]", label)
    processes = page.locator("#live-processes tr")
    expect(processes).to_have_count(2)
    sessions = [int(processes.nth(one).locator("td").nth(1).inner_text()) for one in (0, 1)]
    assert sorted(sessions) == [2, 2]
    expect(page.locator("#live-total td").nth(1)).to_have_text("4")
    # One of them alone.
    page.get_by_label("Of", exact=True).select_option(index=1)
    expect(figure(page, "sessions")).to_have_text("2")
    assert faults == []


def test_connections_are_shown_and_found_by_user(
    site: Cluster, live_page: Page, clients: Clients
) -> None:
    page = live_page
    clients.connect("alice", "room.one", "room.two", which=1)
    clients.connect("bob")
    row = rows(page, f"alice ({ALICE})")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("127.0.0.1")
    expect(row).to_contain_text("room.one, room.two")
    expect(row).to_contain_text(re.compile(r"\d s"))
    expect(rows(page, f"bob ({BOB})")).to_have_count(1)
    page.get_by_label("User").fill("alice")
    page.keyboard.press("Enter")
    expect(page.locator("#live-caption")).to_have_text("Open connections of alice: 1")
    expect(rows(page, "bob")).to_have_count(0)
    expect(row).to_have_count(1)
    page.get_by_role("button", name="Show the newest").click()
    expect(rows(page, "bob")).to_have_count(1)
    page.get_by_label("User").fill("nobody-at-all")
    page.keyboard.press("Enter")
    expect(page.locator("#live-told")).to_have_text("There is no user of that name or id.")


def test_disconnect_by_keyboard_closes_the_sockets_and_is_written_down(
    site: Cluster, live_page: Page, clients: Clients
) -> None:
    page = live_page
    here, there = clients.connect("bob"), clients.connect("bob", which=1)
    other = clients.connect("alice")
    expect(rows(page, "bob")).to_have_count(2)
    rows(page, "bob").first.get_by_role("button", name="Disconnect bob").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Close all sockets of bob")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    clients.run(other.ask("ping", "pong", timeout=30))
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Disconnect").press("Enter")
    expect(page.locator("#live-told")).to_contain_text("close the sockets of bob")
    for client in (here, there):
        clients.run(client.expect_close(4502, 30))
    expect(rows(page, "bob")).to_have_count(0)
    expect(page.locator("#live-caption")).to_be_focused()
    clients.run(other.ask("ping", "pong", timeout=30))
    page.goto(f"{site.url()}/admin/accounts/auditentry/")
    entry = page.locator("#result_list tbody tr").first
    for part in ("admin", "disconnected", "bob", "POST admin:realtime_gateway_disconnect"):
        expect(entry).to_contain_text(part)


def test_page_says_when_the_gateway_is_away_and_goes_on_after(
    site: Cluster, live_page: Page
) -> None:
    process = site.web[0]
    process.kill()
    state = live_page.locator("#live-state")
    expect(state).to_contain_text("Reconnecting")
    process.start()
    process.wait_http(f"{site.url()}/readyz", 60)
    # Its wait between two attempts may have grown to half a minute.
    expect(state).to_contain_text("Live: figures of", timeout=90_000)


@pytest.fixture
def staff(site: Cluster) -> Iterator[Callable[..., None]]:
    """Return a function that makes bob staff, with these permissions; undone after the test."""

    def make(*permissions: str, staff: bool = True) -> None:
        code = (
            "from django.contrib.auth.models import Permission, User;"
            " bob = User.objects.get(username='bob');"
            f" bob.is_staff = {staff}; bob.save();"
            f" bob.user_permissions.set(Permission.objects.filter(codename__in={permissions!r}))"
        )
        manage("shell", "-c", code, env=site.env)

    yield make
    make(staff=False)


def test_staff_without_the_permission_get_neither_page_nor_figures(
    site: Cluster, page: Page, clients: Clients, staff: Callable[..., None]
) -> None:
    staff("view_user")
    log_in(site, page, "bob", "/admin/")
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
    assert page.get_by_role("link", name="Live gateway").count() == 0
    for path in (PAGE, f"{PAGE}user/?user=alice"):
        assert page.request.get(f"{site.url()}{path}").status == 403
    socket = clients.connect("bob")
    for topic in ("gateway-stats.newest", f"gateway-stats.user.{ALICE}"):
        refused = clients.run(socket.error("subscribe", topic=topic, timeout=30))
        assert refused["code"] == "ACL_DENIED"


def test_permission_opens_the_page_without_disconnecting_and_its_loss_ends_it(
    site: Cluster, page: Page, clients: Clients, staff: Callable[..., None]
) -> None:
    staff("view_stats")
    log_in(site, page, "bob", "/admin/")
    page.get_by_role("link", name="Live gateway").first.click()
    expect(page.locator("#live-state")).to_contain_text("Live: figures of 2 processes")
    clients.connect("alice")
    expect(rows(page, "alice")).to_have_count(1)
    assert page.get_by_role("button", name="Disconnect").count() == 0
    token = page.locator("#live [name=csrfmiddlewaretoken]").input_value()
    answer = page.request.post(
        f"{site.url()}{PAGE}disconnect/",
        form={"user": ALICE},
        headers={"X-CSRFToken": token, "Referer": site.url()},
    )
    assert answer.status == 403
    staff("view_user")
    expect(page.locator("#live-state")).to_contain_text("ended your access")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_in_either_mode_and_for_the_documentation(
    site: Cluster, browser: Browser, clients: Clients, tmp_path: Path, scheme: str
) -> None:
    context: BrowserContext = browser.new_context(
        viewport={"width": 1280, "height": 1000}, color_scheme=scheme, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        log_in(site, page, "admin")
        page.wait_for_selector("#live-charts figure")
        sender = clients.connect("alice", "room.lobby", which=0)
        clients.connect("bob", "room.lobby", "room.kitchen", which=1)

        async def publish() -> None:
            for _ in range(random.randint(5, 100)):
                await store(sender, "room.lobby")

        # For a picture in the documentation there has to be something in the charts.
        for _ in range(40 if os.environ.get("SCREENSHOTS") else 3):
            clients.run(publish())
            before = page.evaluate(LABEL)
            page.wait_for_function(f"(before) => {LABEL} !== before", arg=before)
        expect(rows(page, "bob")).to_have_count(1)
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('path.line-0')).stroke]"
        )
        assert (
            colours
            == {
                "light": ["rgb(255, 255, 255)", "rgb(11, 107, 203)"],
                "dark": ["rgb(18, 18, 18)", "rgb(108, 182, 255)"],
            }[scheme]
        )
        shot = tmp_path / "live.png"
        page.screenshot(path=shot, full_page=True)
        assert shot.stat().st_size > 20_000
        if scheme == "light" and os.environ.get("SCREENSHOTS"):
            shutil.copy(shot, IMAGE)
    finally:
        context.close()
