"""Clients of the API listener that are malformed, large, slow or many; raw sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import orjson
import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.demo.standin import StandIn, serve
from daemon.web import visitor
from daemon.web.listener import PortOptions
from tests.support.daemon_process import PATIENCE
from tests.support.dialling import OPTIONS, QUESTION, TOKEN, ask, serving

QUICK = replace(OPTIONS, per_second=5000)
"""Tests open hundreds of connections."""
LINE = b"GET /onClickToDial HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /onClickToDial HTTP/1.1\r\nHost: x\r\n"
ALLOWED = f"Authorization: Bearer {TOKEN}\r\n".encode()
MEGABYTE = b"x" * 1024 * 1024


@asynccontextmanager
async def standing_in(options: PortOptions = QUICK) -> AsyncIterator[int]:
    standin = StandIn()
    async with serve(standin) as url, serving(standin, url, options=options) as port:
        yield port


async def sent(port: int, request: bytes) -> bytes:
    """Send something, and read until the other side ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE):
            while part := await reader.read(65536):
                answer += part
    except ConnectionResetError:
        pass
    finally:
        writer.transport.abort()
    return answer


REQUESTS = [
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("zeros", b"\x00" * 4096, 400),
    ("bad method token", b"GE\x01T /onClickToDial HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("unknown method", b"FETCH /onClickToDial HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("no version", b"GET /onClickToDial\r\n\r\n", 401),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("no host", b"GET /onClickToDial HTTP/1.1\r\n\r\n", 400),
    ("long request line", b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("long header", LINE + b"X: " + b"y" * 9000 + b"\r\n\r\n", 400),
    ("many headers", LINE + b"X: y\r\n" * 2000 + b"\r\n", 400),
    ("header without a colon", LINE + b"Authorization\r\n\r\n", 400),
    ("negative length", LINE + b"Content-Length: -1\r\n\r\n", 400),
    ("two lengths", POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
    ("length and chunks", POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("two tokens", LINE + ALLOWED + ALLOWED + b"\r\n", 401),
    ("bad chunk", POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ("endless chunks", POST + b"Transfer-Encoding: chunked\r\n\r\n100000\r\n" + MEGABYTE, 401),
    ("packed body", POST + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nxxxxxxxxx", 401),
    ("large body", POST + b"Content-Length: 99999999\r\n\r\n" + MEGABYTE, 413),
    ("expectation", LINE + b"Expect: miracles\r\n\r\n", 401),
    ("web socket", LINE + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", 401),
    ("tunnel", b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ("whole address", b"GET http://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ("star", b"OPTIONS * HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 404),
    ("path upwards", b"GET /../onClickToDial/.. HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ("path in bytes", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("token in bytes", LINE + b"Authorization: Bearer \xff\xfe\r\n\r\n", 401),
]


async def test_a_hostile_request_has_json_as_its_answer_and_ends_none_but_itself() -> None:
    with capture_logs() as events:
        async with standing_in() as port:
            for name, request, status in REQUESTS:
                head, _, body = (await sent(port, request)).partition(b"\r\n\r\n")
                lines = head.decode().lower().splitlines()
                assert lines[0].split()[1] == str(status), (name, head)
                assert "content-type: application/json" in lines, name
                assert "cache-control: no-store" in lines, name
                assert "x-content-type-options: nosniff" in lines, name
                assert "server: callstatsd" in lines, name
                assert list(orjson.loads(body)) == ["error", "message"], name
            assert (await ask(port))[0] == 200
    errors = {one["event"] for one in events if one["log_level"] == "error"}
    assert errors == {logs.DATABASE_LOST}  # the source, which is not there


async def test_many_questions_in_one_piece_are_answered_one_after_another() -> None:
    async with standing_in() as port:
        answers = await sent(port, QUESTION * 20 + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200") == 20
    assert answers.count(b"HTTP/1.1 404") == 1


async def test_who_is_refused_has_to_connect_again() -> None:
    async with standing_in() as port:
        wrong = QUESTION.replace(TOKEN.encode(), b"another-Token-0123")
        assert (await sent(port, wrong * 10)).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("piece", "pieces"), [(MEGABYTE, 3), (b"y", 20 * visitor.MAX_PIECES)], ids=["large", "many"]
)
async def test_what_is_beyond_a_request_stays_with_the_client(piece: bytes, pieces: int) -> None:
    """The system takes some of it; the listener reads no more, and cuts the client in time."""
    async with standing_in(replace(QUICK, client_timeout=1.0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + ALLOWED + b"Content-Length: 60000\r\nX: ")
        for _ in range(pieces):
            writer.write(piece)
            await asyncio.sleep(0)
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""
        assert answer == b"" or answer.split()[1] == b"400"
        assert time.monotonic() - began < 3
        writer.transport.abort()


async def test_a_crowd_keeps_neither_honest_questions_nor_new_connections_out() -> None:
    """256 connections wait with a part of a request each; the next takes the oldest one's place."""
    async with standing_in() as port, AsyncExitStack() as stack:
        oldest, writer = await asyncio.open_connection("127.0.0.1", port)
        stack.callback(writer.close)
        for _ in range(255):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(LINE)
        began = time.monotonic()
        for _ in range(3):
            assert (await ask(port))[0] == 200
        assert time.monotonic() - began < 3
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionResetError):
                assert await oldest.read() == b""


async def test_new_connections_are_taken_in_turn() -> None:
    """Who connects again and again without the token costs no more than so much a second."""
    async with standing_in(replace(OPTIONS, per_second=40)) as port:
        began = time.monotonic()
        await asyncio.gather(*(sent(port, LINE + b"\r\n") for _ in range(100)))
        assert time.monotonic() - began > (100 - 64 - 1) / 40
        assert (await ask(port))[0] == 200
