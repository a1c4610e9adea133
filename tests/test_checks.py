"""System checks of the REALTIME settings, each by its id."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from django.core.checks import CheckMessage, Tags, run_checks
from django.core.management import call_command, get_commands
from django.core.management.base import SystemCheckError
from pytest_django import Settings

from realtime.conf import DEFAULTS
from realtime.conf import settings as gateway
from realtime.layers import InProcessChannelLayer

from .support.processes import manage

# Some checks of deployment look at the database.
pytestmark = pytest.mark.django_db

IN_PROCESS = f"{InProcessChannelLayer.__module__}.{InProcessChannelLayer.__qualname__}"
IN_MEMORY = "channels.layers.InMemoryChannelLayer"
GOOD_KEY = "0123456789abcdef" * 2
REDIS = "realtime.layers.RedisChannelLayer"


def found(settings: Settings, **realtime: Any) -> list[CheckMessage]:
    """Return what the checks of `realtime` say about settings, the project's and these."""
    settings.REALTIME = {**settings.REALTIME, **realtime}
    messages = run_checks(include_deployment_checks=True)
    return [one for one in messages if (one.id or "").startswith("realtime.")]


def ids(settings: Settings, **realtime: Any) -> list[str | None]:
    return [message.id for message in found(settings, **realtime)]


def layer(settings: Settings, backend: str) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}


@pytest.mark.parametrize("name", ["PREFIX", "STREAM", "POSITIONS_BUCKET", "PRESENCE_BUCKET"])
@pytest.mark.parametrize("value", ["", "a b", "a.b", "a.>", "*", 7, None])
def test_checks_of_names_find_what_is_no_token(settings: Settings, name: str, value: Any) -> None:
    assert "realtime.E014" in ids(settings, **{name: value})


def test_checks_of_the_project_find_nothing(settings: Settings) -> None:
    assert ids(settings) == []


def test_checks_of_the_defaults_find_only_the_missing_session_key(settings: Settings) -> None:
    settings.REALTIME = {}
    assert ids(settings, **DEFAULTS) == ["realtime.W002"]


WRONG_RATES = ["0/min", "5", "x/min", "5/week", 5, "", "5/minute"]
NOT_RATES: list[Any] = [{"read": None, "write": rate, "token": "10/min"} for rate in WRONG_RATES]
NOT_RATES += [{}, None, "10/min", {"read": "1/s"}, {"read": None, "write": None, "other": None}]
NOT_NUMBERS = [0, -1, "5", None, True, float("nan")]


@pytest.mark.parametrize(
    ("realtime", "expected"),
    [
        ({"NATS_URI": "x"}, ["realtime.E001"]),
        ({"NATS_URI": "x", "acl": 1}, ["realtime.E001", "realtime.E001"]),
        *(({"ACK_WAIT": value}, ["realtime.E002"]) for value in NOT_NUMBERS),
        *(({"MAX_BUFFER": value}, ["realtime.E002"]) for value in NOT_NUMBERS),
        ({"HEARTBEAT": 0, "FRAME_RATE": -1}, ["realtime.E002", "realtime.E002"]),
        *(({"API_TIMEOUT": value}, ["realtime.E002"]) for value in NOT_NUMBERS),
        *(({"API_RATES": rates}, ["realtime.E008"]) for rates in NOT_RATES),
        ({"API_RATES": {"read": None, "write": "1/s", "token": "5/hour"}}, []),
        *(({"COMPRESSION": value}, ["realtime.E013"]) for value in ("false", 0, None)),
        ({"OUTBOX": "no"}, ["realtime.E013"]),
        ({"COMPRESSION": True, "COMPRESSION_MIN_BYTES": 0}, []),
        ({"COMPRESSION_MIN_BYTES": -1}, ["realtime.E002"]),
        ({"OPEN_TOPICS": ["user", "a.b"]}, ["realtime.E003"]),
        ({"OPEN_TOPICS": [""]}, ["realtime.E003"]),
        ({"OPEN_TOPICS": ["*"]}, ["realtime.E003"]),
        ({"OPEN_TOPICS": ["gateway"]}, ["realtime.E003"]),
        ({"OPEN_TOPICS": ["gateway-stats"]}, ["realtime.E003"]),
        ({"OPEN_TOPICS": ["$SYS"]}, ["realtime.E003"]),
        ({"OPEN_TOPICS": ["_INBOX"]}, ["realtime.E003"]),
        ({"OPEN_TOPICS": ["user", "push"], "PREFIX": "push"}, ["realtime.E003"]),
        ({"REQUEST_TOPICS": ["gateway"]}, ["realtime.E003"]),
        ({"DURABLE_TOPICS": ["user..x"]}, ["realtime.E004"]),
        ({"DURABLE_TOPICS": ["user.>", ">"]}, ["realtime.E004"]),
        ({"DURABLE_TOPICS": ["*.>"]}, ["realtime.E004"]),
        ({"DURABLE_TOPICS": ["gateway.>"]}, ["realtime.E004"]),
        ({"DURABLE_TOPICS": ["push.>"], "PREFIX": "push"}, ["realtime.E004"]),
        ({"DURABLE_TOPICS": ["user.{user_id}.>"]}, ["realtime.E004"]),
        # The stream's confirmation would be taken for the auth worker's reply.
        ({"DURABLE_TOPICS": ["gateway.auth"]}, ["realtime.E004"]),
        ({"DURABLE_TOPICS": ["*.auth"]}, ["realtime.E004"]),
        ({"DURABLE_TOPICS": ["gateway.*"]}, ["realtime.E004"]),
        ({"DURABLE_TOPICS": ["gateway.control.>"]}, ["realtime.E004"]),
        # And here for any reply at all.
        ({"DURABLE_TOPICS": ["_INBOX.>"]}, ["realtime.E004"]),
        ({"BRIDGE": "web"}, ["realtime.E005"]),
        ({"BRIDGE": ""}, ["realtime.E005"]),
        ({"ALLOWED_ORIGINS": ["app.example.com"]}, ["realtime.E007"]),
        ({"ALLOWED_ORIGINS": ["https://app.example.com/"]}, ["realtime.E007"]),
        ({"ALLOWED_ORIGINS": ["*"]}, ["realtime.E007"]),
        ({"ALLOWED_ORIGINS": ["null"]}, ["realtime.E007"]),
        ({"ALLOWED_ORIGINS": ["https://[::1"]}, ["realtime.E007"]),
        ({"SESSION_KEY": GOOD_KEY[:31]}, ["realtime.W002"]),
        ({"SESSION_KEY": "abcd" * 20}, ["realtime.W002"]),
        ({"SESSION_KEY": ""}, ["realtime.W002"]),
        ({"EVENT_LOOP": "asyncio"}, ["realtime.W003"]),
        ({"ALLOWED_ORIGINS": ["https://a.example", "http://b.example"]}, ["realtime.W004"]),
    ],
    ids=str,
)
def test_checks_of_a_wrong_setting_find_it(
    settings: Settings, realtime: dict[str, Any], expected: list[str]
) -> None:
    assert ids(settings, **realtime) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OPEN_TOPICS", "realtime.E003"),
        ("REQUEST_TOPICS", "realtime.E003"),
        ("DURABLE_TOPICS", "realtime.E004"),
    ],
)
def test_checks_of_a_string_where_a_list_belongs_find_it(
    settings: Settings, name: str, expected: str
) -> None:
    # Each of its letters is a token.
    assert set(ids(settings, **{name: "user"})) == {expected}


@pytest.mark.parametrize(
    "realtime",
    [
        {"ACK_WAIT": 0.1, "ACK_TRIES": 1, "MAX_UNACKED": 1},
        {"OPEN_TOPICS": ["orders-2", "a_b"], "REQUEST_TOPICS": []},
        {"OPEN_TOPICS": ["gate"], "PREFIX": "push"},
        {"DURABLE_TOPICS": ["user.>", "room.*.chat", "live.news"]},
        {"DURABLE_TOPICS": []},
        {"BRIDGE": "process"},
        {"ALLOWED_ORIGINS": []},
        {"ALLOWED_ORIGINS": ["https://app.example.com", "http://localhost:3000"]},
        {"ALLOWED_ORIGINS": ["http://[::1]:3000", "http://127.0.0.1"]},
        {"SESSION_KEY": GOOD_KEY},
    ],
    ids=str,
)
def test_checks_of_good_settings_find_nothing(settings: Settings, realtime: dict[str, Any]) -> None:
    assert ids(settings, **realtime) == []


@pytest.mark.parametrize(
    ("backend", "bridge", "expected"),
    [
        (IN_PROCESS, "worker", ["realtime.E006"]),
        (IN_PROCESS, "process", []),
        (IN_PROCESS, "auto", []),
        (IN_MEMORY, "worker", ["realtime.E006"]),
        (IN_MEMORY, "auto", ["realtime.E006"]),
        (IN_MEMORY, "process", []),
        (REDIS, "worker", []),
        (REDIS, "process", []),
        (REDIS, "auto", []),
    ],
)
def test_checks_of_bridge_and_layer_find_events_that_go_nowhere(
    settings: Settings, backend: str, bridge: str, expected: list[str]
) -> None:
    layer(settings, backend)
    assert ids(settings, BRIDGE=bridge) == expected


def test_checks_of_the_apps_order_find_channels_own_runworker(settings: Settings) -> None:
    apps = [name for name in settings.INSTALLED_APPS if name not in ("channels", "realtime")]
    settings.INSTALLED_APPS = [*apps, "channels", "realtime"]
    get_commands.cache_clear()
    try:
        assert ids(settings) == ["realtime.W001"]
    finally:
        get_commands.cache_clear()


def test_checks_of_hosts_find_that_any_name_is_accepted(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["gateway.example.com", "*"]
    assert ids(settings) == ["realtime.W005"]


def test_checks_for_deployment_are_silent_without_deploy(settings: Settings) -> None:
    settings.REALTIME = {**settings.REALTIME, "SESSION_KEY": "", "EVENT_LOOP": "asyncio"}
    messages = run_checks(tags=[Tags.compatibility, Tags.security])
    assert [one.id for one in messages if (one.id or "").startswith("realtime.")] == []


def test_checks_name_the_setting_and_the_value(settings: Settings) -> None:
    (message,) = found(settings, MAX_BUFFER="1 MiB")
    assert "MAX_BUFFER" in message.msg
    assert "'1 MiB'" in message.msg


def test_command_with_an_error_stops(settings: Settings) -> None:
    settings.REALTIME = {**settings.REALTIME, "NATS_URI": "x"}
    with pytest.raises(SystemCheckError, match=r"realtime\.E001"):
        call_command("check")


@pytest.mark.parametrize("command", ["outbox", "auth_worker"])
def test_command_that_serves_does_not_start_with_a_wrong_setting(command: str) -> None:
    env = {"BRIDGE": "web", "DATA_DIR": os.environ["DATA_DIR"], "NATS_URL": "nats://127.0.0.1:9"}
    with pytest.raises(AssertionError, match=r"realtime\.E005"):
        manage(command, env=env)


def test_settings_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NATS_URI"):
        _ = gateway.NATS_URI


def test_settings_are_read_live(settings: Settings) -> None:
    settings.REALTIME = {"MAX_BUFFER": 7}
    assert gateway.MAX_BUFFER == 7
    assert DEFAULTS["MAX_UNACKED"] == gateway.MAX_UNACKED


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gateway.x", "use that name themselves"),
        ("_INBOX", "use that name themselves"),
        ("mine.x", "use that name themselves"),
        ("$JS.API", "A topic is"),
        ("news.*", "One topic has to be named"),
        ("", "A topic is"),
        (7, "a name is text"),
        ("room.x", "the stream stores it \\('room.>'\\)"),
    ],
)
@pytest.mark.parametrize("setting", ["INBOUND", "OUTBOUND"])
def test_check_channel_that_cannot_be_says_why(
    settings: Settings, setting: str, name: Any, reason: str
) -> None:
    (message,) = found(settings, **{setting: ["good", name], "PREFIX": "mine"})
    assert message.id == "realtime.E009"
    assert re.search(reason, str(message.msg)), message.msg


def test_check_channels_written_as_one_text_are_refused(settings: Settings) -> None:
    assert ids(settings, INBOUND="IN,update") == ["realtime.E009"]


def test_check_channels_that_can_be_are_fine(settings: Settings) -> None:
    assert ids(settings, INBOUND=["IN", "news.sport"], OUTBOUND=["OUT", "room"]) == []


def test_checks_of_tracing_find_that_its_package_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ids(settings, TRACING=True) == []
    monkeypatch.setattr("realtime.tracing.INSTALLED", False)
    assert ids(settings, TRACING=True) == ["realtime.E012"]
    assert ids(settings, TRACING=False) == []


@pytest.mark.parametrize("transports", [["carrier-pigeon"], ["websocket", 5], "websocket"])
def test_socketio_with_a_transport_that_is_none_is_an_error(settings, transports):
    assert ids(settings, SOCKETIO=transports) == ["realtime.E010"]


def test_socketio_without_its_package_is_an_error(settings, monkeypatch):
    assert ids(settings, SOCKETIO=["polling", "websocket"]) == []
    monkeypatch.setattr("realtime.checks.find_spec", lambda name: None)
    assert ids(settings, SOCKETIO=["websocket"]) == ["realtime.E011"]
