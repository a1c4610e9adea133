"""The project in `mysite` is run by itself, as its team would run it."""

from ..browser.conftest import browser, context, page

__all__ = ["browser", "context", "page"]

collect_ignore = ["mysite"]
