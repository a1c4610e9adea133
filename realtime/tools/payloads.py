"""Payloads and the files that hold them: strict JSON, or YAML that says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from .outcome import UsageError

SUFFIXES = {".json", ".yaml", ".yml"}


class _Loader(yaml.SafeLoader):
    """Safe YAML without timestamps: a date would not be the text that was written."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_payload(text: str) -> Any:
    """Return the payload on a command line.

    Raises:
        UsageError: when it is not JSON.
    """
    try:
        payload = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise UsageError(
            f'The message is not JSON ({exc}): write \'{{"text": "hi"}}\', or \'"hi"\' for text.'
        ) from exc
    require_payload(payload, "the message")  # 1e999 parses, as infinity
    return payload


def load(path: Path) -> Any:
    """Return what a JSON or YAML file holds.

    Raises:
        UsageError: when it cannot be read, or is neither.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} is neither .json nor .yaml.")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text, parse_constant=_refuse)
        return yaml.load(text, _Loader)  # noqa: S506
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as exc:
        raise UsageError(f"{path} cannot be read: {exc}.") from exc


def require_payload(payload: Any, where: str) -> None:
    """Return when a payload can be sent: JSON, or bytes (`!!binary`) by themselves.

    Raises:
        UsageError: otherwise.
    """
    if isinstance(payload, bytes):
        return
    try:
        json.dumps(payload, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as exc:
        raise UsageError(f"The payload in {where} cannot be said in JSON: {exc}.") from exc


def encode_payload(payload: Any) -> bytes:
    """Return the bytes of a payload on NATS."""
    if isinstance(payload, bytes):
        return payload
    return json.dumps(payload, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def decode_payload(data: bytes) -> Any:
    """Return what a payload on NATS says: JSON, or the bytes themselves."""
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return data


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
