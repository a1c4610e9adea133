"""Which pages may use a visitor's cookie: this site's and those listed, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.origins import origin_allowed, parse_origin

HOST = "chat.example.org"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://example.org", ("http", "example.org", 80)),
        ("https://example.org", ("https", "example.org", 443)),
        ("https://example.org:8443", ("https", "example.org", 8443)),
        ("HTTPS://Example.ORG", ("https", "example.org", 443)),
        ("http://[::1]:8000", ("http", "::1", 8000)),
        ("http://127.0.0.1:8000", ("http", "127.0.0.1", 8000)),
    ],
)
def test_parse_origin_plain_is_taken_apart(text: str, origin: tuple[str, str, int]) -> None:
    assert parse_origin(text) == origin


NO_ORIGINS = [
    "",
    "null",
    "example.org",
    "//example.org",
    "http://",
    "http:///path",
    "file:///etc/passwd",
    "ftp://example.org",
    "javascript:alert(1)",
    "data:text/html,x",
    "https://[::1",
    "https://::1]",
    "https://example.org:port",
    "https://example.org:99999",
    "https://example.org/",
    "https://example.org/path",
    "https://example.org?query",
    "https://example.org#fragment",
    "https://user@example.org",
    "https://user:password@example.org",
    "https://example.org@evil.example",
    "https://example.org,https://evil.example",
    "https://example.org, https://evil.example",
    "https://example.org https://evil.example",
    "https://example.org\\@evil.example",
    " https://example.org",
    "https://exam ple.org",
]


@pytest.mark.parametrize("text", NO_ORIGINS)
def test_parse_origin_anything_else_is_none(text: str) -> None:
    assert parse_origin(text) is None


@pytest.mark.parametrize("text", [*NO_ORIGINS, None])
def test_origin_allowed_no_origin_is_refused(text: str | None) -> None:
    """Whatever is listed: an entry that is no origin must not match another such one."""
    allowed = [*NO_ORIGINS, "https://example.org"]
    assert not origin_allowed(text, host=HOST, secure=True, allowed=allowed)
    assert not origin_allowed(text, host=text, secure=True, allowed=allowed)


@given(st.text(max_size=40) | st.text("htps:/[]@.,:#?\\ axn019", max_size=40))
def test_origin_allowed_any_text_never_raises_and_never_passes(text: str) -> None:
    assert not origin_allowed(text, host=HOST, secure=True, allowed=[])


@pytest.mark.parametrize(
    ("origin", "secure"),
    [
        (f"http://{HOST}", False),
        (f"https://{HOST}", True),
        (f"https://{HOST}:443", True),
        (f"HTTPS://{HOST.upper()}", True),
    ],
)
def test_origin_allowed_own_page_passes(origin: str, secure: bool) -> None:
    assert origin_allowed(origin, host=HOST, secure=secure, allowed=[])


@pytest.mark.parametrize("host", [f"{HOST}:8000", "[::1]:8000", "127.0.0.1:8000"])
def test_origin_allowed_own_page_on_a_port_passes(host: str) -> None:
    assert origin_allowed(f"http://{host}", host=host, secure=False, allowed=[])


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        f"https://{HOST}.evil.example",
        f"https://evil.{HOST}",
        f"https://evil{HOST}",
        f"https://{HOST}:8443",
        f"http://{HOST}",
        f"http://{HOST}:443",
        f"https://{HOST}@evil.example",
        f"https://{HOST}.",
    ],
)
def test_origin_allowed_other_page_is_refused(origin: str) -> None:
    assert not origin_allowed(origin, host=HOST, secure=True, allowed=["https://ok.example"])


def test_origin_allowed_listed_passes_exactly() -> None:
    def allowed(origin: str) -> bool:
        listed = ["https://App.Example.org", "http://localhost:3000"]
        return origin_allowed(origin, host=HOST, secure=True, allowed=listed)

    assert allowed("https://app.example.org")
    assert allowed("https://app.example.org:443")
    assert allowed("http://localhost:3000")
    assert not allowed("http://app.example.org")
    assert not allowed("http://localhost")
    assert not allowed("https://localhost:3000")


@pytest.mark.parametrize("host", [None, "", "[::1", "a b", "user@chat.example.org"])
def test_origin_allowed_odd_host_does_not_pass(host: str | None) -> None:
    assert not origin_allowed(f"https://{HOST}", host=host, secure=True, allowed=[])
