"""Answers the gateway's auth requests: pip install nats-py pyjwt."""

import asyncio
import json
import os
import signal
import sys

import jwt
import nats
from nats.aio.msg import Msg

KEY = os.environ["JWT_KEY"]
if len(KEY) < 32:
    sys.exit("JWT_KEY is 32 bytes at least (RFC 7518 §3.2).")


def answer(request: dict[str, str]) -> dict[str, object]:
    try:
        claims = jwt.decode(
            request["token"], KEY, algorithms=["HS256"], options={"require": ["exp", "sub"]}
        )
    except jwt.InvalidTokenError:
        return {"success": False, "error": "The token is not valid."}
    return {"success": True, "user_id": claims["sub"], "expires_at": claims["exp"]}


async def reply(message: Msg) -> None:
    # What raises here is logged by nats-py and left unanswered: the client is told to come back.
    await message.respond(json.dumps(answer(json.loads(message.data))).encode())


async def main() -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    broker = await nats.connect(os.environ["NATS_URL"], max_reconnect_attempts=-1)
    await broker.subscribe("gateway.auth", queue="auth", cb=reply)
    await stopping.wait()
    await broker.drain()


if __name__ == "__main__":
    asyncio.run(main())
