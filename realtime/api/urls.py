"""Addresses of the REST API. A project includes them below one prefix, as `api`."""

from django.urls import path, re_path
from django.views.generic import RedirectView

from . import views
from .base import NothingHere
from .schema import DocsView, SchemaView

app_name = "api"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="api:docs"), name="root"),
    path("docs/", DocsView.as_view(), name="docs"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("publish/", views.PublishView.as_view(), name="publish"),
    path("topics/<str:topic>/history/", views.HistoryView.as_view(), name="history"),
    path("topics/<str:topic>/presence/", views.PresenceView.as_view(), name="presence"),
    path("users/<str:user_id>/disconnect/", views.DisconnectView.as_view(), name="disconnect"),
    path("users/<str:user_id>/unsubscribe/", views.UnsubscribeView.as_view(), name="unsubscribe"),
    path("me/notifications/", views.NotificationsView.as_view(), name="notifications"),
    path("stats/", views.StatsView.as_view(), name="stats"),
    # Last: below the prefix even a wrong address is answered with problem details.
    re_path("", NothingHere.as_view()),
]
