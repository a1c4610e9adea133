"""Publishes a notification, stored once however often this runs: pip install nats-py."""

import asyncio
import json
import os

import nats


async def main() -> None:
    broker = await nats.connect(os.environ["NATS_URL"], inbox_prefix="_INBOX_backend")
    stored = await broker.jetstream().publish(
        "user.7.notifications",
        json.dumps({"text": "Order 42 is on its way."}).encode(),
        headers={"Nats-Msg-Id": "orders/42/sent/user.7"},
    )
    print(stored.seq, "stored before" if stored.duplicate else "stored")
    await broker.close()


if __name__ == "__main__":
    asyncio.run(main())
