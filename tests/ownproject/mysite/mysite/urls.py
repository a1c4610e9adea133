from django.urls import path
from django.views.generic import TemplateView

from realtime.views import read_position
from shop import views

urlpatterns = [
    path("", views.orders, name="orders"),
    path("buy/", views.buy, name="buy"),
    path("enter/", views.enter, name="enter"),
    path("bell/", TemplateView.as_view(template_name="shop/bell.html")),
    path("notifications/read/", read_position, name="read-position"),
]
