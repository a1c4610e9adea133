"""The page of the REST API: works without any other host, under its own policy."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, expect

from .conftest import Live

FIRST = "Publish events on topics and to users"


@pytest.fixture
def docs(live: Live, page: Page) -> Page:
    """Return the page, on which anything from elsewhere or against the policy is noted."""
    page.add_init_script(
        """window.refused = [];
        addEventListener("securitypolicyviolation", (one) =>
            refused.push(`${one.violatedDirective} ${one.blockedURI}`));"""
    )
    live.log_in(page, "admin")
    return page


def test_docs_list_the_operations_and_need_nobody_else(live: Live, docs: Page):
    hosts: set[str | None] = set()
    scripts: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith("data:"):
            hosts.add(urlsplit(request.url).hostname)
        if request.resource_type == "script":
            scripts.append(request.url)

    docs.on("request", note)
    docs.goto(f"{live.url()}/api/")
    expect(docs).to_have_url(f"{live.url()}/api/docs/")
    expect(docs.locator(".opblock")).to_have_count(9)
    docs.locator("#operations-events-publish").click()
    expect(docs.get_by_text(FIRST)).to_be_visible()
    assert hosts == {"127.0.0.1"}
    assert scripts
    assert docs.evaluate("refused") == []


def test_docs_send_what_is_tried_with_the_session(live: Live, docs: Page):
    docs.goto(f"{live.url()}/api/docs/")
    operation = docs.locator("#operations-users-user_disconnect")
    operation.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_placeholder("user_id").fill("999")
    with docs.expect_response(re.compile(r"/api/users/999/disconnect/")) as found:
        operation.get_by_role("button", name="Execute").click()
    assert found.value.status == 202
