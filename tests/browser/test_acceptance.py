"""What people see: the real gateway, a real browser, from end to end."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from ..support.waiting import wait_until
from .conftest import Live


def articles(page: Page, text: str):
    """Return the notifications that contain a text."""
    return page.locator("#feed article").filter(has_text=text)


def test_notify_reaches_the_user_and_nobody_else(live: Live, browser: Browser, page: Page):
    bobs = browser.new_context()
    try:
        bob = bobs.new_page()
        live.log_in(bob, "bob")
        live.log_in(page, "alice")
        live.notify("alice", "hello from a terminal")
        expect(articles(page, "hello from a terminal")).to_have_count(1)
        # What is sent to bob after it has come: so the other would have, too.
        live.notify("bob", "hello bob")
        expect(articles(bob, "hello bob")).to_have_count(1)
        expect(articles(bob, "hello from a terminal")).to_have_count(0)
        expect(articles(page, "hello bob")).to_have_count(0)
    finally:
        bobs.close()


def test_notifications_sent_before_the_visit_are_there(live: Live, page: Page):
    live.notify("bob", "sent while you were away")
    live.log_in(page, "bob")
    expect(articles(page, "sent while you were away")).to_have_count(1)
    page.reload()
    expect(articles(page, "sent while you were away")).to_have_count(1)


def test_notification_between_rendering_and_connecting_is_shown_once(live: Live, page: Page):
    """The page brings what there was and where it ended; the socket goes on exactly there."""
    live.log_in(page, "bob")
    live.notify("bob", "stored before the page was made")
    between: list[str] = []

    def connected_late(socket: WebSocketRoute) -> None:
        # Once; and not on a page without events, which is what a busy stream makes of it.
        if not between and page.locator("#latest").count():
            between.append(page.locator("#latest").inner_text())
            live.notify("bob", "on the way")
        socket.connect_to_server()

    def reloaded() -> bool:
        page.reload()
        expect(page.locator("#state")).to_contain_text("Connected")
        return bool(between)

    page.route_web_socket("**/ws/", connected_late)
    wait_until(reloaded, 60, what="a page that brings its events")
    assert "stored before the page was made" in between[0]
    expect(articles(page, "on the way")).to_have_count(1)
    live.notify("bob", "afterwards")
    expect(articles(page, "afterwards")).to_have_count(1)
    seen = page.locator("#feed article .title").all_inner_texts()
    assert seen[:3] == ["afterwards", "on the way", "stored before the page was made"]


def test_latest_notifications_are_there_without_javascript(live: Live, browser: Browser):
    plain = browser.new_context(java_script_enabled=False)
    try:
        page = plain.new_page()
        live.notify("bob", "for a plain browser")
        live.log_in(page, "bob", connected=False)
        # Playwright switches scripts off after parsing, so Chromium shows no <noscript>.
        wanted = re.compile("<noscript>.*for a plain browser.*</noscript>", re.DOTALL)
        # Again, because a page waits for a busy stream for a moment only.
        wait_until(
            lambda: wanted.search(page.request.get(f"{live.url()}/notifications/").text()),
            60,
            what="the notification in the page as it is served",
        )
    finally:
        plain.close()


def test_staff_sends_from_the_page(live: Live, browser: Browser, alice: Page):
    admins = browser.new_context()
    try:
        admin = admins.new_page()
        live.log_in(admin, "admin")
        form = admin.locator("#send-form")
        form.get_by_label("To").fill("nobody")
        form.get_by_label("Title").fill("Deploy at noon")
        form.get_by_label("Message").fill("Five minutes.\nSave your work.")
        form.get_by_role("button", name="Send").click()
        expect(form).to_contain_text("There is no user named “nobody”.")
        expect(form.get_by_label("To")).to_be_focused()
        form.get_by_label("To").fill("alice")
        form.get_by_role("button", name="Send").click()
        expect(form.get_by_role("status")).to_have_text("Sent to alice.")
        expect(form.get_by_label("Title")).to_have_value("")
        expect(articles(alice, "Deploy at noon")).to_have_count(1)
        expect(articles(alice, "Deploy at noon").locator(".body")).to_have_text(
            "Five minutes.\nSave your work.", use_inner_text=True
        )
    finally:
        admins.close()


def test_staff_sends_without_javascript(live: Live, browser: Browser, alice: Page):
    admins = browser.new_context(java_script_enabled=False)
    try:
        admin = admins.new_page()
        admin.goto(f"{live.url()}/login/")
        admin.get_by_label("Username").fill("admin")
        admin.get_by_label("Password").fill("admin")
        admin.get_by_role("button", name="Log in").click()
        admin.get_by_label("To").fill("nobody")
        admin.get_by_label("Title").fill("Plain form")
        admin.get_by_role("button", name="Send").click()
        expect(admin.locator("#send-form")).to_contain_text("There is no user named “nobody”.")
        admin.get_by_label("To").fill("alice")
        admin.get_by_role("button", name="Send").click()
        expect(admin.get_by_role("status").first).to_have_text("Sent to alice.")
        expect(admin).to_have_url(f"{live.url()}/notifications/")
        expect(articles(alice, "Plain form")).to_have_count(1)
    finally:
        admins.close()


def test_users_have_no_form(live: Live, alice: Page):
    expect(alice.locator("#send-form")).to_have_count(0)


def test_server_killed_under_the_page_loses_and_repeats_nothing(live: Live, alice: Page):
    live.notify("alice", "before the crash")
    expect(articles(alice, "before the crash")).to_have_count(1)
    live.kill()
    expect(alice.locator("#state")).to_contain_text("Reconnecting")
    # From here the page cannot come back by itself until it is let: so that what is sent
    # meanwhile is sent meanwhile.
    alice.context.set_offline(True)
    live.restart()
    for number in range(1, 6):
        live.notify("alice", f"during the outage, {number}")
    alice.context.set_offline(False)
    expect(alice.locator("#state")).to_contain_text("Connected")
    expect(articles(alice, "during the outage")).to_have_count(5)
    live.notify("alice", "after the outage")
    expect(articles(alice, "after the outage")).to_have_count(1)
    seen = alice.locator("#feed article .title").all_inner_texts()
    outage = [f"during the outage, {number}" for number in (5, 4, 3, 2, 1)]
    assert seen[:7] == ["after the outage", *outage, "before the crash"]
    expect(alice.locator("#missed")).to_be_hidden()


def test_log_out_signs_out_the_other_tab(live: Live, alice: Page):
    other = alice.context.new_page()
    other.goto(f"{live.url()}/notifications/")
    expect(other.locator("#state")).to_contain_text("Connected")
    alice.get_by_role("button", name="Log out").click()
    expect(alice).to_have_url(re.compile("/login/$"))
    expect(other.locator("#state")).to_contain_text("Signed out")


def test_everything_can_be_done_by_keyboard(live: Live, page: Page):
    page.goto(f"{live.url()}/login/?next=/notifications/")
    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type("admin")
    page.keyboard.press("Tab")
    page.keyboard.type("admin")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_contain_text("Connected")
    live.notify("admin", "first")
    live.notify("admin", '{"title": "second", "url": "/"}')
    expect(page.locator("#feed article").first).to_contain_text("second")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()

    page.keyboard.press("Tab")
    mark = page.get_by_role("button", name="Mark all as read")
    expect(mark).to_be_focused()
    expect(page.locator("#unread")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#unread")).to_be_hidden()
    expect(mark).to_be_focused()

    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Unsubscribe")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#state")).to_contain_text("unsubscribed")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(page.locator("#state")).not_to_contain_text("unsubscribed")
    page.keyboard.press("Tab")

    page.keyboard.press("Tab")
    expect(page.locator("#feed article").nth(0)).to_be_focused()
    page.keyboard.press("PageDown")
    expect(page.locator("#feed article").nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#feed article").nth(0)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#feed").get_by_role("link", name="second").first).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"

    form = page.locator("#send-form")
    for _ in range(20):
        page.keyboard.press("Tab")
        if form.get_by_label("To").evaluate("(field) => field === document.activeElement"):
            break
    page.keyboard.type("admin")
    page.keyboard.press("Tab")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(form.get_by_role("status")).to_have_text("Sent to admin.")
    expect(articles(page, "by keyboard")).to_have_count(1)


def test_phone_shows_it_all_without_scrolling_sideways(
    live: Live, browser: Browser, tmp_path: Path
):
    phone = browser.new_context(
        viewport={"width": 375, "height": 740}, device_scale_factor=2, is_mobile=True,
        has_touch=True,
    )  # fmt: skip
    try:
        page = phone.new_page()
        live.log_in(page, "alice")
        live.notify("alice", "a-very-long-word-" * 20)
        expect(articles(page, "a-very-long-word")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for name in ("Subscribe", "Unsubscribe", "Mark all as read", "Log out"):
            box = page.get_by_role("button", name=name, exact=True).bounding_box()
            assert box is not None
            assert box["height"] >= 24, f"{name}: too small to touch (WCAG 2.5.8)"
            assert box["x"] + box["width"] <= 375
        shot = tmp_path / "phone.png"
        page.screenshot(path=shot)
        assert shot.stat().st_size > 10_000
    finally:
        phone.close()


def test_client_speaks_the_whole_contract_with_the_real_gateway(live: Live, alice: Page):
    got = alice.evaluate("""async () => {
        const { client } = await import("/static/realtime/site.js");
        const topic = "room.contract", seen = [], code = (promise) =>
            promise.then(() => "passed", (error) => error.code);
        const onMessage = ({ data }) => seen.push(data);
        const first = await client.publish(topic, 1, { messageId: "contract-1" });
        const again = await client.publish(topic, 1, { messageId: "contract-1" });
        await client.publish(topic, 2);
        const { recovered } = await client.subscribe(topic, { since: 0, qos: 1, onMessage });
        await client.publish(topic, 3);
        const until = async (length) => {
            while (seen.length < length) await new Promise((done) => setTimeout(done, 10));
        };
        await until(3);
        await client.replay(topic, first.seqNo);
        await until(6);
        const history = await client.history(topic, { limit: 2 });
        const presence = await client.presence(topic);
        const denied = [
            await code(client.subscribe("user.999999.notifications")),
            await code(client.publish("gateway.auth", 1)),
            await code(client.request("rpc.nobody", 1)),
        ];
        await client.unsubscribe(topic);
        return { seen, recovered, statuses: [first.status, again.status], denied,
            history: history.map(({ data }) => data), present: presence.length };
    }""")
    assert got == {
        "seen": [1, 2, 3, 1, 2, 3],
        "recovered": True,
        "statuses": ["ok", "duplicate"],
        "denied": ["ACL_DENIED", "BAD_TOPIC", "ACL_DENIED"],
        "history": [2, 3],
        "present": 1,
    }
