"""Clients that keep to no protocol: each ends its own session, and nothing else."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .support import Poller


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("EIO=3&transport=polling", 400),
        ("EIO=4&transport=polling&j=0", 400),
        ("EIO=4&transport=carrier-pigeon", 400),
        ("EIO=4&transport=polling&sid=made-up", 400),
        ("EIO=4&transport=websocket", 400),
        ("", 400),
    ],
)
def test_strange_requests_are_refused(poller, query, status):
    assert poller.ask("GET", f"/socket.io/?{query}")[0] == status
    assert poller.ask("POST", f"/socket.io/?{query}", b"40")[0] == status
    assert poller.ask("DELETE", f"/socket.io/?{query}")[0] == 405


@pytest.mark.parametrize("way", ["GET", "POST"])
def test_session_of_another_process_is_refused_and_the_log_says_what_to_do(poller, site, way):
    """As Socket.IO's own server answers, so that clients begin anew."""
    path = "/socket.io/?EIO=4&transport=polling&sid=of-another-process"
    before = site.processes[0].text().count("make the proxy sticky")
    for _ in range(20):
        status, text, _ = poller.ask(way, path, b"40" if way == "POST" else None)
        assert (status, json.loads(text)) == (400, {"code": 1, "message": "Session ID unknown"})
    lines = site.processes[0].text().count("make the proxy sticky")
    assert lines > 0
    assert lines - before < 20


@pytest.mark.parametrize(
    "packet",
    [
        "",
        "40",
        "7",
        "9",
        "4",
        "49",
        "4{}",
        "x",
        "4" + "[" * 50_000,
        b"\xff",
        '42["room.x",NaN]',
        '42["room.x",1e999]',
        '42["room.x",' + "1" * 5000 + "]",
        '42["room.x","\\ud800"]',
        '42["room.x",' + "[" * 30_000 + "]" * 30_000 + "]",
        "42[]",
        "42{}",
        "42[5]",
        "42",
        "44{}",
        "4" + "2" * 5000,
        "451-" + '["x",{"_placeholder":true,"num":0}]',
        "459999999999-[]",
        "4\u00b2",
    ],
)
def test_packets_that_are_none_end_that_session_only(poller, site, packet):
    poller.open()
    poller.connect(site.token())
    assert poller.post(packet) in (200, 400)
    other = Poller(site.url())
    other.open()
    other.connect(site.token())
    other.hear("ready")


async def test_packets_that_are_none_end_a_websocket_with_a_code(site):
    address = site.url().replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
    for packet in ("9", "4{}", "", "42[5]", '42["room.x",NaN]', "2" * 5000):
        async with connect(address, proxy=None) as ws:
            await ws.recv()
            await ws.send(f"40{json.dumps({'token': site.token()})}")
            await ws.send(packet)
            await asyncio.wait_for(ws.wait_closed(), 30)
            assert ws.close_code == 4503, packet


async def test_foreign_cookie_is_refused_before_the_upgrade(site):
    address = site.url().replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
    headers = {"Cookie": "sessionid=anything"}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(address, origin="https://evil.example", additional_headers=headers):
            pass
    assert refused.value.response.status_code == 403


def test_body_over_the_limit_is_refused(poller):
    poller.open()
    assert poller.post("4" + "x" * 70_000) == 413


def test_flood_is_held_back_and_bounded(poller, site):
    poller.open()
    poller.connect(site.token())
    assert poller.post(*["3"] * 1500) in (200, 400)
    assert poller.post(*["6"] * 1500) in (200, 400)
    assert poller.poll()[0] in (200, 400)


async def test_polls_at_once_end_the_session(poller, site):
    poller.open()
    poller.connect(site.token())
    polls = (asyncio.to_thread(poller.poll) for _ in range(6))
    assert 400 in [status for status, _ in await asyncio.gather(*polls)]
    assert (await asyncio.to_thread(poller.poll))[0] in (200, 400)
