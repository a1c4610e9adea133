"""The playground, on the real gateway."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from playwright.sync_api import Page, expect

from realtime.protocol.client_frames import ClientFrame, parse_frame

from .conftest import Live


def open_playground(live: Live, page: Page) -> None:
    live.log_in(page, "alice")
    page.goto(f"{live.url()}/playground/")


def connect(page: Page) -> None:
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#play-state")).to_contain_text("Open")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#play-state")).to_contain_text("Connected as user")


def send(page: Page, example: str) -> None:
    page.get_by_label("Example").select_option(example)
    page.get_by_role("button", name="Send").click()


def entry(page: Page, text: str):
    return page.locator(".entry").filter(has_text=text)


def test_playground_has_an_example_of_every_frame(live: Live, page: Page):
    open_playground(live, page)
    names = page.get_by_label("Example").locator("option").all_inner_texts()
    tags = set()
    for name in names:
        page.get_by_label("Example").select_option(name)
        text = page.get_by_label("Frame", exact=True).input_value()
        if not name.startswith("wrong"):
            tags.add(parse_frame(text).__struct_config__.tag)
    known = {one.__struct_config__.tag for one in ClientFrame.__subclasses__()}
    assert tags == known - {"setup"}


def test_playground_shows_both_ways_with_the_time_it_took(live: Live, page: Page):
    open_playground(live, page)
    connect(page)
    send(page, "subscribe")
    send(page, "publish")
    for text in ('"type":"ready"', '"type":"subscribed"', '"status":"ok"', '"type":"message"'):
        expect(entry(page, text).locator(".took")).to_have_text(re.compile(r"^[\d.]+ ms$"))
    send(page, "ping")
    expect(entry(page, '"type":"pong"')).to_have_attribute("data-direction", "in")
    page.get_by_label("Filter").fill("pong")
    expect(page.locator(".entry:visible")).to_have_count(1)
    page.get_by_label("Direction").select_option("Sent")
    expect(page.locator("#log-empty")).to_contain_text("matches the filter")


def test_playground_says_errors_in_words(live: Live, page: Page):
    open_playground(live, page)
    connect(page)
    send(page, "wrong: somebody else's topic")
    expect(entry(page, "ACL_DENIED")).to_have_attribute("data-tone", "bad")
    expect(page.locator("#announcer")).to_contain_text("Error ACL_DENIED: No rule allows")
    send(page, "wrong: no JSON")
    expect(page.get_by_role("alert")).to_contain_text("This is no JSON")
    expect(entry(page, "BAD_FRAME").first).to_be_visible()
    page.get_by_role("button", name="Disconnect").click()
    expect(page.locator("#play-state")).to_contain_text("Not connected: closed from this side")
    expect(entry(page, "Closed with 1000")).to_be_visible()


def test_playground_code_in_python_runs(live: Live, page: Page):
    open_playground(live, page)
    page.get_by_label("Example").select_option("publish")
    page.get_by_label("Frame", exact=True).fill(
        json.dumps(
            {"type": "publish", "topic": "room.code", "messageId": "it's", "payload": 'a "b" \\ é'}
        )
    )
    page.get_by_text("Copy as code").click()
    page.get_by_role("button", name="Python").click()
    code = page.locator("#play-code").inner_text().replace("TOKEN", live.token("alice"))
    # It prints until the connection ends; the answer is all that is wanted here.
    code = code.replace(
        "    for frame in socket:\n        print(frame)", "    print(socket.recv())"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert '"status":"ok"' in said.stdout, said.stderr


def test_playground_code_in_javascript_runs(live: Live, page: Page):
    open_playground(live, page)
    page.get_by_label("Example").select_option("presence")
    code = page.locator("#play-code").text_content()
    with page.expect_console_message(lambda one: "reply" in one.text):
        page.evaluate(f"() => {{ {code} }}")


def test_playground_needs_a_login(live: Live, page: Page):
    page.goto(f"{live.url()}/playground/")
    expect(page).to_have_url(f"{live.url()}/login/?next=/playground/")
