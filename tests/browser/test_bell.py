"""The bell: on the gateway's own pages, and on a page of somebody else's."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from django.template import engines
from django.test import RequestFactory
from playwright.sync_api import Browser, Page, expect
from pytest_django import Settings

from realtime import publish, reading

from .conftest import Live, mark_all_read

# A page with its own ideas of buttons and lists, and a policy that allows nothing but its nonce.
HOST = """{% load realtime %}<!DOCTYPE html><html lang="en"><title>Shop</title>
<style nonce="{{ csp_nonce }}">
  button, a, p, ul, li, span { color: #f00; font-size: 40px; border: 9px solid; margin: 30px; }
  .item, .badge, .panel, .title { display: none; }
</style>
<button id="before">Before</button>{% realtime_bell url=socket %}
<button id="after">After</button>"""
POLICY = (
    "default-src 'none'; script-src 'nonce-n0nce'; style-src 'nonce-n0nce'; img-src 'self';"
    " connect-src 'self' {socket}"
)


@pytest.fixture(autouse=True)
def backend(live: Live, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process a backend of the gateway."""
    monkeypatch.setattr(reading, "_ask_again_at", 0.0)
    # A page whose events come by the socket instead shows no toast for them.
    monkeypatch.setattr(publish, "LATEST_TIMEOUT", 30.0)
    own = {"NATS_URL": live.nats_url, "STORE_TIMEOUT": 30.0, "HISTORY_TIMEOUT": 30.0}
    settings.REALTIME = {**settings.REALTIME, **own}


def user_of(page: Page) -> str:
    return page.locator("body").get_attribute("data-user-id") or ""


class Shop:
    """A page of a project of its own, with the bell of alice."""

    def __init__(self, page: Page, user_id: str) -> None:
        self.page = page
        self.user_id = user_id

    def notify(self, data: object) -> None:
        publish.notify(self.user_id, data)


@pytest.fixture
def shop(live: Live, page: Page) -> Shop:
    """Open it, on the real gateway."""
    live.log_in(page, "alice")
    user_id = user_of(page)
    socket = live.ws_url()

    def html() -> str:
        request = RequestFactory().get("/shop/")
        cookies = {one["name"]: one["value"] for one in page.context.cookies(live.url())}
        request.META["CSRF_COOKIE"] = cookies["csrftoken"]
        request.user = SimpleNamespace(pk=user_id, is_authenticated=True)
        context = {"user": request.user, "csp_nonce": "n0nce", "socket": socket}
        return engines["django"].from_string(HOST).render(context, request)

    headers = {"Content-Security-Policy": POLICY.format(socket=socket)}
    page.route(
        "**/shop/",
        lambda route: route.fulfill(body=html(), content_type="text/html", headers=headers),
    )
    page.goto(f"{live.url()}/shop/")
    # A socket that a reload cuts off while it opens would be an error in the console.
    expect(panel(page)).to_contain_text("Connected")
    return Shop(page, user_id)


def bell(page: Page):
    return page.get_by_role("button", name=re.compile("^Notifications"))


def panel(page: Page):
    return page.locator("#rt-bell-panel")


def newest(page: Page):
    """Return what the bell lists first; it does so with its panel closed, too."""
    return panel(page).locator(".rt-bell-item").first


def test_bell_works_on_a_page_that_allows_nothing_but_its_nonce(live: Live, shop: Shop):
    problems: list[str] = []
    page = shop.page
    page.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    # A toast goes after six seconds; by this clock they do not pass.
    page.clock.install(time=0)
    page.reload()
    page.clock.pause_at(600)
    shop.notify({"title": "Order 7 is in", "body": "Tea", "url": "/notifications/"})
    toast = page.locator(".rt-bell-toast")
    expect(toast).to_contain_text("Order 7 is in")
    toast.get_by_role("button", name="Order 7 is in").click()
    expect(panel(page)).to_be_focused()
    expect(toast).to_have_count(0)
    expect(panel(page)).to_contain_text("Connected")
    link = panel(page).get_by_role("link", name="Order 7 is in").first
    expect(link).to_have_attribute("href", f"{live.url()}/notifications/")
    page.get_by_role("button", name="Mark all as read").click()
    expect(bell(page)).to_have_accessible_name("Notifications")
    assert problems == []


def test_bell_keeps_its_look_and_leaves_the_page_its_own(live: Live, shop: Shop):
    page = shop.page
    shop.notify("hello")
    expect(newest(page)).to_contain_text("hello")
    bell(page).click()
    styles = page.evaluate(
        """() => ["#rt-bell-panel", ".rt-bell-item", ".rt-bell-title", "#before"].map((name) => {
            const { fontSize, borderTopWidth, marginTop, display } =
                getComputedStyle(document.querySelector(name));
            return [parseFloat(fontSize), borderTopWidth === "9px", marginTop, display !== "none"];
        })"""
    )
    assert styles[:3] == [[15, False, "0px", True]] * 3
    assert styles[3] == [40, True, "30px", True]


def test_bell_by_keyboard_opens_closes_and_gives_the_focus_back(live: Live, shop: Shop):
    page = shop.page
    shop.notify({"title": "a link", "url": "/"})
    expect(newest(page)).to_contain_text("a link")
    page.locator("#before").focus()
    page.keyboard.press("Tab")
    expect(bell(page)).to_be_focused()
    page.keyboard.press("Enter")
    expect(panel(page)).to_be_focused()
    expect(bell(page)).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(panel(page)).to_be_hidden()
    expect(bell(page)).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    mark = page.get_by_role("button", name="Mark all as read")
    expect(mark).to_be_focused()
    page.keyboard.press("Enter")
    expect(mark).to_have_attribute("aria-disabled", "true")
    expect(mark).to_be_focused()
    page.locator("#after").focus()
    expect(panel(page)).to_be_hidden()


def test_bell_keeps_the_focus_on_an_item_while_others_arrive(live: Live, shop: Shop):
    page = shop.page
    shop.notify({"title": "held", "url": "/held"})
    expect(newest(page)).to_contain_text("held")
    bell(page).click()
    held = panel(page).get_by_role("link", name="held").first
    held.focus()
    shop.notify("one more")
    expect(newest(page)).to_contain_text("one more")
    expect(held).to_be_focused()
    expect(page.locator(".rt-bell-live")).to_have_text(
        re.compile("new notification", re.IGNORECASE)
    )


def test_bell_brings_what_is_too_long_for_its_page_once(shop: Shop, settings: Settings) -> None:
    settings.REALTIME = {**settings.REALTIME, "MAX_PAYLOAD_BYTES": 500_000}
    page = shop.page
    for title, length in (("first", 90_000), ("second", 90_000), ("too long", 200_000)):
        shop.notify({"title": title, "body": "x" * length})
    page.reload()
    # The second is in the page; before it history brings the first, and the socket the third.
    assert len(page.locator("#rt-bell-data").inner_text()) < 128 * 1024 + 1000
    titles = panel(page).locator(".rt-bell-title")
    expect(titles.nth(2)).to_have_text("first")
    assert titles.all_text_contents()[:3] == ["too long", "second", "first"]
    shop.notify("afterwards")
    expect(newest(page)).to_contain_text("afterwards")
    assert titles.all_text_contents()[:4] == ["afterwards", "too long", "second", "first"]


def test_bell_marked_on_one_device_is_read_on_the_other(live: Live, browser: Browser, page: Page):
    """Two devices: nothing but the server is shared."""
    other = browser.new_context()
    try:
        phone = other.new_page()
        live.log_in(phone, "bob")
        live.log_in(page, "bob")
        bob = user_of(page)
        page.goto(f"{live.url()}/playground/")
        publish.notify(bob, "for both")
        # By its text: others that are unread may have been there before.
        expect(newest(page)).to_contain_text("for both")
        expect(page.locator(".rt-bell-badge")).to_be_visible()
        expect(phone.locator("#feed article").first).to_contain_text("for both")
        expect(phone.locator("#unread")).to_be_visible()
        bell(page).click()
        mark_all_read(page)
        expect(phone.locator("#unread")).to_be_hidden()
        page.reload()
        expect(newest(page)).to_contain_text("for both")
        expect(page.locator(".rt-bell-badge")).to_be_hidden()
        publish.notify(bob, "only this one")
        expect(bell(page)).to_have_accessible_name("Notifications, 1 unread")
        expect(phone.locator("#unread")).to_have_text("1")
    finally:
        other.close()
