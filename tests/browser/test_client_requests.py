"""The client's questions and publishing: answers, deadlines, and once only."""

from __future__ import annotations

import pytest

from .conftest import ClientPage
from .fake_gateway import FakeGateway, Peer

NOW = {"base": 0, "cap": 0}


@pytest.fixture
def peer(client: ClientPage, fake: FakeGateway) -> Peer:
    client.start(backoff=NOW)
    peer = fake.ready()
    client.wait_state("open")
    return peer


def test_answers_find_their_questions_in_any_order(client, peer):
    client.call("one", "client.request('rpc.a', { x: 1 })")
    client.call("two", "client.request('rpc.b', null, { timeout: 1500 })")
    one, two = peer.expect("request"), peer.expect("request")
    assert (one["payload"], two["timeout"]) == ({"x": 1}, 1.5)
    peer.send("reply", id=two["id"], data="two")
    peer.send("reply", id=one["id"], data="one")
    assert client.wait("done", name="one")["value"] == "one"
    assert client.wait("done", name="two")["value"] == "two"


def test_error_rejects_its_question_and_is_no_event(client, peer):
    client.call("ask", "client.request('rpc.a')")
    frame = peer.expect("request")
    peer.send("error", id=frame["id"], code="NO_RESPONDER", message="Nobody.", topic="rpc.a")
    failed = client.wait("failed", name="ask")
    assert (failed["code"], failed["message"], failed["topic"]) == (
        "NO_RESPONDER",
        "Nobody.",
        "rpc.a",
    )
    assert client.log("error") == []


def test_error_without_question_is_an_event(client, peer):
    peer.send("error", code="RATE_LIMITED", message="Slow down.")
    assert client.wait("error")["code"] == "RATE_LIMITED"


def test_question_without_answer_times_out(client, fake):
    client.start(replyTimeout=100)
    fake.ready()
    client.call("ask", "client.presence('room.1')")
    assert client.wait("failed", name="ask")["code"] == "TIMEOUT"


def test_question_over_a_lost_connection_is_rejected(client, peer):
    client.call("ask", "client.presence('room.1')")
    peer.expect("presence")
    peer.drop()
    assert client.wait("failed", name="ask")["code"] == "DISCONNECTED"


def test_question_before_the_connection_waits_for_it(client, fake):
    client.start()
    client.call("ask", "client.presence('room.1')")
    peer = fake.ready()
    peer.send("reply", id=peer.expect("presence")["id"], data=[{"user": "7"}])
    assert client.wait("done", name="ask")["value"] == [{"user": "7"}]


def test_history_is_a_list_of_messages(client, peer):
    client.call("page", "client.history('room.1', { limit: 2, before: 9 })")
    frame = peer.expect("history")
    assert (frame["limit"], frame["before"]) == (2, 9)
    event = {"type": "message", "topic": "room.1", "seqNo": 8, "messageId": "m", "data": 1, "ts": 5}
    peer.send("reply", id=frame["id"], data=[event])
    assert client.wait("done", name="page")["value"][0]["seqNo"] == 8


def test_publish_resolves_with_its_ack(client, peer):
    client.call("publish", "client.publish('room.1', { text: 'hi' })")
    frame = peer.expect("publish")
    assert (frame["topic"], frame["payload"]) == ("room.1", {"text": "hi"})
    peer.send("ack", messageId=frame["messageId"], status="ok", seqNo=4)
    assert client.wait("done", name="publish")["value"]["seqNo"] == 4


def test_publish_unconfirmed_is_sent_again_with_the_same_id(client, fake, peer):
    client.call("one", "client.publish('room.1', 1)")
    client.call("two", "client.publish('room.1', 2)")
    first = [peer.expect("publish"), peer.expect("publish")]
    peer.drop()
    again = fake.ready()
    second = [again.expect("publish"), again.expect("publish")]
    assert [(f["messageId"], f["payload"]) for f in second] == [
        (f["messageId"], f["payload"]) for f in first
    ]
    for frame in second:
        again.send("ack", messageId=frame["messageId"], status="duplicate", seqNo=4)
    assert client.wait("done", name="one")["value"]["status"] == "duplicate"
    client.wait("done", name="two")


def test_publish_confirmed_is_not_sent_again(client, fake, peer):
    client.call("one", "client.publish('room.1', 1)")
    frame = peer.expect("publish")
    peer.send("ack", messageId=frame["messageId"], status="ok", seqNo=4)
    client.wait("done", name="one")
    peer.drop()
    again = fake.ready()
    client.call("ask", "client.presence('room.1')")
    again.expect("presence")


def test_publish_refused_rejects(client, peer):
    client.call("publish", "client.publish('room.1', 1, { messageId: 'mine' })")
    frame = peer.expect("publish")
    assert frame["messageId"] == "mine"
    peer.send("error", id=frame["id"], code="ACL_DENIED", message="No.", messageId="mine")
    assert client.wait("failed", name="publish")["code"] == "ACL_DENIED"


def test_publish_refused_for_now_is_sent_again(client, peer):
    client.call("publish", "client.publish('room.1', 1)")
    frame = peer.expect("publish")
    peer.send("error", code="UNAVAILABLE", message="Later.", messageId=frame["messageId"])
    again = peer.expect("publish")
    assert again["messageId"] == frame["messageId"]
    peer.send("ack", messageId=frame["messageId"], status="ok", seqNo=4)
    client.wait("done", name="publish")
    assert client.log("error") == []


def test_publish_has_a_deadline(client, fake):
    fake.refusing = True
    client.start(publishTimeout=150, backoff={"base": 20, "cap": 20})
    client.call("publish", "client.publish('room.1', 1)")
    assert client.wait("failed", name="publish")["code"] == "TIMEOUT"


def test_publish_too_big_for_the_gateway_is_not_sent_for_ever(client, fake, peer):
    client.call("big", "client.publish('room.1', 'x'.repeat(9000))")
    client.call("small", "client.publish('room.1', 1)")
    peer.expect("publish")
    peer.expect("publish")
    peer.close(1009)
    assert client.wait("failed", name="big")["code"] == "TOO_LARGE"
    assert fake.ready().expect("publish")["payload"] == 1


def test_publish_keeps_few_unconfirmed(client, peer):
    client.run("() => { for (let i = 0; i < 40; i += 1) client.publish('room.1', i); }")
    frames = [peer.expect("publish") for _ in range(32)]
    client.call("ask", "client.presence('room.1')")
    peer.expect("presence")  # and not one more
    peer.send("ack", messageId=frames[0]["messageId"], status="ok", seqNo=1)
    assert peer.expect("publish")["payload"] == 32
