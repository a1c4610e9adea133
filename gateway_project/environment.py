"""The environment: where data lies, and the keys kept there when none are given."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import environ


def data_file(directory: Path, name: str) -> Path:
    """Return the path of a file in the data directory, which is made when it is missing.

    Raises:
        SystemExit: with one sentence when the directory cannot be made or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SystemExit(
            f"The data directory {directory} cannot be made ({exc.strerror}):"
            " set DATA_DIR to one that can be written."
        ) from exc
    if not os.access(directory, os.W_OK):
        raise SystemExit(
            f"The data directory {directory} cannot be written: set DATA_DIR to one that can."
        )
    return directory / name


def secret_key(directory: Path) -> str:
    """Return the secret key kept in the data directory, made on first use.

    Several processes may start at once: the first one's file wins, the others read it.
    """
    path = data_file(directory, "secret_key")
    made = path.with_name(f".secret_key.{os.getpid()}")
    if not path.exists():
        made.touch(mode=0o600)
        made.write_text(secrets.token_urlsafe(64))
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return path.read_text()


def _nats_url_file(directory: Path) -> Path:
    return directory / "nats_url"


def nats_url(directory: Path) -> str:
    """Return the address that a running `manage.py gateway` told, else NATS' usual one.

    So every other command with the same data directory meets the same server.
    """
    try:
        return _nats_url_file(directory).read_text().strip()
    except OSError:
        return "nats://127.0.0.1:4222"


@contextlib.contextmanager
def published_nats_url(directory: Path, url: str) -> Iterator[None]:
    """Tell other commands the address of NATS while this one runs."""
    path = _nats_url_file(directory)
    path.touch(mode=0o600)
    path.write_text(url)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def derived_key(secret: str, purpose: str) -> str:
    """Return a key for one purpose, so that no two uses share one key."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def overrides(prefix: str, defaults: dict[str, Any], env: environ.Env) -> dict[str, Any]:
    """Return the settings that variables of the form PREFIX_NAME give, each of its default's type.

    Raises:
        SystemExit: with one sentence when a value is not of that type.
    """
    found: dict[str, Any] = {}
    for name, default in defaults.items():
        variable = f"{prefix}_{name}"
        if variable not in env.ENVIRON:
            continue
        given = env.ENVIRON[variable]
        try:
            if isinstance(default, bool) and given.lower() not in ("true", "false"):
                # django-environ takes whatever it does not know for false.
                raise ValueError(given)
            found[name] = env.get_value(variable, cast=type(default))
        except ValueError as exc:
            kind = {bool: "truth value", int: "whole number", float: "number"}[type(default)]
            raise SystemExit(
                f"{variable} is {given!r}: give it a {kind}, such as {str(default).lower()}."
            ) from exc
    return found


def choice(variable: str, choices: tuple[str, ...], env: environ.Env) -> str:
    """Return what a variable says, the first choice when it says nothing.

    Raises:
        SystemExit: with one sentence when it is none of the choices.
    """
    found = env.str(variable, choices[0])
    if found not in choices:
        raise SystemExit(f"{variable} is {found!r}: use {' or '.join(choices)}.")
    return found
