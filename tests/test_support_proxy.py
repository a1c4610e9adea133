"""The proxy: each of its switches does to a connection what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from .support.proxy import Proxy
from .support.waiting import DEADLINE, until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Run a proxy in front of a server that echoes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
            writer.write(b"bye")
            writer.write_eof()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def dial(proxy: Proxy) -> Streams:
    """Connect to the proxy."""
    async with asyncio.timeout(DEADLINE):
        return await asyncio.open_connection(proxy.host, proxy.port)


async def echoed(streams: Streams, data: bytes) -> bool:
    """Send and say whether the same comes back."""
    reader, writer = streams
    writer.write(data)
    async with asyncio.timeout(DEADLINE):
        return await reader.readexactly(len(data)) == data


async def silent(streams: Streams) -> bool:
    """Say whether nothing comes in a tenth of a second."""
    try:
        async with asyncio.timeout(0.1):
            await streams[0].read(1)
    except TimeoutError:
        return True
    return False


async def reset(streams: Streams) -> bool:
    """Say whether the connection is reset."""
    try:
        async with asyncio.timeout(DEADLINE):
            await streams[0].read()
    except ConnectionResetError:
        return True
    return False


async def test_forward_both_ways_passes_bytes_and_the_end(proxy: Proxy) -> None:
    streams = await dial(proxy)
    assert await echoed(streams, b"x" * 100_000)
    streams[1].write_eof()
    assert await streams[0].read() == b"bye"
    await until(lambda: proxy.connections == 0)
    assert proxy.accepted == 1


async def test_black_hole_open_connection_falls_silent_and_recovers(proxy: Proxy) -> None:
    streams = await dial(proxy)
    assert await echoed(streams, b"before")
    proxy.black_hole()
    streams[1].write(b"during")
    assert await silent(streams)
    await proxy.forward()
    async with asyncio.timeout(DEADLINE):
        assert await streams[0].readexactly(6) == b"during"


async def test_black_hole_new_connection_is_accepted_and_silent(proxy: Proxy) -> None:
    proxy.black_hole()
    streams = await dial(proxy)
    streams[1].write(b"hello")
    assert await silent(streams)
    await until(lambda: proxy.accepted == 1)
    await proxy.forward()
    assert await streams[0].readexactly(5) == b"hello"


async def test_abort_open_connection_is_reset(proxy: Proxy) -> None:
    streams = await dial(proxy)
    assert await echoed(streams, b"x")
    proxy.abort()
    assert await reset(streams)
    assert await echoed(await dial(proxy), b"again")


async def test_abort_every_resets_again_and_again(proxy: Proxy) -> None:
    await proxy.abort_every(0.05)
    for _ in range(3):
        assert await reset(await dial(proxy))
    await proxy.forward()
    streams = await dial(proxy)
    assert await silent(streams)
    assert await echoed(streams, b"x")


async def test_refuse_resets_the_open_and_refuses_the_new(proxy: Proxy) -> None:
    streams = await dial(proxy)
    assert await echoed(streams, b"x")
    await proxy.refuse()
    assert await reset(streams)
    with pytest.raises(ConnectionRefusedError):
        await dial(proxy)
    await proxy.forward()
    assert await echoed(await dial(proxy), b"again")
