"""A client of the REST API, as its users' programs are."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

PROBLEM = "application/problem+json"


class Answer(NamedTuple):
    """What the API said."""

    status: int
    body: Any
    headers: http.client.HTTPMessage

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Return the problem details, once it is sure that they are some."""
        assert (self.status, self.body["code"]) == (status, code), self.body
        assert self.headers["Content-Type"] == PROBLEM
        assert self.body["status"] == status
        assert self.body["title"] and self.body["detail"]
        return dict(self.body)


class Api:
    """One user's way to the API of a web process.

    Args:
        headers: of every request; the credential is one of them.
    """

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self.port = port
        self.headers = dict(headers or {})

    @classmethod
    def bearer(cls, port: int, token: str) -> Api:
        """Return the API for who holds a token."""
        return cls(port, {"Authorization": f"Bearer {token}"})

    def get(self, path: str, **query: Any) -> Answer:
        """GET a path below /api/."""
        return self.send("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """POST JSON; `Idempotency_Key="k"` becomes a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = b"" if body is None else json.dumps(body).encode()
        return self.send("POST", path, data, {"Content-Type": "application/json", **named})

    def send(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, f"/api/{path}", data, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
        return Answer(response.status, json.loads(text) if text else None, response.headers)


def event(*, topics: list[str] | None = None, users: list[Any] | None = None, **rest: Any) -> Any:
    """Return an event to publish; its data is 1 unless said otherwise."""
    targets = {"topics": topics, "users": users}
    return {"data": 1, **{k: v for k, v in targets.items() if v is not None}, **rest}
