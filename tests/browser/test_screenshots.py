"""Pictures of every page; with SCREENSHOTS=1 they become those of the documentation.

Each page is opened light and dark, at a desktop's and a phone's width, with something on it.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import LOOK, Live

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
RENEW = bool(os.environ.get("SCREENSHOTS"))
SIZES = {"desktop": (1120, 700), "phone": (375, 740)}


def notifications(live: Live, page: Page) -> None:
    """Show three notifications, one of them read."""
    live.notify("alice", "Your order 1041 is on its way")
    live.log_in(page, "alice")
    page.get_by_role("button", name="Mark all as read").click()
    live.notify("alice", "Bob commented on “Release plan”")
    live.notify("alice", "The export you asked for is ready")
    expect(page.get_by_role("article").first).to_contain_text("The export")


def playground(live: Live, page: Page) -> None:
    """Show a conversation with the gateway."""
    live.log_in(page, "alice")
    page.goto(f"{live.url()}/playground/")
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#play-state")).to_contain_text("Open")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#play-state")).to_contain_text("Connected as user")
    for example in ("subscribe", "publish"):
        page.get_by_label("Example").select_option(example)
        page.get_by_role("button", name="Send").click()
    expect(page.locator(".entry").filter(has_text='"type":"message"')).to_have_count(1)


def chat(live: Live, page: Page) -> None:
    """Show a few lines of chat."""
    live.log_in(page, "alice")
    page.goto(f"{live.url()}/chat/team-{uuid.uuid4().hex[:4]}/")
    expect(page.locator("#state")).to_contain_text("Connected")
    for text in ("Deploying now: your sockets come back by themselves.", "Done. Nothing was lost."):
        page.locator("#text").fill(text)
        page.locator("#text").press("Enter")
        expect(page.locator("#messages .line").filter(has_text=text).last).to_contain_text("sent")


def prices(live: Live, page: Page) -> None:
    """Show prices that move."""
    live.log_in(page, "alice")
    page.goto(f"{live.url()}/prices/")
    # Until the chart has a line to show.
    moves = 40 if RENEW else 3
    line = re.compile(rf"^([ML][^ML]+){{{moves}}}")
    expect(page.locator("#chart-line")).to_have_attribute("d", line, timeout=60_000)


@pytest.mark.parametrize(
    ("size", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "dark")]
)
@pytest.mark.parametrize("show", [notifications, playground, chat, prices])
def test_page_looks_as_it_should(
    live: Live,
    browser: Browser,
    tmp_path: Path,
    show: Callable[[Live, Page], None],
    size: str,
    scheme: str,
):
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=2,
        color_scheme=scheme,
        reduced_motion="reduce",
        locale="en-GB",
    )
    try:
        page = context.new_page()
        show(live, page)
        assert page.evaluate(LOOK) == []
        page.evaluate("scrollTo(0, 0)")
        name = f"{show.__name__}-{size}-{scheme}.png"
        shot = (IMAGES if RENEW and size == "desktop" else tmp_path) / name
        page.screenshot(path=shot)
        assert shot.stat().st_size > 10_000
    finally:
        context.close()
