"""The chat, on the real gateway, and on a scripted one where something has to fail."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from .conftest import Live, Script


def open_room(live: Live, page: Page, room: str) -> None:
    page.goto(f"{live.url()}/chat/{room}/")
    expect(page.locator("#state")).to_contain_text("Connected")


def join_room(live: Live, page: Page, room: str) -> None:
    """Open a room in which nothing was said, and wait until what is said now comes live."""
    open_room(live, page, room)
    expect(page.locator("#begin")).to_be_visible()
    expect(page.locator("#present")).to_contain_text("(you)")


def say(page: Page, text: str) -> None:
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")


def line(page: Page, text: str):
    return page.locator("#messages .line").filter(has_text=text)


def delivery(page: Page, text: str):
    """Return what the page says of a line's delivery."""
    return line(page, text).locator(".delivery")


def test_chat_reaches_the_other_and_says_who_is_here(live: Live, browser: Browser, page: Page):
    other = browser.new_context()
    try:
        bob = other.new_page()
        live.log_in(bob, "bob")
        live.log_in(page, "alice")
        join_room(live, bob, "talk")
        join_room(live, page, "talk")
        say(page, "Hello <b>bob</b>")
        expect(delivery(page, "Hello <b>bob</b>")).to_have_text("sent")
        expect(line(bob, "Hello <b>bob</b>").locator(".name")).to_have_text("alice")
        expect(bob.locator("#announcer")).to_have_text("alice: Hello <b>bob</b>")
        expect(page.locator("#present")).to_contain_text("alice (you)")
        expect(page.locator("#present")).to_contain_text("bob")
    finally:
        other.close()


def test_chat_brings_what_was_said_while_the_page_was_away(
    live: Live, browser: Browser, page: Page
):
    other = browser.new_context()
    try:
        bob = other.new_page()
        live.log_in(bob, "bob")
        live.log_in(page, "alice")
        page.clock.install(time=0)
        join_room(live, bob, "away")
        join_room(live, page, "away")
        live.kill()
        expect(page.locator("#state")).to_contain_text("Reconnecting")
        # From here alice cannot come back by herself until she is let, and her message does not
        # count as failed however long it takes.
        page.context.set_offline(True)
        page.clock.pause_at(600)
        say(page, "written while away")
        expect(delivery(page, "written while away")).to_have_text("sending…")
        live.restart()
        bob.evaluate("dispatchEvent(new Event('online'))")  # he need not sit out his wait
        expect(bob.locator("#state")).to_contain_text("Connected")
        say(bob, "meanwhile")
        expect(delivery(bob, "meanwhile")).to_have_text("sent")
        page.context.set_offline(False)
        expect(page.locator("#state")).to_contain_text("Reconnecting")
        page.clock.run_for(1_000)  # between two attempts
        expect(line(page, "meanwhile")).to_have_count(1)
        expect(delivery(page, "written while away")).to_have_text("sent")
        expect(line(bob, "written while away")).to_have_count(1)
        assert page.locator("#messages .text").all_inner_texts() == [
            "meanwhile",
            "written while away",
        ]
    finally:
        other.close()


def test_chat_shows_earlier_messages_as_one_scrolls_up(live: Live, page: Page):
    live.log_in(page, "alice")
    open_room(live, page, "long")
    page.evaluate(
        """async () => {
            const { client } = await import("/static/realtime/site.js");
            for (let n = 1; n <= 70; n += 1)
                await client.publish("room.long", { text: `no. ${n}` });
        }"""
    )
    page.reload()
    expect(page.locator("#messages .line")).to_have_count(30)
    expect(line(page, "no. 70")).to_be_in_viewport()
    page.locator("#scroll").evaluate("(scroll) => scroll.scrollTop = 20")
    expect(page.locator("#messages .line")).to_have_count(60)
    # What was read stays where it was.
    expect(page.locator("#messages .line").nth(30)).to_be_in_viewport()
    expect(page.locator("#messages .line").first).not_to_be_in_viewport()
    page.get_by_role("button", name="Show earlier").press("Enter")
    expect(page.locator("#messages .line")).to_have_count(70)
    expect(page.locator("#begin")).to_be_focused()
    assert page.locator("#messages .text").first.inner_text() == "no. 1"


def test_chat_failed_message_is_sent_again_under_the_same_id(
    live: Live, scripted: Script, page: Page
):
    scripted.topic = "room.lobby"
    scripted.refusal = {"type": "error", "code": "ACL_DENIED", "message": "No rule allows it."}
    open_room(live, page, "lobby")
    say(page, "try")
    failed = line(page, "try")
    expect(failed).to_contain_text("not sent. No rule allows it.")
    scripted.refusal = None
    failed.get_by_role("button", name="Retry").press("Enter")
    expect(delivery(page, "try")).to_have_text("sent")
    expect(failed.get_by_role("button", name="Retry")).to_be_hidden()
    expect(page.locator("#scroll")).to_be_focused()
    ids = [one["messageId"] for one in scripted.frames if one["type"] == "publish"]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_chat_event_with_anothers_message_id_takes_nobodys_place(
    live: Live, scripted: Script, page: Page
):
    scripted.topic = "room.lobby"
    open_room(live, page, "lobby")
    scripted.message(1, {"user": "9", "name": "bob", "text": "mine"})
    scripted.send({**scripted.event(2, {"text": "forged"}), "messageId": "m1"})
    expect(page.locator("#messages .text")).to_have_text(["mine", "forged"])


def test_chat_keeps_the_focus_while_messages_come(live: Live, scripted: Script, page: Page):
    scripted.topic = "room.lobby"
    scripted.refusal = {"type": "error", "code": "ACL_DENIED", "message": "No rule allows it."}
    open_room(live, page, "lobby")
    say(page, "try")
    retry = page.get_by_role("button", name="Retry")
    retry.focus()
    for sequence in (1, 2, 3):
        scripted.message(sequence, {"user": "9", "name": "bob", "text": f"event {sequence}"})
    expect(page.locator("#messages .line")).to_have_count(4)
    expect(retry).to_be_focused()


def test_chat_without_a_rule_says_what_would_help(live: Live, page: Page):
    live.log_in(page, "admin")
    open_room(live, page, "lobby")
    expect(page.get_by_role("alert").first).to_contain_text("No rule allows")
    expect(page.get_by_role("alert").first).to_contain_text("access rule")


def test_chat_room_is_chosen_by_name(live: Live, page: Page):
    live.log_in(page, "alice")
    page.goto(f"{live.url()}/chat/")
    page.get_by_label("Another room").fill("no.dots")
    page.get_by_label("Another room").evaluate("(field) => field.form.noValidate = true")
    page.get_by_role("button", name="Go").click()
    expect(page.locator("#room-error")).to_contain_text("letters, digits")
    page.get_by_label("Another room").fill("tea-break")
    page.get_by_role("button", name="Go").click()
    expect(page).to_have_url(re.compile("/chat/tea-break/$"))
    expect(page.get_by_role("heading", name="# tea-break")).to_be_visible()
