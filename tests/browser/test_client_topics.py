"""The client's topics: joined, joined again, without loss, repeats or disorder."""

from __future__ import annotations

import pytest

from .conftest import ClientPage
from .fake_gateway import FakeGateway, Peer

T = "user.7.notifications"
NOW = {"base": 0, "cap": 0}
# A client that keeps its positions in sessionStorage.
START_STORED = f"""async () => {{
    const {{ GatewayClient }} = await import("/static/realtime/client.js");
    window.log = [];
    window.client = new GatewayClient({{ replyTimeout: 60_000 }});
    client.addEventListener("message", ({{ detail }}) =>
        log.push({{ type: "message", ...detail }}));
    client.connect();
    client.subscribe("{T}", {{}});
}}"""


@pytest.fixture
def peer(client: ClientPage, fake: FakeGateway) -> Peer:
    """Return the gateway's end of an open connection that comes back at once when lost."""
    client.start(backoff=NOW)
    peer = fake.ready()
    client.wait_state("open")
    return peer


@pytest.fixture
def timed(client: ClientPage, fake: FakeGateway) -> Peer:
    """Return the same, of a client that waits 300 ms for what is missing, by a clock of the test's.

    So nothing is given up because an answer of the test's took its time.
    """
    client.stop_clock()
    client.start(replayTimeout=300, backoff=NOW)
    peer = fake.ready()
    client.wait_state("open")
    return peer


def subscribe(client: ClientPage, options: str = "{}") -> None:
    client.call("subscribe", f"client.subscribe('{T}', {options})")


def test_subscribe_resolves_and_delivers(client, peer):
    subscribe(client, "{ onMessage: ({ data }) => { window.handled = data; } }")
    frame = peer.subscribed(5)
    assert {key: frame[key] for key in frame if key != "id"} == {"type": "subscribe", "topic": T}
    assert client.wait("done", name="subscribe")["value"]["seqNo"] == 5
    peer.message(T, 9, 5)
    client.wait_messages(9)
    assert client.run("handled") == 9


def test_subscribe_before_the_connection_waits_for_it(client, fake):
    client.start()
    subscribe(client)
    peer = fake.ready()
    peer.subscribed(5)
    client.wait("done", name="subscribe")


@pytest.mark.parametrize("code", ["ACL_DENIED", "BAD_TOPIC", "TOO_MANY_SUBSCRIPTIONS"])
def test_subscribe_refused_rejects_and_is_not_asked_again(client, fake, peer, code):
    subscribe(client)
    frame = peer.expect("subscribe")
    peer.send("error", id=frame["id"], code=code, message="No.", topic=T)
    failed = client.wait("failed", name="subscribe")
    assert (failed["code"], failed["message"], failed["topic"]) == (code, "No.", T)
    client.wait("unsubscribed", topic=T)
    peer.drop()
    again = fake.ready()
    client.call("answer", "client.presence('room.1')")
    again.expect("presence")


def test_subscribe_that_may_pass_later_is_asked_again(client, peer):
    client.page.clock.install()
    subscribe(client)
    frame = peer.expect("subscribe")
    peer.send("error", id=frame["id"], code="UNAVAILABLE", message="Later.", topic=T)
    client.page.clock.run_for(2_500)
    peer.subscribed(5)
    client.wait("done", name="subscribe")


def test_subscribe_options_reach_the_gateway(client, peer):
    subscribe(client, "{ since: 3, epoch: 'e0', qos: 1, durable: 'desk' }")
    frame = peer.expect("subscribe")
    assert (frame["since"], frame["epoch"], frame["qos"], frame["durable"]) == (3, "e0", 1, "desk")


def test_subscribe_durable_goes_on_from_the_gateway_s_position(client, peer):
    subscribe(client, "{ durable: 'desk' }")
    peer.subscribed(5)
    for seq in (4, 5, 6):  # 4 and 5 were missed
        peer.message(T, seq)
    client.wait_messages(4, 5, 6)
    assert peer.expect("ack")["seqNo"] == 4


def test_presence_is_told_to_who_asks_for_it(client, peer):
    subscribe(client, "{ onPresence: ({ joined, left }) => { window.seen = [joined, left]; } }")
    assert peer.subscribed(5)["presence"] is True
    joined = [{"userId": "2", "info": {"name": "bob"}}]
    peer.send("presence", topic=T, joined=joined, left=["3"])
    client.page.wait_for_function("window.seen")
    assert client.run("window.seen") == [joined, ["3"]]


def test_pattern_delivers_the_events_of_its_topics(client, peer):
    client.call(
        "subscribe", "client.subscribe('room.*', { onMessage: (m) => { window.handled = m; } })"
    )
    assert peer.subscribed(5)["topic"] == "room.*"
    peer.message("room.a", 9, 5, pattern="room.*")
    peer.message("room.b", 10, 0, pattern="room.*")
    peer.message("room.a", 9, 5, pattern="room.*")  # a repeat
    peer.message("room.a", 12, 9, pattern="room.*")
    client.wait_messages(9, 10, 12)
    assert client.run("[handled.topic, handled.pattern]") == ["room.a", "room.*"]


def test_unsubscribe_leaves_and_keeps_the_position(client, peer):
    subscribe(client)
    peer.subscribed(5)
    peer.message(T, 6)
    client.wait_messages(6)
    client.call("leave", f"client.unsubscribe('{T}')")
    frame = peer.expect("unsubscribe")
    peer.message(T, 7)
    peer.send("unsubscribed", id=frame["id"], topic=T, reason="client")
    client.wait("done", name="leave")
    subscribe(client)
    assert peer.subscribed(7)["since"] == 6
    peer.message(T, 7)
    client.wait_messages(6, 7)


def test_message_on_a_topic_not_wanted_is_ignored(client, peer):
    peer.message("room.1", 6)
    subscribe(client)
    peer.subscribed(5)
    peer.message(T, 6)
    client.wait_messages(6)


def test_message_with_bytes_is_a_uint8array(client, peer):
    subscribe(client, "{ onMessage: ({ data }) => { window.got = data; } }")
    peer.subscribed(5)
    peer.message(T, 6, data="AP8=", encoding="base64")
    client.page.wait_for_function("window.got instanceof Uint8Array")
    assert client.run("[...got]") == [0, 255]


def test_ephemeral_messages_have_no_sequence(client, peer):
    client.call("subscribe", "client.subscribe('live.1')")
    peer.subscribed(0, epoch="")
    for data in ("a", "a"):
        peer.send("message", topic="live.1", messageId="m", data=data, ts=1)
    client.wait_messages("a", "a")
    assert client.log("message")[0]["seqNo"] is None


def test_duplicates_are_dropped(client, peer):
    subscribe(client)
    peer.subscribed(5)
    for sequence in (6, 6, 7, 6, 7, 8):
        peer.message(T, sequence)
    client.wait_messages(6, 7, 8)


# Coming back


def test_reconnect_resubscribes_from_the_last_sequence(client, fake, peer):
    subscribe(client)
    peer.subscribed(5)
    peer.message(T, 6)
    client.wait_messages(6)
    peer.drop()
    again = fake.ready()
    frame = again.subscribed(8)
    assert (frame["since"], frame["epoch"]) == (6, "e1")
    for sequence in (7, 8, 9):
        again.message(T, sequence)
    client.wait_messages(6, 7, 8, 9)
    assert client.log("gap") == []


def test_reload_resubscribes_from_the_stored_sequence(client, fake):
    client.page.evaluate(START_STORED)
    peer = fake.ready()
    peer.subscribed(5)
    peer.message(T, 6)
    client.wait_messages(6)
    client.page.reload()
    client.page.evaluate(START_STORED)
    frame = fake.ready().expect("subscribe")
    assert (frame["since"], frame["epoch"]) == (6, "e1")


def test_reload_as_another_user_starts_at_the_top(client, fake):
    client.page.evaluate(START_STORED)
    peer = fake.ready(userId="7")
    peer.subscribed(5)
    peer.message(T, 6)
    client.wait_messages(6)
    client.page.reload()
    client.page.evaluate(START_STORED)
    assert "since" not in fake.ready(userId="8").expect("subscribe")


def test_another_user_on_the_same_client_starts_at_the_top(client, fake, peer):
    subscribe(client)
    peer.subscribed(5)
    peer.message(T, 6)
    client.wait_messages(6)
    peer.drop()
    assert "since" not in fake.ready(userId="8").expect("subscribe")


def test_topics_that_the_gateway_joins_are_kept_whole_too(client, fake):
    client.start(backoff=NOW)
    peer = fake.ready(subscriptions=[T])
    peer.subscribed(5)
    peer.message(T, 6)
    client.wait_messages(6)
    peer.drop()
    assert fake.ready(subscriptions=[T]).expect("subscribe")["since"] == 6


def test_topics_that_the_gateway_joins_are_left_when_unwanted(client, fake):
    client.start()
    client.call("leave", f"client.unsubscribe('{T}')")
    assert fake.ready(subscriptions=[T]).expect("unsubscribe")["topic"] == T


@pytest.mark.parametrize("reason", ["acl", "server"])
def test_unsubscribed_by_the_gateway_is_told_and_final(client, fake, peer, reason):
    subscribe(client)
    peer.subscribed(5)
    peer.send("unsubscribed", topic=T, reason=reason)
    client.wait("unsubscribed", topic=T, reason=reason)
    peer.drop()
    again = fake.ready()
    client.call("answer", "client.presence('room.1')")
    again.expect("presence")


# Holes


def test_hole_is_replayed_and_delivered_in_order(client, peer):
    subscribe(client)
    peer.subscribed(5)
    peer.message(T, 6)
    peer.message(T, 9)
    peer.message(T, 10)
    frame = peer.expect("replay")
    assert (frame["topic"], frame["fromSeq"]) == (T, 7)
    assert client.messages() == [6]
    for sequence in (7, 8, 9, 10):
        peer.message(T, sequence)
    client.wait_messages(6, 7, 8, 9, 10)
    assert client.log("gap") == []


def test_hole_that_cannot_be_filled_is_a_gap_after_the_deadline(client, timed):
    subscribe(client)
    timed.subscribed(5)
    timed.message(T, 9)
    for _ in range(2):
        assert timed.expect("replay")["fromSeq"] == 6
        assert client.log("gap") == []
        client.let_pass(300)
    gap = client.wait("gap")
    assert (gap["topic"], gap["fromSeq"], gap["toSeq"]) == (T, 6, 8)
    client.wait_messages(9)


def test_hole_is_not_given_up_while_the_gateway_cannot_look(client, timed):
    subscribe(client)
    timed.subscribed(5)
    timed.message(T, 7)
    for number in range(4):
        frame = timed.expect("replay")
        timed.send("error", id=frame["id"], code="UNAVAILABLE", message="NATS is away.", topic=T)
        # Frames are handled in order: once this one is told, the one before it has counted.
        timed.send("error", code="INTERNAL", message=f"{number}")
        client.wait("error", message=f"{number}")
        client.let_pass(300)
    assert client.log("gap") == []
    timed.message(T, 6)
    client.wait_messages(6, 7)


def test_missed_events_that_do_not_follow_are_asked_for(client, timed):
    subscribe(client, "{ since: 5, epoch: 'e1' }")
    timed.subscribed(7)
    timed.message(T, 6)
    client.wait_messages(6)
    client.let_pass(300)
    assert timed.expect("replay")["fromSeq"] == 7
    timed.message(T, 7)
    client.wait_messages(6, 7)


def test_gap_frame_is_told_and_passed(client, peer):
    subscribe(client, "{ since: 5, epoch: 'e1' }")
    peer.subscribed(12, recovered=False)
    peer.send("gap", topic=T, fromSeq=6, toSeq=10)
    peer.message(T, 11)
    peer.message(T, 12)
    client.wait_messages(11, 12)
    gaps = client.log("gap")
    assert [(gap["fromSeq"], gap["toSeq"]) for gap in gaps] == [(6, 10)]


def test_not_recovered_without_gap_frame_is_a_gap_all_the_same(client, peer):
    subscribe(client, "{ since: 5, epoch: 'e1' }")
    peer.subscribed(12, recovered=False)
    peer.message(T, 12, 10)
    client.wait_messages(12)
    gaps = client.log("gap")
    assert [(gap["fromSeq"], gap["toSeq"]) for gap in gaps] == [(6, 10)]


def test_reset_forgets_the_position(client, fake, peer):
    subscribe(client)
    peer.subscribed(500)
    peer.send("reset", topic=T, epoch="e2")
    peer.message(T, 1, 0)
    client.wait_messages(1)
    assert client.wait("reset")["epoch"] == "e2"
    peer.drop()
    frame = fake.ready(epoch="e2").expect("subscribe")
    assert (frame["since"], frame["epoch"]) == (1, "e2")


def test_replay_delivers_again(client, peer):
    subscribe(client)
    peer.subscribed(5)
    peer.message(T, 6)
    peer.message(T, 7)
    client.wait_messages(6, 7)
    client.call("replay", f"client.replay('{T}', 6)")
    assert peer.expect("replay")["fromSeq"] == 6
    client.wait("done", name="replay")
    peer.message(T, 8)
    peer.message(T, 6, redelivered=True)
    peer.message(T, 7, redelivered=True)
    client.wait_messages(6, 7, 6, 7, 8)


# QoS 1


def test_qos1_confirms_after_the_handler(client, peer):
    subscribe(
        client,
        "{ qos: 1, onMessage: () => new Promise((done) => { (window.gates ??= []).push(done); }) }",
    )
    assert peer.subscribed(5)["qos"] == 1
    peer.message(T, 6)
    peer.message(T, 7)
    client.wait_messages(6, 7)
    client.run("gates[1]()")  # the later one first: only what came before both is done with
    assert peer.expect("ack")["seqNo"] == 5
    client.run("gates[0]()")
    assert peer.expect("ack")["seqNo"] == 7


def test_qos1_repeat_of_a_confirmed_event_is_confirmed_again(client, peer):
    subscribe(client, "{ qos: 1 }")
    peer.subscribed(5)
    peer.message(T, 6)
    assert peer.expect("ack")["seqNo"] == 6
    peer.message(T, 6, redelivered=True)
    assert peer.expect("ack")["seqNo"] == 6
    assert client.messages() == [6]


def test_qos1_failed_handler_gets_the_repeat(client, peer):
    subscribe(
        client,
        """{ qos: 1, onMessage: () => {
            window.calls = (window.calls ?? 0) + 1;
            if (calls === 1) throw new Error("database is away");
        } }""",
    )
    peer.subscribed(5)
    peer.message(T, 6)
    client.page.wait_for_function("window.calls === 1")
    peer.message(T, 6, redelivered=True)
    assert peer.expect("ack")["seqNo"] == 6
    assert client.run("calls") == 2


def test_qos1_handler_that_never_works_is_told_and_passed(client, peer):
    subscribe(client, "{ qos: 1, onMessage: () => { throw new Error('poison'); } }")
    peer.subscribed(5)
    for _ in range(3):
        peer.message(T, 6, redelivered=True)
    assert client.wait("error")["code"] == "HANDLER"
    assert peer.expect("ack")["seqNo"] == 6


def test_qos1_unconfirmed_event_is_asked_for_after_a_reload(client, fake):
    script = START_STORED.replace("{}", "{ qos: 1, ack: 'manual' }")
    client.page.evaluate(script)
    peer = fake.ready()
    peer.subscribed(5)
    peer.message(T, 6)
    peer.message(T, 7)
    client.wait_messages(6, 7)
    client.run(f"client.ack({{ topic: '{T}', seqNo: 6 }})")
    assert peer.expect("ack")["seqNo"] == 6
    client.page.reload()
    client.page.evaluate(script)
    assert fake.ready().expect("subscribe")["since"] == 6
