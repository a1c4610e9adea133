"""Pages of the gateway."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("notifications/", views.notifications, name="notifications"),
    path("notifications/send/", views.send_notification, name="send-notification"),
]
