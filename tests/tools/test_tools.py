"""The tools on a real gateway: both sides, requests, and who they are."""

from __future__ import annotations

import json

import pytest
import yaml

from realtime.broker import connected
from realtime.nats_client import Message

from ..support.processes import START
from ..support.proxy import Proxy
from ..support.waiting import DEADLINE, until, wait_until
from .conftest import listening


def test_produce_and_consume_as_a_client(tools, topic):
    sent = tools.run("produce", "-u", tools.ws, "-t", topic, "-m", '{"notes": "hi"}')
    assert (sent.code, sent.out) == (0, "")
    assert f"sent topic={topic} seq=" in sent.log
    got = tools.run("consume", "-u", tools.ws, "-t", topic, "--since", "0", "--count", "1")
    assert got.code == 0
    assert topic in got.out
    assert got.out.endswith('{"notes":"hi"}\n')


def test_produce_and_consume_as_a_backend(tools, topic):
    sent = tools.run("produce", "-u", tools.nats, "-t", topic, "-m", "[1]", "--message-id", "m1")
    again = tools.run("produce", "-u", tools.nats, "-t", topic, "-m", "[1]", "--message-id", "m1")
    assert (sent.code, again.code) == (0, 0)
    assert "(stored before)" in again.log
    got = tools.run(
        "consume", "-u", tools.nats, "-t", topic, "--since", "0", "--count", "1", "--log", "json"
    )
    assert got.code == 0
    assert got.data == [[1]]
    assert got.lines[0]["messageId"] == "m1"


def test_scenario_is_sent_in_order_and_a_dump_of_it_is_one(tools, topic, tmp_path):
    inner = [{"payload": n, "delay": 1} for n in range(20)]
    (tmp_path / "inner.yaml").write_text(yaml.safe_dump(inner))
    (tmp_path / "outer.yaml").write_text(
        yaml.safe_dump([{"payload": "first"}, {"scenario": "inner.yaml"}])
    )
    scenario = str(tmp_path / "outer.yaml")
    sent = tools.run("produce", "-u", tools.ws, "-t", topic, "-s", scenario, "--log", "json")
    assert sent.code == 0
    assert json.loads(sent.log.splitlines()[-1])["message"].startswith("done sent=21 ")
    dump = tmp_path / "dump.yaml"
    since = ("--since", "0", "--count", "21", "--log", "json")
    got = tools.run("consume", "-u", tools.ws, "-t", topic, *since, "--dump", str(dump))
    assert got.data == ["first", *range(20)]
    assert tools.run("produce", "-u", tools.nats, "-s", str(dump)).code == 0
    assert len(yaml.safe_load(dump.read_text())) == 21
    after = got.lines[-1]["seqNo"]
    again = ("--since", str(after), "--count", "21", "--log", "json")
    replayed = tools.run("consume", "-u", tools.nats, "-t", topic, *again)
    assert replayed.data == ["first", *range(20)]


def test_scenario_with_a_mistake_sends_nothing(tools, topic, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump([{"payload": 1}, {"file": "missing.json"}]))
    sent = tools.run("produce", "-u", tools.ws, "-t", topic, "-s", str(path))
    assert sent.code == 2
    assert "missing.json cannot be read" in sent.log
    got = tools.run(
        *("consume", "-u", tools.nats, "-t", topic),
        *("--since", "0", "--count", "1", "--timeout", "8"),
    )
    assert (got.code, got.out) == (5, "")


async def test_consume_reconnects_and_resumes(tools, topic, live):
    async with Proxy(live.ports[0]) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}/ws/"
        consumer = tools.start("consume", "-u", url, "-t", topic, "--since", "0", "--count", "30")
        await until(lambda: consumer.find("connection open"), START)
        async with live.client(live.token("bob")) as bob:
            for n in range(30):
                await bob.publish(topic, {"n": n})
                if n == 10:
                    await until(lambda: consumer.find(r'"n":10'))
                    proxy.abort()
        await until(lambda: not consumer.is_alive())
    assert consumer.returncode == 0
    numbers = [json.loads(line.split()[-1])["n"] for line in consumer.text().splitlines()
               if topic in line and '{"n"' in line]  # fmt: skip
    assert numbers == list(range(30))
    assert "connection lost, coming back" in consumer.text()


async def test_consume_on_nats_resumes_from_the_stream(tools, topic, live):
    async with Proxy(live.nats_port) as proxy, connected(live.nats_url, name="test") as broker:
        url = f"nats://127.0.0.1:{proxy.port}"
        consumer = tools.start("consume", "-u", url, "-t", topic, "--since", "0", "--count", "20")
        for n in range(20):
            await broker.store(topic, b'{"n":%d}' % n, headers=None, timeout=DEADLINE)
            if n == 5:
                await until(lambda: consumer.find(r'"n":5'), START)
                proxy.abort()
        await until(lambda: not consumer.is_alive())
    assert consumer.returncode == 0
    numbers = [json.loads(line.split()[-1])["n"] for line in consumer.text().splitlines()
               if '{"n"' in line]  # fmt: skip
    assert numbers == list(range(20))


# Requests


def test_rpc_asks_and_prints_the_reply(tools, live):
    subject = "rpc.tools.echo"
    answering = tools.start("consume", "-u", tools.nats, "-t", subject, "--rpc", "--count", "2")
    listening(answering)

    def asked():  # the subscription follows the connection by a moment
        done = tools.run("produce", "-u", tools.ws, "-t", subject, "--rpc", "-m", '{"a": 1}')
        return done if done.code != 6 else None

    done = wait_until(asked, START, what="a reply")
    assert (done.code, done.out) == (0, '{"a":1}\n')
    done = tools.run("produce", "-u", tools.nats, "-t", subject, "--rpc", "-m", "[2]")
    assert (done.code, done.out) == (0, "[2]\n")
    assert answering.wait() == 0


@pytest.mark.parametrize("side", ["ws", "nats"])
def test_rpc_without_responder_has_its_own_exit_code(tools, side):
    url = getattr(tools, side)
    done = tools.run("produce", "-u", url, "-t", "rpc.nobody", "--rpc", "-m", "1")
    assert done.code == 6
    assert "NO_RESPONDER" in done.log


@pytest.mark.parametrize("side", ["ws", "nats"])
async def test_rpc_without_reply_in_time_has_another(tools, live, side):
    asked = []

    async def ignore(message: Message) -> None:
        asked.append(message)

    async with connected(live.nats_url, name="test") as broker:
        await broker.subscribe("rpc.silent", ignore)
        await broker.flush(DEADLINE)
        asking = tools.start(
            *("produce", "-u", getattr(tools, side), "-t", "rpc.silent", "--rpc"),
            *("-m", "1", "--timeout", "8"),
        )
        await until(lambda: not asking.is_alive(), START)
    assert asking.returncode == 5
    assert "TIMEOUT: " in asking.text()
    assert len(asked) == 1


# Who it is


@pytest.mark.parametrize(
    ("options", "env", "complaint"),
    [
        ((), {"GATEWAY_TOKEN": ""}, "wants to know who you are"),
        (("--token", "a", "--login", "b"), {}, "Give one of"),
        (("--token-file", "/no/such/file"), {}, "cannot be read"),
        (("--login", "alice"), {}, "set GATEWAY_PASSWORD"),
    ],
)
def test_credentials_that_cannot_be_used_are_told(tools, options, env, complaint):
    done = tools.run("consume", "-u", tools.ws, "-t", "room.a", *options, **env)
    assert done.code == 2
    assert complaint in done.log


def test_token_comes_from_option_file_and_standard_input_and_is_never_shown(tools, topic, live):
    token = live.token("bob")
    file = tools.directory / "token"
    file.write_text(token + "\n")
    for options, stdin in (
        (("--token", token), ""),
        (("--token-file", str(file)), ""),
        (("--token-file", "-"), token),
    ):
        done = tools.run(
            *("produce", "-u", tools.ws, "-t", topic, "-m", "1", *options),
            stdin=stdin,
            GATEWAY_TOKEN="not.looked.at",
        )
        assert done.code == 0, done.log
        assert token not in done.log + done.out
        assert ("seen by every user" in done.log) is (options[0] == "--token")


def test_login_by_password(tools, topic):
    sent = ("produce", "-u", tools.ws, "-t", topic, "-m", "1", "--login", "bob")
    assert tools.run(*sent, GATEWAY_PASSWORD="bob").code == 0
    wrong = tools.run(*sent, GATEWAY_PASSWORD="wrong-and-secret")
    assert wrong.code == 4
    assert "refused the username or password" in wrong.log
    assert "wrong-and-secret" not in wrong.log


def test_denied_token_has_its_exit_code(tools):
    done = tools.run("consume", "-u", tools.ws, "-t", "room.a", GATEWAY_TOKEN="no.good.token")
    assert done.code == 4
    assert "no.good.token" not in done.log


def test_topic_that_no_rule_allows_has_it_too(tools):
    done = tools.run("consume", "-u", tools.ws, "-t", "user.0.x")
    assert done.code == 4
    assert "ACL_DENIED" in done.log
