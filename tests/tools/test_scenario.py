"""Scenarios and payloads: what is read, and what is refused before anything is sent."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from realtime.client import Message
from realtime.tools.dump import Dump
from realtime.tools.outcome import UsageError
from realtime.tools.output import Output
from realtime.tools.payloads import load, parse_payload
from realtime.tools.scenario import Step, read_scenario

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_scenario_lists_messages_with_topic_and_delay(tmp_path):
    path = write(
        tmp_path / "s.yaml",
        [
            {"topic": "room.a", "payload": {"n": 1}, "messageId": "m"},
            {"payload": None, "delay": 250},
        ],
    )
    assert read_scenario(path, "room.b") == [
        Step("room.a", {"n": 1}, 0.0, "m"),
        Step("room.b", None, 0.25),
    ]


def test_scenario_files_and_scenarios_are_relative_to_the_one_that_names_them(tmp_path):
    write(tmp_path / "deep" / "payloads" / "one.json", '{"n": 1}')
    write(tmp_path / "deep" / "inner.yaml", [{"file": "payloads/one.json", "delay": 5}] * 2)
    outer = [{"scenario": "deep/inner.yaml", "topic": "room.a", "delay": 100}]
    path = write(tmp_path / "outer.json", json.dumps(outer))
    steps = read_scenario(path, None)
    assert [(step.topic, step.payload) for step in steps] == [("room.a", {"n": 1})] * 2
    assert [step.delay for step in steps] == pytest.approx([0.105, 0.005])


def test_scenario_may_include_another_twice(tmp_path):
    write(tmp_path / "one.yaml", [{"topic": "t", "payload": 1}])
    path = write(tmp_path / "s.yaml", [{"scenario": "one.yaml"}] * 3)
    assert len(read_scenario(path, None)) == 3


def test_scenario_circle_is_refused_and_named(tmp_path):
    write(tmp_path / "b.yaml", [{"scenario": "./a.yaml"}])
    path = write(tmp_path / "a.yaml", [{"scenario": "b.yaml"}])
    with pytest.raises(UsageError, match=r"circle: a\.yaml → b\.yaml → a\.yaml"):
        read_scenario(path, None)


def test_scenario_circle_through_a_link_is_refused(tmp_path):
    path = write(tmp_path / "a.yaml", [{"scenario": "again.yaml"}])
    (tmp_path / "again.yaml").symlink_to(path)
    with pytest.raises(UsageError, match="circle"):
        read_scenario(path, None)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{}", "has to be a list"),
        ("- 7", "entry 1"),
        ("- {topic: t, payload: 1, tpoic: x}", "tpoic"),
        ("- {topic: t}", "one of payload, file and scenario"),
        ("- {topic: t, payload: 1, file: x.json}", "one of payload, file and scenario"),
        ("- {payload: 1}", "there is no topic"),
        ("- {topic: 7, payload: 1}", "the topic is text"),
        ("- {topic: t, payload: 1, delay: -1}", "the delay"),
        ("- {topic: t, payload: 1, delay: soon}", "the delay"),
        ("- {topic: t, payload: 1, delay: .inf}", "the delay"),
        ("- {topic: t, payload: .nan}", "cannot be said in JSON"),
        ("- {topic: t, payload: 1, messageId: 7}", "messageId is text"),
        ("- {topic: t, file: missing.json}", "missing.json cannot be read"),
        ("- {topic: t, file: notes.txt}", "neither .json nor .yaml"),
        ("- {scenario: 7}", "a file's name is text"),
        ("- [", "cannot be read"),
        ("- !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_scenario_mistake_is_named_with_its_place(tmp_path, content, complaint):
    path = write(tmp_path / "s.yaml", content)
    with pytest.raises(UsageError, match=complaint):
        read_scenario(path, None)


def test_yaml_date_stays_the_text_that_was_written(tmp_path):
    path = write(tmp_path / "p.yaml", "on: 2026-11-21\nday: 2026-11-21\n")
    assert load(path)["day"] == "2026-11-21"


@pytest.mark.parametrize("text", ["hello", "{", "NaN", "[1e999", ""])
def test_message_that_is_no_json_is_refused_with_advice(text):
    with pytest.raises(UsageError, match=r"is not JSON .*: write"):
        parse_payload(text)


@given(payloads=st.lists(JSON | st.binary(), max_size=5))
def test_dump_is_a_scenario_of_the_same_messages(tmp_path_factory, payloads):
    path = tmp_path_factory.mktemp("dump") / "d.yaml"
    with Dump(path) as dump:
        for number, payload in enumerate(payloads):
            dump.write(Message("room.a", payload, "m", 0), number * 0.5)
    steps = read_scenario(path, None)
    assert [step.payload for step in steps] == payloads
    assert [type(step.payload) for step in steps] == [type(one) for one in payloads]
    assert [step.delay for step in steps] == [0.0, 0.5, 0.5, 0.5, 0.5][: len(payloads)]


def test_message_with_a_number_that_json_cannot_say_is_refused():
    with pytest.raises(UsageError, match="cannot be said in JSON"):
        parse_payload("[1e999]")


@example("\ud800\x1b[2J\u2028\U000f0000", "\n\x9b\x7f")
@given(payload=st.text(), message_id=st.text())
def test_message_is_one_line_that_steers_no_terminal(payload, message_id):
    for form in ("plain", "json"):
        stream = io.StringIO()
        Output(form, stream).message(Message("room.a", payload, message_id, 0))
        line = stream.getvalue()
        assert line.endswith("\n")
        assert line[:-1].isprintable()
    assert json.loads(line)["data"] == payload


def test_dump_overwrites_nothing(tmp_path):
    path = write(tmp_path / "d.yaml", "precious")
    with pytest.raises(UsageError, match="exists already"):
        Dump(path)
    assert path.read_text() == "precious"
