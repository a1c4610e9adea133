from django.urls import path

from shop import views

urlpatterns = [
    path("", views.orders, name="orders"),
    path("buy/", views.buy, name="buy"),
    path("enter/", views.enter, name="enter"),
]
