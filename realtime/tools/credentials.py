"""Who a tool is on the WebSocket side: a token, or a Django session. Neither is ever logged."""

from __future__ import annotations

import getpass
import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from realtime.client import log_in

from .outcome import UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Credentials:
    """What the options say.

    Attributes:
        token: given on the command line.
        token_file: a file that holds one, `-`: standard input.
        login: a username; the password is asked for, or comes from the environment.
        login_path: of the site's log-in page.
    """

    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    login: str | None = None
    login_path: str = "/login/"


@dataclass(frozen=True)
class Access:
    """What opens a socket."""

    token: str | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)


async def access_for(credentials: Credentials, url: str, *, timeout: float) -> Access:
    """Return what opens a socket on a gateway.

    Args:
        timeout: seconds, for each request of a log-in.

    Raises:
        UsageError: when there is no credential, or more than one.
        LoginFailed, NoAnswer: when the site refuses the log-in, or is out of reach.
    """
    given = [credentials.token, credentials.token_file, credentials.login]
    if sum(one is not None for one in given) > 1:
        raise UsageError("Give one of --token, --token-file and --login.")
    if credentials.login is not None:
        password = _password(credentials.login)
        headers = await log_in(
            url, credentials.login, password, path=credentials.login_path, timeout=timeout
        )
        return Access(headers=headers)
    if credentials.token is not None:
        logger.warning(
            "a token on the command line is seen by every user of this machine:"
            " use --token-file or the environment variable GATEWAY_TOKEN"
        )
        return Access(credentials.token)
    if credentials.token_file is not None:
        return Access(_read_token(credentials.token_file))
    if token := os.environ.get("GATEWAY_TOKEN", ""):
        return Access(token)
    raise UsageError(
        "The gateway wants to know who you are: set GATEWAY_TOKEN, or give --token-file or --login."
    )


def _read_token(name: str) -> str:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"The token file {name} cannot be read: {exc}.") from exc
    token = text.strip()
    if not token or any(char.isspace() for char in token):
        raise UsageError(f"The token file {name} holds no token: one line is expected.")
    return token


def _password(username: str) -> str:
    if password := os.environ.get("GATEWAY_PASSWORD", ""):
        return password
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask for the password: set GATEWAY_PASSWORD.")
    return getpass.getpass(f"Password of {username}: ")
