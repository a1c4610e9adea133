"""The tools as a NATS user with least rights, on a server with deploy/nats/nats.conf."""

from __future__ import annotations

import pytest

from realtime.broker import connected

from ..deploy.nats_server import nats_server

STREAM = {
    "name": "GATEWAY",
    "subjects": ["user.>", "room.>"],
    "storage": "file",
    "allow_direct": True,
    "republish": {"src": ">", "dest": "gateway.relay.>"},
}


@pytest.mark.parametrize(
    ("user", "args", "verb"),
    [
        ("backend", ("consume", "-t", "room.a"), "subscribe to room.a"),
        ("backend", ("consume", "-t", "other.A", "--rpc"), "subscribe to other.A"),
        ("backend", ("produce", "-t", "other.a", "-m", "1"), "publish on other.a"),
        ("backend", ("produce", "-t", "rpc.a", "-m", "1", "--rpc"), "publish on rpc.a"),
        ("bridge", ("produce", "-t", "room.a", "-m", "1"), "publish on room.a"),
    ],
)
def test_what_nats_does_not_allow_is_denied(tools, tmp_path, user, args, verb):
    timeout = ("--timeout", "5") if args[0] == "produce" else ("--timeout", "60")
    with nats_server(tmp_path) as server:
        url = ("-u", server.url(user))
        done = tools.run(*args, *url, *timeout, NATS_INBOX_PREFIX=f"_INBOX_{user}")
    assert done.code == 4
    assert f"The user of this address may not {verb} on NATS: " in done.log
    assert "sent" not in done.log


async def test_replies_come_to_the_inbox_that_the_settings_name(tools, tmp_path):
    with nats_server(tmp_path) as server:
        inbox = {"inbox_prefix": "_INBOX_gateway"}
        async with connected(server.url("gateway"), name="test", **inbox) as broker:
            await broker.ensure_stream(STREAM, timeout=30)
        send = ("produce", "-u", server.url("backend"), "-t", "room.a", "-m", "1")
        sent = tools.run(*send, NATS_INBOX_PREFIX="_INBOX_backend")
        assert (sent.code, "seq=1" in sent.log) == (0, True), sent.log
        refused = tools.run(*send, "--timeout", "5")
        assert refused.code == 3
        assert 'permissions violation for subscription to "_inbox.' in refused.log
