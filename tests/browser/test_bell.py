"""The bell: on the gateway's own pages, and on a page of somebody else's."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from django.template import engines
from django.test import RequestFactory
from playwright.sync_api import Browser, Page, expect

from .conftest import Live

# A page with its own ideas of buttons and lists, and a policy that allows nothing but its nonce.
HOST = """{% load realtime %}<!DOCTYPE html><html lang="en"><title>Shop</title>
<style nonce="{{ csp_nonce }}">
  button, a, p, ul, li, span { color: rgb(255, 0, 0); font-size: 40px; border: 9px solid; margin: 30px; }
  .item, .badge, .panel, .title { display: none; }
</style>
<button id="before">Before</button>{% realtime_bell url=socket %}<button id="after">After</button>"""
POLICY = (
    "default-src 'none'; script-src 'nonce-n0nce'; style-src 'nonce-n0nce'; img-src 'self';"
    " connect-src 'self' {socket}"
)


@pytest.fixture
def shop(live: Live, page: Page) -> Page:
    """Return a page of a project of its own, with the bell of alice, on the real gateway."""
    live.log_in(page, "alice")
    user_id = page.locator("body").get_attribute("data-user-id")
    page.goto("about:blank")
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
    return page


def bell(page: Page):
    return page.get_by_role("button", name=re.compile("^Notifications"))


def panel(page: Page):
    return page.locator("#rt-bell-panel")


def test_bell_works_on_a_page_that_allows_nothing_but_its_nonce(live: Live, shop: Page):
    problems: list[str] = []
    shop.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
    shop.on("pageerror", lambda error: problems.append(str(error)))
    shop.goto(f"{live.url()}/shop/")
    live.notify("alice", '{"title": "Order 7 is in", "body": "Tea", "url": "/notifications/"}')
    toast = shop.locator(".rt-bell-toast")
    expect(toast).to_contain_text("Order 7 is in")
    toast.get_by_role("button", name="Order 7 is in").click()
    expect(panel(shop)).to_be_focused()
    expect(toast).to_have_count(0)
    expect(panel(shop)).to_contain_text("Connected")
    link = panel(shop).get_by_role("link", name="Order 7 is in").first
    expect(link).to_have_attribute("href", f"{live.url()}/notifications/")
    shop.get_by_role("button", name="Mark all as read").click()
    expect(bell(shop)).to_have_accessible_name("Notifications")
    assert problems == []


def test_bell_keeps_its_look_and_leaves_the_page_its_own(live: Live, shop: Page):
    shop.goto(f"{live.url()}/shop/")
    live.notify("alice", "hello")
    shop.locator(".rt-bell-toast").wait_for()
    bell(shop).click()
    styles = shop.evaluate(
        """() => ["#rt-bell-panel", ".rt-bell-item", ".rt-bell-title", "#before"].map((name) => {
            const { fontSize, borderTopWidth, marginTop, display } =
                getComputedStyle(document.querySelector(name));
            return [parseFloat(fontSize), borderTopWidth === "9px", marginTop, display !== "none"];
        })"""
    )
    assert styles[:3] == [[15, False, "0px", True]] * 3
    assert styles[3] == [40, True, "30px", True]


def test_bell_by_keyboard_opens_closes_and_gives_the_focus_back(live: Live, shop: Page):
    shop.goto(f"{live.url()}/shop/")
    live.notify("alice", '{"title": "a link", "url": "/"}')
    shop.locator(".rt-bell-toast").wait_for()
    shop.locator("#before").focus()
    shop.keyboard.press("Tab")
    expect(bell(shop)).to_be_focused()
    shop.keyboard.press("Enter")
    expect(panel(shop)).to_be_focused()
    expect(bell(shop)).to_have_attribute("aria-expanded", "true")
    shop.keyboard.press("Escape")
    expect(panel(shop)).to_be_hidden()
    expect(bell(shop)).to_be_focused()
    shop.keyboard.press("Enter")
    shop.keyboard.press("Tab")
    mark = shop.get_by_role("button", name="Mark all as read")
    expect(mark).to_be_focused()
    shop.keyboard.press("Enter")
    expect(mark).to_have_attribute("aria-disabled", "true")
    expect(mark).to_be_focused()
    shop.locator("#after").focus()
    expect(panel(shop)).to_be_hidden()


def test_bell_keeps_the_focus_on_an_item_while_others_arrive(live: Live, shop: Page):
    shop.goto(f"{live.url()}/shop/")
    live.notify("alice", '{"title": "held", "url": "/held"}')
    shop.locator(".rt-bell-toast").wait_for()
    bell(shop).click()
    held = panel(shop).get_by_role("link", name="held").first
    held.focus()
    live.notify("alice", "one more")
    expect(panel(shop).locator(".rt-bell-item").first).to_contain_text("one more")
    expect(held).to_be_focused()
    expect(shop.locator(".rt-bell-live")).to_have_text("New notification: one more")


def test_bell_marked_on_one_device_is_read_on_the_other(live: Live, browser: Browser, page: Page):
    """Two devices: nothing but the server is shared."""
    other = browser.new_context()
    try:
        phone = other.new_page()
        live.log_in(phone, "bob")
        live.log_in(page, "bob")
        page.goto(f"{live.url()}/playground/")
        live.notify("bob", "for both")
        expect(page.locator(".rt-bell-badge")).to_be_visible()
        expect(phone.locator("#unread")).to_be_visible()
        bell(page).click()
        page.get_by_role("button", name="Mark all as read").click()
        expect(phone.locator("#unread")).to_be_hidden()
        page.reload()
        expect(panel(page).locator(".rt-bell-item").first).to_contain_text("for both")
        expect(page.locator(".rt-bell-badge")).to_be_hidden()
        live.notify("bob", "only this one")
        expect(bell(page)).to_have_accessible_name("Notifications, 1 unread")
        expect(phone.locator("#unread")).to_have_text("1")
    finally:
        other.close()
