"""The options of both tools, and what they come to."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .consume import Consume
from .credentials import Credentials
from .nats_side import Backend
from .outcome import UsageError
from .payloads import load, parse_payload, require_payload
from .produce import Produce
from .scenario import Step, read_scenario
from .sides import Target

DEFAULT_TIMEOUT = 10.0


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add what both tools take."""
    parser.add_argument(
        "-u", "--url", required=True, help="ws(s)://… (as a client) or nats://… (as a backend)"
    )
    parser.add_argument("--token", help="for ws: a token; others on this machine can see it")
    parser.add_argument("--token-file", help="for ws: a file that holds a token; -: standard input")
    parser.add_argument("--login", metavar="USER", help="for ws: log in; the password is asked for")
    parser.add_argument("--login-path", default="/login/", help="the site's log-in page")
    parser.add_argument(
        "--no-compression",
        dest="compression",
        action="store_false",
        help="for ws: do not offer the gateway to compress messages",
    )
    parser.add_argument(
        "--log", choices=("plain", "json"), default="plain", help="form of the log and of messages"
    )


def add_consume_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `consume`."""
    add_common_options(parser)
    parser.add_argument(
        "-t", "--topic", action="append", required=True, help="may be given several times"
    )
    parser.add_argument("--count", type=_whole, help="end after so many messages")
    parser.add_argument("--timeout", type=_seconds, help="end after so many seconds")
    parser.add_argument(
        "--since", type=_sequence, help="first print what the stream holds after this sequence"
    )
    parser.add_argument(
        "--epoch", help="of the stream that --since is of, as the log says: tells a new one"
    )
    parser.add_argument("--dump", type=Path, help="write what arrives to this new .yaml file")
    parser.add_argument(
        "--rpc", action="store_true", help="for nats: answer requests, with -m, -f, or an echo"
    )
    _add_payload_options(parser)


def add_produce_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `produce`."""
    add_common_options(parser)
    parser.add_argument("-t", "--topic", help="where to; in a scenario, for those that say none")
    _add_payload_options(parser)
    parser.add_argument("-s", "--scenario", type=Path, help="a .yaml or .json list of messages")
    parser.add_argument("--message-id", help="sent twice with the same one, stored once")
    parser.add_argument("--count", type=_whole, default=1, help="send all of it so often")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT,
        help="seconds for each confirmation or reply",
    )
    parser.add_argument("--rpc", action="store_true", help="ask, and print the replies")


def consume_job(options: Mapping[str, Any], backend: Backend) -> Consume:
    """Return what the options of `consume` ask for.

    Raises:
        UsageError: when they do not fit together.
    """
    payload_given = options["message"] is not None or options["file"] is not None
    if payload_given and not options["rpc"]:
        raise UsageError("-m and -f are the reply of consume --rpc; to send, use produce.")
    return Consume(
        target=_target(options, DEFAULT_TIMEOUT, backend),
        topics=tuple(dict.fromkeys(options["topic"])),
        count=options["count"],
        timeout=options["timeout"],
        since=options["since"],
        epoch=options["epoch"],
        rpc=options["rpc"],
        reply=_payload(options) if payload_given else None,
        dump=options["dump"],
    )


def produce_job(options: Mapping[str, Any], backend: Backend) -> Produce:
    """Return what the options of `produce` ask for.

    Raises:
        UsageError: when they do not fit together, or a file cannot be used.
    """
    given = [options[name] is not None for name in ("message", "file", "scenario")]
    if sum(given) != 1:
        raise UsageError("Give one of -m (message), -f (file) and -s (scenario).")
    if options["scenario"] is not None:
        if options["message_id"] is not None:
            raise UsageError("In a scenario the messages have their own messageId.")
        steps = read_scenario(options["scenario"], options["topic"])
    elif options["topic"] is None:
        raise UsageError("There is no topic: give -t.")
    else:
        steps = [Step(options["topic"], _payload(options), message_id=options["message_id"])]
    target = _target(options, options["timeout"], backend)
    return Produce(target, steps, options["count"], options["rpc"])


def _add_payload_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--message", help="the payload, as JSON")
    parser.add_argument("-f", "--file", type=Path, help="a .json or .yaml file with the payload")


def _payload(options: Mapping[str, Any]) -> Any:
    if options["message"] is not None and options["file"] is not None:
        raise UsageError("Give one of -m (message) and -f (file).")
    if options["message"] is not None:
        return parse_payload(options["message"])
    payload = load(options["file"])
    require_payload(payload, str(options["file"]))
    return payload


def _target(options: Mapping[str, Any], timeout: float, backend: Backend) -> Target:
    credentials = Credentials(
        options["token"], options["token_file"], options["login"], options["login_path"]
    )
    return Target(options["url"], credentials, timeout, backend, options["compression"])


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 on is expected")
    return int(text)


def _sequence(text: str) -> int:
    if not text.isdecimal() or int(text) > 2**53:
        raise argparse.ArgumentTypeError("a sequence is a whole number from 0 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("a number of seconds over 0 is expected")
    return seconds
