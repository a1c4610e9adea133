"""The live prices."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from realtime.prices import SYMBOLS

from .conftest import Live, Script


def test_prices_of_all_topics_arrive_and_are_drawn(live: Live, page: Page):
    live.log_in(page, "alice")
    page.goto(f"{live.url()}/prices/")
    rows = page.locator("#board tr")
    expect(rows).to_have_count(len(SYMBOLS))
    for index in range(len(SYMBOLS)):
        expect(rows.nth(index).locator(".price")).to_have_text(re.compile(r"^[\d,]+\.\d\d$"))
    expect(page.locator("#chart-line")).to_have_attribute("d", re.compile("^M0.0 .*L"))
    page.get_by_role("button", name="COPPER").press("Enter")
    expect(page.get_by_role("heading", name="Copper")).to_be_visible()
    expect(page.get_by_role("button", name="COPPER")).to_be_focused()
    expect(page.locator("#rate")).not_to_have_text("0.0")


def test_prices_that_do_not_come_are_missed_in_words(live: Live, scripted: Script, page: Page):
    page.clock.install(time=0)
    page.goto(f"{live.url()}/prices/")
    expect(page.locator("#state")).to_contain_text("Connected")
    page.clock.pause_at(600)  # so that the silence after the price is none
    expect(page.get_by_role("alert").first).to_contain_text("No prices come")
    scripted.send({**scripted.event(1, {"price": 12.5, "change": 0.8}), "topic": "live.prices.TEA"})
    expect(page.get_by_role("alert").first).to_be_hidden()


def test_prices_stand_still_while_paused(live: Live, scripted: Script, page: Page):
    page.goto(f"{live.url()}/prices/")
    expect(page.locator("#state")).to_contain_text("Connected")
    price = page.locator("#chart-price")

    def tick(value: float) -> None:
        event = scripted.event(1, {"price": value, "change": 0.8})
        scripted.send({**event, "topic": "live.prices.TEA", "seqNo": None, "prevSeqNo": None})

    tick(1)
    expect(price).to_have_text("1.00")
    page.get_by_role("button", name="Pause").click()
    tick(2)
    # Frames are handled in order: once a later one shows, this one was seen.
    scripted.send({"type": "unsubscribed", "topic": "live.prices.TEA", "reason": "acl"})
    expect(page.get_by_role("alert").first).to_be_visible()
    expect(price).to_have_text("1.00")
    page.get_by_role("button", name="Go on").click()
    expect(price).to_have_text("2.00")


def test_prices_without_a_rule_say_what_would_help(live: Live, page: Page):
    live.log_in(page, "admin")
    page.goto(f"{live.url()}/prices/")
    expect(page.get_by_role("alert").first).to_contain_text("access rule for live.prices.>")
