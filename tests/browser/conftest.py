"""Fixtures for the browser: Chromium, a page on the fake gateway, and the real gateway."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Route,
    WebSocketRoute,
    expect,
    sync_playwright,
)

from ..support.gateways import Gateway
from ..support.processes import manage
from .fake_gateway import FakeGateway

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page that a test serves by itself counts as one from the internet otherwise.
    "--disable-features=LocalNetworkAccessChecks",
]
LOOK = """() => {
    const wrong = [];
    if (document.documentElement.scrollWidth > innerWidth) wrong.push("wider than the window");
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgb = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ground = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const color = rgb(getComputedStyle(e).backgroundColor);
            if (color[3] === 255) return color;
        }
        return [255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const text = walker.currentNode.textContent.trim();
        const unseen = "svg, noscript, script, .visually-hidden, .skip-link, [aria-disabled=true]";
        if (!text || element.closest(unseen) || !element.checkVisibility()) continue;
        const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) wrong.push(`${text}: ${ratio.toFixed(2)}`);
    }
    return wrong;
}"""
"""What makes a page hard to read: wider than the window, contrast below WCAG 2.2 AA (1.4.3)."""
PATIENCE = 30_000
"""How long (ms) a page may take: on a busy machine it may wait for a process that starts."""
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Run Chromium.

    It ends with this package: Playwright keeps an event loop running in the thread, which
    Django's synchronous tests elsewhere could not be run beside.
    """
    if not Path(CHROMIUM).exists() and not os.environ.get("CI"):
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium, or set CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Open a profile of its own."""
    context = browser.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """Open a page whose script errors fail the test."""
    return context.new_page()


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    """Run a scripted gateway."""
    gateway = FakeGateway()
    yield gateway
    gateway.close()


# Modules


@pytest.fixture(scope="package")
def modules_page(browser: Browser) -> Iterator[Page]:
    """Open one page for all tests of modules: they keep nothing."""
    gateway = FakeGateway()
    context = browser.new_context()
    page = context.new_page()
    page.goto(gateway.url)
    yield page
    context.close()
    gateway.close()


@pytest.fixture
def module(modules_page: Page) -> Callable[..., Any]:
    """Return a function that runs JavaScript on a module `m`, in a page, with an `arg`."""
    modules_page.evaluate("sessionStorage.clear()")

    def run(name: str, body: str, arg: Any = None) -> Any:
        source = f"""async (arg) => {{
            const m = await import("/static/realtime/{name}.js");
            {body}
        }}"""
        return modules_page.evaluate(source, arg)

    return run


# The client

WAITS = ("connectTimeout", "replyTimeout", "replayTimeout", "heartbeatGrace", "probeTimeout")
START = """async (options) => {
    const { GatewayClient } = await import("/static/realtime/client.js");
    const { random, tokens, ...rest } = options;
    if (random !== undefined) rest.backoff = { ...rest.backoff, random: () => random };
    if (tokens !== undefined) rest.token = () => tokens.shift();
    const plain = (detail) => detail instanceof Error
        ? { code: detail.code, message: detail.message, topic: detail.topic }
        : detail;
    window.log = [];
    window.client = new GatewayClient(rest);
    const types = [
        "statechange", "message", "gap", "reset", "unsubscribed", "expiring", "error",
    ];
    for (const type of types)
        client.addEventListener(type, ({ detail }) => log.push({ type, ...plain(detail) }));
    window.track = (name, promise) => promise.then(
        (value) => log.push({ type: "done", name, value }),
        (error) => log.push({ type: "failed", name, ...plain(error) }),
    );
    client.connect();
}"""


class ClientPage:
    """A page with a client on it, and the log of what the client said."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def start(self, **options: Any) -> None:
        """Make a client and connect; it waits longer than any test unless the test says so."""
        waits = dict.fromkeys(WAITS, 60_000)
        self.page.evaluate(START, {"storage": None, "random": 0, **waits, **options})

    def stop_clock(self) -> None:
        """Load the page again, with a clock that moves by `let_pass` only."""
        self.page.clock.install(time=0)
        self.page.reload()
        self.page.clock.pause_at(60)

    def let_pass(self, ms: int) -> None:
        """Move the page's clock; what falls due happens."""
        self.page.clock.run_for(ms)

    def call(self, name: str, expression: str) -> None:
        """Start something on `client`; its outcome is logged under a name."""
        self.page.evaluate(f"() => {{ track({json.dumps(name)}, {expression}); }}")

    def run(self, body: str) -> Any:
        """Run JavaScript."""
        return self.page.evaluate(body)

    def log(self, *types: str) -> list[dict[str, Any]]:
        """Return what was logged, of these types."""
        log = self.page.evaluate("log")
        return [entry for entry in log if not types or entry["type"] in types]

    def states(self) -> list[str]:
        """Return the names of the states, in order."""
        return [entry["name"] for entry in self.log("statechange")]

    def messages(self) -> list[int]:
        """Return the data of the messages, in order."""
        return [entry["data"] for entry in self.log("message")]

    def wait(self, type_: str, **fields: Any) -> dict[str, Any]:
        """Wait until something was logged and return it."""
        found = self.page.wait_for_function(
            """([type, fields]) => log.find((entry) => entry.type === type
                && Object.entries(fields).every(([key, value]) => entry[key] === value))""",
            arg=[type_, fields],
        )
        return found.json_value()

    def wait_state(self, name: str) -> None:
        """Wait until the client is in a state."""
        self.page.wait_for_function("(name) => client.state.name === name", arg=name)

    def wait_messages(self, *data: Any) -> None:
        """Wait for as many messages, which have to be these, in this order."""
        self.page.wait_for_function(
            "(n) => log.filter((entry) => entry.type === 'message').length >= n", arg=len(data)
        )
        assert self.messages() == list(data)


@pytest.fixture
def client(page: Page, fake: FakeGateway) -> ClientPage:
    """Return a page on which a client can be started."""
    page.goto(fake.url)
    return ClientPage(page)


# The real gateway

# As long as a page waits: a worker that a busy machine holds up is not one that is away.
UNHURRIED = {
    "REALTIME_AUTH_TIMEOUT": "30",
    "REALTIME_AUTH_DEADLINE": "60",
    "REALTIME_STORE_TIMEOUT": "30",
}


class Live(Gateway):
    """`manage.py gateway --demo` on ports and data of its own."""

    def notify(self, user: str, message: str) -> None:
        """Do what an operator does."""
        manage("notify", user, message, env=self.env)

    def kill(self) -> None:
        """Kill it with SIGKILL, its nats-server included (the kernel sees to that)."""
        self.processes[-1].kill()

    def restart(self) -> None:
        """Start it again on the same ports and data."""
        self.start(60)

    def log_in(self, page: Page, user: str, *, connected: bool = True) -> None:
        """Log in through the form, and wait until the notifications page is live (or not)."""
        page.goto(f"{self.url()}/login/?next=/notifications/")
        page.get_by_label("Username").fill(user)
        page.get_by_label("Password").fill(user)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{self.url()}/notifications/")
        if connected:
            expect(page.locator("#state")).to_contain_text("Connected")


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory, data_template: Path) -> Iterator[Live]:
    """Run the real gateway for the tests of this package; each finds it alive."""
    site = Live(tmp_path_factory.mktemp("live") / "data", data_template, UNHURRIED)
    try:
        site.start(60)
        yield site
    finally:
        site.close()


@pytest.fixture
def alice(live: Live, page: Page) -> Page:
    """Return a page on which alice sees her notifications."""
    live.log_in(page, "alice")
    return page


class Script:
    """A gateway that the page meets instead of the real one (Playwright's routed sockets).

    Attributes:
        history: what is stored, oldest first: (sequence, data).
        sockets: those that the page opened.
        marks: what the page marked as read, as it was posted.
        refusal: what a `publish` is refused with; None: it is confirmed.
        latest: what the page brings; None: nothing, as when the stream is away.
    """

    def __init__(self, page: Page, user_id: str) -> None:
        self.page = page
        self.topic = f"user.{user_id}.notifications"
        self.user_id = user_id
        self.history: list[tuple[int, Any]] = []
        self.sockets: list[WebSocketRoute] = []
        self.refusing = False
        self.frames: list[dict[str, Any]] = []
        self.marks: list[dict[str, Any]] = []
        self.refusal: dict[str, Any] | None = None
        self.latest: dict[str, Any] | None = None
        page.route_web_socket("**/ws/", self._opened)
        page.route("**/notifications/", self._with_latest)
        page.route("**/notifications/read/", self._mark)

    def _mark(self, route: Route) -> None:
        """Keep what is read, as the server does."""
        if route.request.method == "POST":
            posted = parse_qs(route.request.post_data or "")
            self.marks.append({"seqNo": int(posted["seqNo"][0]), "epoch": posted["epoch"][0]})
        kept = self.marks[-1] if self.marks else {"seqNo": None, "epoch": None}
        route.fulfill(json=kept)

    def _with_latest(self, route: Route) -> None:
        """Serve the page with what the script says that it brings."""
        if route.request.method != "GET":
            route.continue_()
            return
        response = route.fetch()
        body = re.sub(r'<script id="latest".*?</script>', "", response.text(), flags=re.DOTALL)
        if self.latest is not None:
            data = json.dumps(self.latest)
            body += f'<script id="latest" type="application/json">{data}</script>'
        route.fulfill(response=response, body=body)

    def event(self, seq_no: int, data: Any, prev: int | None = None) -> dict[str, Any]:
        """Return a `message` frame."""
        return {
            "type": "message",
            "topic": self.topic,
            "seqNo": seq_no,
            "prevSeqNo": seq_no - 1 if prev is None else prev,
            "messageId": f"m{seq_no}",
            "data": data,
            "ts": int(time.time() * 1000),
        }

    def message(self, seq_no: int, data: Any, prev: int | None = None) -> None:
        """Send an event."""
        self.send(self.event(seq_no, data, prev))

    def send(self, frame: dict[str, Any]) -> None:
        """Send a frame over the latest socket."""
        self.sockets[-1].send(json.dumps(frame))

    def close(self, code: int) -> None:
        """Close the latest socket."""
        self.sockets[-1].close(code=code)

    def _opened(self, socket: WebSocketRoute) -> None:
        if self.refusing:
            socket.close(code=1013)
            return
        self.sockets.append(socket)
        socket.on_message(lambda text: self._answer(socket, json.loads(text)))

    def _answer(self, socket: WebSocketRoute, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        top = self.history[-1][0] if self.history else 0
        answers: dict[str, dict[str, Any]] = {
            "connect": {
                "type": "ready",
                "sessionId": "s",
                "userId": self.user_id,
                "expiresAt": None,
                "heartbeat": 25,
                "epoch": "e1",
                "subscriptions": [],
            },
            "subscribe": {"type": "subscribed", "seqNo": top, "epoch": "e1", "recovered": True},
            "unsubscribe": {"type": "unsubscribed", "reason": "client"},
            "history": {"type": "reply", "data": self._page(frame)},
            "presence": {"type": "reply", "data": []},
            "publish": self.refusal or {"type": "ack", "status": "ok", "seqNo": top + 1},
            "ping": {"type": "pong"},
        }
        if (answer := answers.get(frame["type"])) is not None:
            echoed = {key: frame[key] for key in ("id", "topic", "messageId") if key in frame}
            socket.send(json.dumps({**echoed, **answer}))

    def _page(self, frame: dict[str, Any]) -> list[dict[str, Any]]:
        before = frame.get("before", 2**53)
        stored = [self.event(*event) for event in self.history if event[0] < before]
        return stored[-frame.get("limit", 50) :]


@pytest.fixture
def scripted(live: Live, page: Page) -> Script:
    """Return a script that a page of alice's will meet; open it with `open_inbox`."""
    # In a tab of its own: what it keeps of the real gateway's positions goes with it.
    with page.context.new_page() as other:
        live.log_in(other, "alice")
        user_id = other.locator("body").get_attribute("data-user-id") or ""
    return Script(page, user_id)


def open_inbox(live: Live, page: Page) -> None:
    """Load the notifications page and wait until it has its history."""
    page.goto(f"{live.url()}/notifications/")
    expect(page.locator("#feed")).to_have_attribute("aria-busy", "false")


def open_inbox_out_of_time(live: Live, page: Page) -> None:
    """Do the same; from then on the page's clock moves by `page.clock.run_for` only."""
    page.clock.install(time=0)
    open_inbox(live, page)
    page.clock.pause_at(600)


def mark_all_read(page: Page) -> None:
    """Press the button, and wait until the server knows it."""
    with page.expect_response("**/notifications/read/"):
        page.get_by_role("button", name="Mark all as read").click()
