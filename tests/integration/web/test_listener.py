"""The HTTP port under visitors who are slow, many, or take no answer: real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from daemon.web import listener
from daemon.web.listener import PortOptions, listening
from tests.integration.web.test_health import free_port, get
from tests.support.call_centre import CallCentre
from tests.support.daemon_process import PATIENCE, running

SLOW = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Bit: by-bit\r\n"
LARGE = b"x" * 32 * 1024 * 1024
"""More than the system keeps for a reader who does not read."""


@asynccontextmanager
async def serving(
    seconds: float, most: int = listener.MAX_CONNECTIONS, release: asyncio.Event | None = None
) -> AsyncIterator[int]:
    """A port with a page that is small, one that is large, and one that waits for `release`."""

    async def small(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=LARGE)

    async def held(_request: web.Request) -> web.Response:
        assert release is not None
        await release.wait()
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/held", held)
    app.router.add_get("/", small)
    app.router.add_get("/large", large)
    port = free_port()
    async with listening(app, ("127.0.0.1", port), PortOptions(seconds, most)):
        yield port


async def cut(reader: asyncio.StreamReader) -> float:
    """Wait until the other side has ended the connection; returns the seconds since now."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        try:
            while await reader.read(1 << 16):
                pass
        except ConnectionResetError:
            pass
    return time.monotonic() - began


async def test_who_sends_a_request_bit_by_bit_is_cut_however_busy() -> None:
    async with serving(0.6) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def drip() -> None:
            for byte in SLOW:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert await cut(reader) >= 0.5
        assert not dripping.done()
        dripping.cancel()
        writer.close()


async def test_who_is_slow_with_a_second_request_is_cut_too() -> None:
    async with serving(0.6) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.readuntil(b"ok")
        writer.write(SLOW)
        assert await cut(reader) >= 0.5
        writer.close()


async def test_who_takes_no_answer_is_cut() -> None:
    async with serving(0.6) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(1.5)  # the visitor does nothing all the time
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(LARGE))
        writer.close()


async def test_a_connection_may_be_used_for_longer_than_a_request_may_take() -> None:
    async with serving(3.0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        while time.monotonic() < began + 4.0:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await reader.readuntil(b"ok")
            await asyncio.sleep(0.2)  # until it asks again
        writer.close()


async def test_one_more_than_the_most_takes_the_place_of_the_one_that_waits_longest() -> None:
    async with serving(30.0, most=3) as port, AsyncExitStack() as stack:
        slow = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(SLOW)
            slow.append(reader)
        assert (await get(port, "/"))[:2] == (200, "ok")
        assert await cut(slow[0]) < 5
        assert not slow[1].at_eof()


async def test_one_more_is_closed_where_all_have_their_request_handled() -> None:
    release = asyncio.Event()
    async with serving(30.0, most=2, release=release) as port:
        held = [asyncio.create_task(get(port, "/held")) for _ in range(2)]
        await asyncio.sleep(0.3)  # until both are handled
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await cut(reader) < 5
        writer.close()
        release.set()
        assert [(await one)[0] for one in held] == [200, 200]


async def test_hundreds_of_slow_visitors_keep_nobody_out_for_long(centre: CallCentre) -> None:
    port = free_port()
    async with (
        running(centre.settings(http_listen=f"127.0.0.1:{port}"), centre.folder) as daemon,
        AsyncExitStack() as stack,
    ):
        await daemon.until("daemon.started")
        before = resident(daemon.process.pid)
        for _ in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(SLOW)
        began = time.monotonic()
        answer = None
        async with asyncio.timeout(PATIENCE):
            while answer is None:
                try:
                    answer = await get(port, "/healthz")
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
        assert answer[:2] == (200, "ok\n")
        assert time.monotonic() - began < listener.CLIENT_TIMEOUT + 5
        assert resident(daemon.process.pid) - before < 30
        assert await daemon.stop() == 0


def resident(pid: int) -> float:
    """Return the memory of a process in MB."""
    with Path(f"/proc/{pid}/status").open() as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
