"""Composition: pages, admin and log-in."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from realtime import health, prometheus

urlpatterns = [
    path("", include("realtime.urls")),
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", prometheus.metrics, name="metrics"),
]
