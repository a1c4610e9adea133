"""The project's pages, and one that blocks the worker thread it runs in."""

import time

from django.http import HttpRequest, HttpResponse
from django.urls import path

from gateway_project.urls import urlpatterns as _urlpatterns


def block(request: HttpRequest, milliseconds: int) -> HttpResponse:
    """Answer after a blocking call, as a view does that waits for another service."""
    time.sleep(milliseconds / 1000)
    return HttpResponse("done")


urlpatterns = [*_urlpatterns, path("block/<int:milliseconds>/", block)]
