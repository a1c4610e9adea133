"""Composition: pages, admin, log-in and the REST API."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from accounts.api import TokenView
from realtime import health, prometheus, views
from realtime.api import urls as api

# What no view answers is told as everything else below the API.
handler400 = "realtime.api.problems.bad_request"
handler500 = "realtime.api.problems.server_error"

# Tokens are the backend's, and first: the API's own addresses end with one that takes the rest.
api_urls = [path("token/", TokenView.as_view(), name="token"), *api.urlpatterns]

urlpatterns = [
    path("", include("realtime.urls")),
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("api/", include((api_urls, api.app_name))),
    path("favicon.ico", views.favicon),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", prometheus.metrics, name="metrics"),
]
