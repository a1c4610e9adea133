"""A browser offers permessage-deflate by itself: what it and the gateway then say arrives whole."""

from __future__ import annotations

from playwright.sync_api import Page

from ..conftest import StartGateway
from .conftest import UNHURRIED

ECHO = """async ([token, data]) => {
    const ws = new WebSocket(`ws://${location.host}/ws/`);
    const next = (type) => new Promise((resolve, reject) => {
        ws.addEventListener("close", (event) => reject(new Error(`closed: ${event.code}`)));
        ws.addEventListener("message", (event) => {
            const frame = JSON.parse(event.data);
            if (frame.type === type) resolve(frame);
        });
    });
    const say = (frame) => ws.send(JSON.stringify(frame));
    await new Promise((resolve) => { ws.onopen = resolve; });
    say({ type: "connect", token });
    await next("ready");
    say({ type: "subscribe", topic: "room.lobby" });
    await next("subscribed");
    const message = next("message");
    say({ type: "publish", topic: "room.lobby", messageId: "m1", payload: data });
    return [ws.extensions, (await message).data];
}"""


def test_chromium_agrees_to_compression_and_reads_what_it_wrote(
    gateway: StartGateway, page: Page
) -> None:
    site = gateway(REALTIME_COMPRESSION="true", **UNHURRIED)
    page.goto(f"{site.url()}/login/")
    data = [f"order {number} paid, café" for number in range(500)]
    extensions, received = page.evaluate(ECHO, [site.token(), data])
    assert extensions.startswith("permessage-deflate; server_no_context_takeover")
    assert received == data
