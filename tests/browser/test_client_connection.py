"""The client's connection: opening, heartbeat, coming back, and not coming back."""

from __future__ import annotations

import pytest

from ..support.waiting import wait_until
from .conftest import ClientPage
from .fake_gateway import FakeGateway

FAR = {"base": 600_000, "cap": 600_000}  # a wait that no test sits out
NOW = {"base": 0, "cap": 0}


def test_connect_sends_token_and_opens(client: ClientPage, fake: FakeGateway):
    client.start(token="secret")
    peer = fake.accept()
    assert peer.expect("connect") == {"type": "connect", "token": "secret"}
    assert client.run("client.state.name") == "connecting"
    peer.ready(userId="7", expiresAt=1e10)
    client.wait_state("open")
    assert client.run("[client.userId, client.expiresAt]") == ["7", 1e10]
    assert client.states() == ["connecting", "open"]


def test_connect_without_token_leaves_it_to_the_cookie(client, fake):
    client.start()
    assert fake.accept().expect("connect") == {"type": "connect"}


def test_connect_asks_for_a_token_before_every_connection(client, fake):
    client.start(tokens=["one", "two"], backoff=NOW)
    peer = fake.accept()
    assert peer.expect("connect")["token"] == "one"
    peer.ready()
    peer.drop()
    assert fake.accept().expect("connect")["token"] == "two"


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009, 1011, 1012, 4000, 4001, 4002, 4005])
def test_close_code_of_a_passing_failure_comes_back(client, fake, code):
    client.start(backoff=NOW)
    fake.ready().close(code)
    fake.ready()
    client.wait_state("open")
    assert client.states() == ["connecting", "open", "reconnecting", "reconnecting", "open"]


def test_dropped_connection_comes_back(client, fake):
    client.start(backoff=NOW)
    fake.ready().drop()
    fake.ready()
    client.wait_state("open")


def test_refused_handshake_is_tried_again(client, fake):
    fake.refusing = True
    client.start(backoff={"base": 20, "cap": 20}, random=1)
    client.page.wait_for_function("log.filter(({ retryAt }) => retryAt).length >= 3")
    fake.refusing = False
    fake.ready()
    client.wait_state("open")


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503, 4504, 4999])
def test_close_code_of_a_final_refusal_stays_away(client, fake, code):
    client.start(backoff=NOW)
    peer = fake.ready()
    client.wait_state("open")
    peer.close(code, "because")
    state = client.wait("statechange", name="denied")
    assert (state["code"], state["reason"], state["retryAt"]) == (code, "because", None)
    # What would bring it back otherwise, does not.
    client.run("window.dispatchEvent(new Event('online'))")
    client.run("document.dispatchEvent(new Event('visibilitychange'))")
    client.call("late", "client.publish('room.1', 1)")
    assert client.wait("failed", name="late")["code"] == "DENIED"
    assert fake.attempts == 1


def test_denied_gives_the_sentence_of_the_error_frame(client, fake):
    client.start()
    peer = fake.accept()
    peer.expect("connect")
    peer.send("error", code="AUTH_FAILED", message="Your account is closed.")
    peer.close(4500)
    assert client.wait("statechange", name="denied")["reason"] == "Your account is closed."


def test_denied_comes_back_when_asked_to(client, fake):
    client.start()
    fake.ready().close(4504)
    client.wait_state("denied")
    client.run("client.reconnect()")
    fake.ready()
    client.wait_state("open")


def test_token_expired_comes_back_at_once_with_a_fresh_token(client, fake):
    client.start(tokens=["old", "new"], backoff={**FAR, "stableAfter": 0}, random=1)
    peer = fake.ready()
    client.wait_state("open")
    peer.close(4003)
    assert fake.accept().expect("connect")["token"] == "new"


def test_token_function_that_fails_is_tried_again(client, fake):
    client.run("window.failing = true")
    client.page.evaluate("""async () => {
        const { GatewayClient } = await import("/static/realtime/client.js");
        window.errors = [];
        window.client = new GatewayClient({
            storage: null,
            backoff: { base: 0 },
            token: async () => { if (failing) throw new Error("no network"); return "good"; },
        });
        client.addEventListener("error", ({ detail }) => {
            errors.push(detail.code); window.failing = false;
        });
        client.connect();
    }""")
    assert fake.accept().expect("connect")["token"] == "good"
    assert client.run("errors") == ["AUTH_REQUIRED"]


def test_backoff_grows_until_a_connection_was_stable(client, fake):
    fake.refusing = True
    client.run("""() => {
        window.delays = [];
        const set = window.setTimeout;
        window.setTimeout = (call, delay, ...rest) => {
            if (String(call).includes("#open")) delays.push(delay);
            return set(call, delay, ...rest);
        };
    }""")
    client.start(backoff={"base": 16, "cap": 64, "stableAfter": 0}, random=1)
    client.page.wait_for_function("delays.length >= 5")
    fake.refusing = False
    fake.ready().drop()
    # Lost again after it was open: only then the last wait is begun.
    client.page.wait_for_function(
        "log.some(({ name }) => name === 'open') && log.at(-1).name === 'reconnecting'"
    )
    delays = client.run("delays")
    assert delays[:5] == [16, 32, 64, 64, 64]
    assert delays[-1] == 16


def test_reconnect_frame_is_honoured(client, fake):
    client.start(backoff=FAR, random=1)
    peer = fake.ready()
    client.wait_state("open")
    client.run("""() => {
        window.told = Date.now();
        client.addEventListener("statechange", () => { window.seen ??= Date.now(); });
    }""")
    peer.send("reconnect", afterMs=250, reason="drain")
    state = client.wait("statechange", name="reconnecting")
    told, seen = client.run("[told, seen]")
    assert told + 250 <= state["retryAt"] <= seen + 250
    fake.ready()
    client.wait_state("open")
    assert peer.closed.wait(30)


def test_silence_before_ready_is_given_up(client, fake):
    client.stop_clock()
    client.start(connectTimeout=150, backoff=NOW)
    fake.accept()
    client.let_pass(149)
    assert client.states() == ["connecting"]
    client.let_pass(2)  # and the wait before the next attempt, which is none
    fake.ready()
    client.wait_state("open")


# Heartbeat


def test_heartbeat_is_sent_and_keeps_a_quiet_connection(client, fake):
    client.start()
    peer = fake.ready(heartbeat=0.05)
    wait_until(lambda: peer.pings >= 4, 30, what="four pings")
    assert client.states() == ["connecting", "open"]


def test_heartbeat_unanswered_is_death(client, fake):
    client.start(heartbeatGrace=100, backoff=NOW)
    peer = fake.ready(heartbeat=0.05)
    peer.deaf = True
    fake.ready()
    assert client.wait("statechange", name="reconnecting")["code"] == 4004


def test_heartbeat_any_traffic_is_a_sign_of_life(client, fake):
    client.stop_clock()
    client.start(heartbeatGrace=400, backoff=FAR, random=1)
    peer = fake.ready(heartbeat=0.05)
    peer.deaf = True
    client.wait_state("open")
    for sequence in range(12):
        client.let_pass(300)
        peer.send("error", code="INTERNAL", message=f"{sequence}")
        client.wait("error", message=f"{sequence}")
    assert client.states() == ["connecting", "open"]


# Waking up


def test_wake_with_a_dead_connection_reconnects_at_once(client, fake):
    client.start(probeTimeout=100, backoff=NOW)
    peer = fake.ready()
    client.wait_state("open")
    peer.deaf = True
    client.run("document.dispatchEvent(new Event('visibilitychange'))")
    fake.ready()
    client.page.wait_for_function("log.filter(({ name }) => name === 'open').length === 2")


def test_wake_with_a_live_connection_keeps_it(client, fake):
    client.start()
    peer = fake.ready()
    client.wait_state("open")
    client.run("document.dispatchEvent(new Event('visibilitychange'))")
    client.call("answer", "client.presence('room.1')")
    frame = peer.expect("presence")
    assert peer.pings == 1
    peer.send("reply", id=frame["id"], data=[])
    client.wait("done", name="answer")
    assert client.states() == ["connecting", "open"]


@pytest.mark.parametrize(
    "event",
    [
        "window.dispatchEvent(new Event('online'))",
        "window.dispatchEvent(new Event('pageshow'))",
        "document.dispatchEvent(new Event('visibilitychange'))",
        "document.dispatchEvent(new Event('resume'))",
        "client.reconnect()",
    ],
)
def test_wake_ends_the_wait(client, fake, event):
    client.start(backoff=FAR, random=1)
    fake.ready().drop()
    client.wait_state("reconnecting")
    client.run(event)
    fake.ready()
    client.wait_state("open")


def test_wake_after_sleep_is_noticed_by_the_clock(client, fake):
    """The lid was closed: no event, but the wall clock jumped."""
    client.page.clock.install()
    client.page.goto(fake.url)
    client.start(backoff=FAR, random=1)
    fake.ready().drop()
    client.wait_state("reconnecting")
    client.page.clock.fast_forward(60_000)  # far less than the wait
    fake.ready()


def test_wake_after_sleep_probes_before_giving_up(client, fake):
    """The socket survived the sleep: overdue timers are no reason to drop it."""
    client.page.clock.install()
    client.page.goto(fake.url)
    client.start(backoff=FAR, random=1)
    peer = fake.ready(heartbeat=25)
    client.wait_state("open")
    client.page.clock.fast_forward(3_600_000)
    client.call("answer", "client.presence('room.1')")
    frame = peer.expect("presence")
    peer.send("reply", id=frame["id"], data=[])
    client.wait("done", name="answer")
    assert client.states() == ["connecting", "open"]
    assert peer.pings >= 1


def test_offline_is_said_and_left_when_online(client, fake):
    client.start(backoff=FAR, random=1)
    peer = fake.ready()
    client.wait_state("open")
    client.page.context.set_offline(True)
    peer.drop()
    client.wait_state("offline")
    client.page.context.set_offline(False)
    fake.ready()
    client.wait_state("open")


# Ending


def test_close_rejects_what_is_open_and_stays_closed(client, fake):
    client.start()
    peer = fake.ready()
    client.wait_state("open")
    client.call("history", "client.history('room.1')")
    client.call("publish", "client.publish('room.1', 1)")
    client.call("subscribe", "client.subscribe('room.1')")
    peer.expect("history")
    client.run("client.close()")
    for name in ("history", "publish", "subscribe"):
        assert client.wait("failed", name=name)["code"] == "CLOSED"
    assert peer.closed.wait(30)
    client.run("window.dispatchEvent(new Event('online'))")
    assert client.run("client.state.name") == "closed"
    assert fake.attempts == 1


def test_expiring_sends_a_fresh_token(client, fake):
    client.start(tokens=["one", "two"])
    peer = fake.ready(expiresAt=100)
    client.wait_state("open")
    peer.send("expiring", expiresAt=100)
    frame = peer.expect("refresh")
    assert frame["token"] == "two"
    peer.ready(id=frame["id"], expiresAt=200)
    client.page.wait_for_function("client.expiresAt === 200")
    assert client.states() == ["connecting", "open"]


def test_garbage_from_the_gateway_is_ignored(client, fake):
    client.start()
    peer = fake.ready()
    for text in ("", "{", "[]", "null", '{"type":"nonsense","topic":"x"}', '{"type":7}'):
        peer.send_text(text)
    client.call("answer", "client.presence('room.1')")
    peer.send("reply", id=peer.expect("presence")["id"], data=[1])
    assert client.wait("done", name="answer")["value"] == [1]
