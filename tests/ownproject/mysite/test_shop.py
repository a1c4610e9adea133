import asyncio
import json

import pytest
from django.test import override_settings
from django.urls import reverse

from realtime import link
from realtime.publish import publish
from shop.models import Customer


@pytest.mark.django_db
def test_buying_notifies_the_customer(client, realtime_broker):
    customer = Customer.objects.create(email="ann@example.com")
    client.force_login(customer)
    client.post(reverse("buy"), {"item": "Tea"})
    realtime_broker.assert_notified(customer.pk, {"title": "Tea is on its way"})


def test_publish_reaches_a_real_server(nats_server):
    received = []

    async def listen(broker):
        async def take(message):
            received.append(json.loads(message.data))

        await broker.subscribe("live.prices", take)

    with override_settings(REALTIME={"NATS_URL": nats_server.url}):
        link.run(listen)
        publish("live.prices", {"tea": 3})
        link.run(lambda broker: asyncio.wait_for(arrived(received), timeout=5))
    assert received == [{"tea": 3}]


async def arrived(received):
    while not received:
        await asyncio.sleep(0.01)
