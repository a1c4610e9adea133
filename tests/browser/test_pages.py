"""The pages, with a scripted gateway where a state of it is wanted."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import LOOK, Live, Script, mark_all_read, open_inbox, open_inbox_out_of_time

PAGES = ["/notifications/", "/chat/", "/prices/", "/playground/"]


def titles(page: Page) -> list[str]:
    """Return the titles on the page, newest first."""
    return page.locator("#feed article .title").all_inner_texts()


# States in words


def test_state_connected_is_said_in_words(live: Live, scripted: Script, page: Page):
    open_inbox(live, page)
    expect(page.locator("#state")).to_have_text(re.compile(r"^\s*Connected\s"))
    expect(page.locator("#badge")).to_contain_text("Connected")


def test_state_reconnecting_counts_down(live, scripted, page):
    open_inbox_out_of_time(live, page)
    scripted.refusing = True
    scripted.send({"type": "reconnect", "afterMs": 4000, "reason": "drain"})
    state = page.locator("#state")
    expect(state).to_contain_text("Reconnecting in 4 s…")
    page.clock.run_for(1_000)
    expect(state).to_contain_text("Reconnecting in 3 s…")
    expect(page.locator("#badge")).to_contain_text("Reconnecting…")
    expect(page.locator("#announcer")).to_have_text("The connection was lost. Reconnecting.")
    scripted.refusing = False
    page.get_by_role("button", name="Try now").click()
    expect(state).to_contain_text("Connected")


def test_state_offline_is_said(live, scripted, page):
    open_inbox(live, page)
    page.context.set_offline(True)
    scripted.refusing = True
    scripted.close(1001)
    expect(page.locator("#state")).to_contain_text("You are offline")
    scripted.refusing = False
    page.context.set_offline(False)
    expect(page.locator("#state")).to_contain_text("Connected")


@pytest.mark.parametrize("code", [4500, 4502])
def test_state_signed_out_offers_to_log_in(live, scripted, page, code):
    open_inbox(live, page)
    scripted.close(code)
    expect(page.locator("#state")).to_contain_text("Signed out")
    link = page.locator("#state").get_by_role("link", name="Log in again")
    expect(link).to_have_attribute("href", "/login/?next=/notifications/")


def test_state_too_many_pages_is_said(live, scripted, page):
    open_inbox(live, page)
    scripted.close(4504)
    expect(page.locator("#state")).to_contain_text("Too many pages are open")


# The list


def test_list_without_anything_says_what_to_do(live, scripted, page):
    open_inbox(live, page)
    expect(page.locator("#empty")).to_contain_text("Nothing yet")
    expect(page.locator("#empty")).to_contain_text('notify alice "hello"')
    scripted.message(1, "hello")
    expect(page.locator("#empty")).to_be_hidden()


def test_list_is_newest_first_and_merges_history_with_what_arrives(live, scripted, page):
    scripted.history = [(1, "one"), (2, "two")]
    open_inbox(live, page)
    scripted.message(3, {"title": "three", "body": "B"})
    expect(page.locator("#feed article")).to_have_count(3)
    assert titles(page) == ["three", "two", "one"]
    expect(page.locator("#feed article").first.locator(".body")).to_have_text("B")
    expect(page.locator("#feed time").first).to_have_text("just now")


def test_list_shows_markup_as_text_and_no_script_links(live, scripted, page):
    open_inbox(live, page)
    evil = "<img src=x onerror=document.title='pwned'><script>document.title='pwned'</script>"
    scripted.message(1, {"title": evil, "body": evil, "url": "javascript:document.title='pwned'"})
    expect(page.locator("#feed .title")).to_have_text(evil)
    assert page.locator("#feed img, #feed script, #feed a").count() == 0
    assert "pwned" not in page.title()


def test_list_links_only_the_web(live, scripted, page):
    open_inbox(live, page)
    scripted.message(1, {"title": "order", "url": "/notifications/?order=1"})
    link = page.locator("#feed").get_by_role("link", name="order")
    expect(link).to_have_attribute("href", f"{live.url()}/notifications/?order=1")


def test_list_shows_other_payloads_as_json(live, scripted, page):
    open_inbox(live, page)
    scripted.message(1, {"cpu": 0.9})
    expect(page.locator("#feed pre")).to_have_text('{\n  "cpu": 0.9\n}')


def test_list_shows_earlier_pages_when_asked(live, scripted, page):
    scripted.history = [(n, f"event {n}") for n in range(1, 71)]
    open_inbox(live, page)
    expect(page.locator("#feed article")).to_have_count(50)
    page.get_by_role("button", name="Show earlier ones").click()
    expect(page.locator("#feed article")).to_have_count(70)
    expect(page.get_by_role("button", name="Show earlier ones")).to_be_hidden()
    assert titles(page)[-1] == "event 1"


def test_list_offers_earlier_events_for_which_the_page_had_no_room(live, scripted, page):
    scripted.history = [(1, "one"), (2, "two")]
    brought = {"events": [scripted.event(2, "two")], "position": 2, "epoch": "e1", "read": 0}
    scripted.latest = {**brought, "cut": True}
    open_inbox(live, page)
    page.get_by_role("button", name="Show earlier ones").click()
    expect(page.locator("#feed .title")).to_have_text(["two", "one"])
    scripted.latest = {**brought, "cut": False}
    open_inbox(live, page)
    expect(page.locator("#feed .title")).to_have_text(["two"])
    expect(page.get_by_role("button", name="Show earlier ones")).to_be_hidden()


# Unread


def test_unread_is_counted_in_heading_and_title_until_marked(live, scripted, page):
    scripted.history = [(1, "one")]
    open_inbox(live, page)
    scripted.message(2, "two")
    expect(page.locator("#unread")).to_have_text("2")
    expect(page).to_have_title(re.compile(r"^\(2\) Notifications"))
    mark_all_read(page)
    expect(page.locator("#unread")).to_be_hidden()
    expect(page).to_have_title(re.compile("^Notifications"))
    scripted.history = [(1, "one"), (2, "two"), (3, "three")]
    open_inbox(live, page)
    expect(page.locator("#unread")).to_have_text("1")


def test_unread_marked_elsewhere_counts_here(live, scripted, page):
    scripted.history = [(1, "one"), (2, "two")]
    open_inbox(live, page)
    expect(page.locator("#unread")).to_have_text("2")
    mark = {"seqNo": 1, "epoch": "e1"}
    scripted.send({**scripted.event(3, mark), "topic": f"user.{scripted.user_id}.read"})
    expect(page.locator("#unread")).to_have_text("1")


def test_unread_stays_when_it_could_not_be_marked(live, scripted, page):
    scripted.history = [(1, "one")]
    page.route("**/notifications/read/", lambda route: route.fulfill(status=503, json=AWAY))
    open_inbox(live, page)
    page.get_by_role("button", name="Mark all as read").click()
    expect(page.get_by_role("alert")).to_have_text("Not marked as read. NATS is away.")
    expect(page.locator("#unread")).to_have_text("1")


AWAY = {"message": "NATS is away."}


# The keyboard's focus


def test_focus_stays_on_its_article_while_others_come_and_go(live, scripted, page):
    scripted.history = [(n, f"event {n}") for n in range(1, 71)]
    open_inbox(live, page)
    held = page.locator("#feed article").nth(2)
    held.focus()
    scripted.message(71, "new")
    expect(page.locator("#feed article")).to_have_count(51)
    page.get_by_role("button", name="Mark all as read").evaluate("(button) => button.click()")
    expect(page.locator("#unread")).to_be_hidden()
    page.get_by_role("button", name="Show earlier").evaluate("(button) => button.click()")
    expect(page.locator("#feed article")).to_have_count(71)
    assert page.evaluate("document.activeElement.textContent").count("event 68") == 1


def test_focus_goes_on_when_its_article_is_gone(live, scripted, page):
    scripted.history = [(1, "one"), (2, "two")]
    open_inbox(live, page)
    page.locator("#feed article").last.focus()
    scripted.send({"type": "reset", "topic": scripted.topic, "epoch": "e2"})
    scripted.message(1, "first of the new stream", 0)
    expect(page.locator("#feed article")).to_have_count(1)
    # On the page itself if it was drawn between the two frames, when the list was empty.
    expect(page.locator("#feed article:focus, #main:focus")).to_have_count(1)
    expect(page.locator("#feed article")).to_contain_text("first of the new stream")


def test_focus_leaves_a_list_that_is_empty(live, scripted, page):
    scripted.history = [(1, "one")]
    open_inbox(live, page)
    page.locator("#feed article").focus()
    scripted.send({"type": "reset", "topic": scripted.topic, "epoch": "e2"})
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#main")).to_be_focused()


def test_focus_stays_in_the_page_when_its_button_goes(live, scripted, page):
    scripted.history = [(n, f"event {n}") for n in range(1, 61)]
    open_inbox(live, page)
    page.get_by_role("button", name="Show earlier ones").press("Enter")
    expect(page.locator("#feed article")).to_have_count(60)
    expect(page.locator("#feed article").nth(49)).to_be_focused()
    scripted.refusing = True
    scripted.send({"type": "reconnect", "afterMs": 60_000, "reason": "drain"})
    page.get_by_role("button", name="Try now").focus()
    scripted.refusing = False
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_contain_text("Connected")
    expect(page.locator("#state")).to_be_focused()


# What is read out


def test_announcer_gathers_a_burst_into_one_sentence(live, scripted, page):
    open_inbox_out_of_time(live, page)
    for sequence in (1, 2, 3):
        scripted.message(sequence, f"event {sequence}")
    # Frames are handled in order: once this one shows, those before it have come.
    scripted.send({"type": "gap", "topic": scripted.topic, "fromSeq": 4, "toSeq": 5})
    expect(page.locator("#missed")).to_be_visible()
    page.clock.run_for(1_000)
    expect(page.locator("#announcer")).to_have_text("3 new notifications")
    page.clock.resume()
    scripted.message(6, "event 6")
    expect(page.locator("#announcer")).to_have_text("New notification: event 6")


def test_announcer_says_nothing_of_history(live, scripted, page):
    scripted.history = [(1, "one")]
    open_inbox(live, page)
    scripted.message(2, "two")
    expect(page.locator("#announcer")).to_have_text("New notification: two")


# Loss


def test_missed_notice_is_shown_on_a_gap_only(live, scripted, page):
    open_inbox(live, page)
    scripted.message(1, "one")
    expect(page.locator("#feed article")).to_have_count(1)
    expect(page.locator("#missed")).to_be_hidden()
    scripted.send({"type": "gap", "topic": scripted.topic, "fromSeq": 2, "toSeq": 5})
    expect(page.locator("#missed")).to_contain_text("You may have missed some notifications")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#missed")).to_be_hidden()


def test_recreated_stream_starts_the_list_anew(live, scripted, page):
    scripted.history = [(500, "old")]
    open_inbox(live, page)
    scripted.send({"type": "reset", "topic": scripted.topic, "epoch": "e2"})
    scripted.message(1, "new", 0)
    expect(page.locator("#feed .title")).to_have_text(["new"])
    expect(page.locator("#missed")).to_contain_text("started anew")


# Subscribing


def test_unsubscribe_stops_the_list_and_stays_over_a_reload(live, scripted, page):
    open_inbox(live, page)
    page.get_by_role("button", name="Unsubscribe").click()
    expect(page.locator("#state")).to_contain_text("unsubscribed")
    expect(page.get_by_role("button", name="Unsubscribe")).to_have_attribute(
        "aria-disabled", "true"
    )
    scripted.frames.clear()
    open_inbox(live, page)
    subscribed = [one["topic"] for one in scripted.frames if one["type"] == "subscribe"]
    assert scripted.topic not in subscribed
    page.get_by_role("button", name="Subscribe", exact=True).click()
    expect(page.locator("#state")).not_to_contain_text("unsubscribed")
    scripted.message(1, "back")
    expect(page.locator("#feed article")).to_have_count(1)


def test_unsubscribed_by_an_administrator_is_said(live, scripted, page):
    open_inbox(live, page)
    scripted.send({"type": "unsubscribed", "topic": scripted.topic, "reason": "acl"})
    expect(page.get_by_role("alert")).to_contain_text("administrator ended your access")
    expect(page.get_by_role("button", name="Subscribe", exact=True)).to_have_attribute(
        "aria-disabled", "false"
    )


# Frame of every page


@pytest.mark.parametrize("path", ["/", "/login/", *PAGES])
def test_pages_obey_their_own_policy(live: Live, page: Page, path):
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    if path in PAGES:
        live.log_in(page, "bob")
    response = page.goto(live.url() + path)
    assert response is not None
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]
    page.wait_for_load_state("networkidle")
    if path in PAGES:
        expect(page.locator("#badge")).to_contain_text("Connected")
    assert problems == []


def test_admin_pages_are_left_alone(live, page):
    live.log_in(page, "admin")
    response = page.goto(f"{live.url()}/admin/")
    assert "content-security-policy" not in response.headers


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (360, 640)])
def test_pages_fit_and_their_text_can_be_read(live: Live, browser: Browser, size, scheme):
    """No sideways scrolling, and contrast of WCAG 2.2 AA (1.4.3) in every visible text."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    wrong = {}
    for path in ("/", "/login/"):
        page.goto(live.url() + path)
        wrong[path] = page.evaluate(LOOK)
    live.log_in(page, "admin")
    live.notify("admin", '{"title": "Payment failed", "body": "Declined.", "level": "error"}')
    page.locator("#feed article").first.wait_for()
    for path in PAGES:
        page.goto(live.url() + path)
        expect(page.locator("#badge")).to_contain_text("Connected")
        if path == "/chat/":
            page.get_by_role("button", name="Notifications").click()
        wrong[path] = page.evaluate(LOOK)
    context.close()
    assert wrong == {path: [] for path in wrong}
