"""Pages of the gateway."""

from django.urls import path

from . import demo_views, views

urlpatterns = [
    path("", views.home, name="home"),
    path("notifications/", views.notifications, name="notifications"),
    path("notifications/read/", views.read_position, name="read-position"),
    path("notifications/send/", views.send_notification, name="send-notification"),
    path("playground/", demo_views.playground, name="playground"),
    path("chat/", demo_views.chat, name="chat"),
    path("chat/<slug:room>/", demo_views.chat, name="chat-room"),
    path("prices/", demo_views.prices, name="prices"),
]
