"""Which way a request goes, and what only one of the ways could get wrong."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from daemon.salesforce.client import open_session
from daemon.salesforce.exchange import (
    Direct,
    Exchange,
    MakeExchange,
    ThroughSession,
    exchange,
    why_not_direct,
)
from tests.support.daemon_process import PATIENCE
from tests.support.raw import OK, Recorder, raw, request, trusted

EACH_WAY = True
HEADERS = {"Authorization": "Bearer t"}
LARGE = b"x" * 8_000_000
"""More than the buffers of a connection take."""


@pytest.mark.parametrize(
    ("url", "way"),
    [
        ("https://salesforce.example/x", Direct),
        ("http://[::1]:8080/x?y=1", Direct),
        ("https://user:word@salesforce.example/x", ThroughSession),
        ("https://:word@salesforce.example/x", ThroughSession),
        ("ftp://salesforce.example/x", ThroughSession),
        ("https:///x", ThroughSession),
        ("https://salesforce.example:port/", ThroughSession),
        ("/x", ThroughSession),
        ("", ThroughSession),
    ],
)
async def test_a_plain_address_is_reached_directly(url: str, way: type[Exchange]) -> None:
    async with open_session("1", 5.0) as session:
        assert type(exchange(session, url, HEADERS)) is way


async def test_where_a_proxy_may_apply_everything_goes_through_the_session() -> None:
    async with open_session("1", 5.0, environment_proxy=True) as session:
        assert type(exchange(session, "https://salesforce.example/x", HEADERS)) is ThroughSession
        assert why_not_direct(session) == "a proxy of the environment may apply"


async def test_an_aiohttp_without_the_names_that_are_needed_is_used_through_its_session() -> None:
    async with open_session("1", 5.0) as session:
        assert why_not_direct(session) is None
        needed = ((aiohttp.ClientRequest, "connection_key"), (aiohttp.ClientSession, "no_such"))
        assert why_not_direct(session, needed) == (
            f"aiohttp {aiohttp.__version__} lacks ClientSession.no_such"
        )


async def test_both_ways_send_the_same_bytes() -> None:
    recorder = Recorder()
    async with raw(recorder) as port, open_session("1", 5.0) as session:
        for way in (exchange, ThroughSession):
            there = way(session, f"http://127.0.0.1:{port}/ä b?c=%20d", HEADERS)
            await there.post("1-0-0-0", b'{"a": 1}')
    direct, through = (sorted(head.splitlines()) for head in recorder.heads)
    assert direct == through
    assert "POST /%C3%A4%20b?c=%20d HTTP/1.1" in direct
    assert recorder.bodies == [b'{"a": 1}'] * 2


@pytest.mark.parametrize("end", ["\r", "\n", "\0", "\r\nX-Other: 1"])
async def test_no_token_and_no_key_adds_a_header(make_exchange: MakeExchange, end: str) -> None:
    recorder = Recorder()
    async with raw(recorder) as port, open_session("1", 5.0) as session:
        url = f"http://127.0.0.1:{port}/"
        with pytest.raises(ValueError, match=r"in headers|control character"):
            await make_exchange(session, url, {"Authorization": f"Bearer t{end}"}).post("1", b"{}")
        with pytest.raises(ValueError, match=r"in headers|control character"):
            await make_exchange(session, url, HEADERS).post(f"1{end}", b"{}")
        assert recorder.heads == []
        answer = await make_exchange(session, f"{url}a{end}b", HEADERS).post("1", b"{}")
        assert answer.status == 200
    [head] = recorder.heads
    assert "X-Other" not in head.partition("\r\n")[2]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_after_an_early_answer_the_rest_of_the_request_meets_no_other(
    tmp_path: Path, *, tls: bool
) -> None:
    """The server answers when it has seen the head; the next request has its own connection."""
    connections = 0

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await asyncio.Event().wait()
        while True:
            await request(reader)
            writer.write(OK)

    ca_file, context = trusted(tmp_path) if tls else (None, None)
    async with raw(early, context) as port, open_session("1", 5.0, ca_file=ca_file) as session:
        there = exchange(session, f"http{'s' * tls}://127.0.0.1:{port}/", HEADERS)
        async with asyncio.timeout(PATIENCE):
            assert (await there.post("1-0-0-0", LARGE)).status == 413
            assert (await there.post("2-0-0-0", b"{}")).status == 200
    assert connections == 2


async def test_answers_on_the_way_are_passed_over(make_exchange: MakeExchange) -> None:
    before = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with raw(Recorder(before + OK)) as port, open_session("1", 5.0) as session:
        there = make_exchange(session, f"http://127.0.0.1:{port}/", HEADERS)
        for key in ("1-0-0-0", "2-0-0-0"):
            answer = await there.post(key, b"{}")
            assert (answer.status, answer.body) == (200, b"{}")


async def test_a_request_that_is_given_up_takes_its_connection_with_it(
    make_exchange: MakeExchange,
) -> None:
    """An answer that comes later is not taken for the next request's."""
    asked = asyncio.Event()
    connections = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request(reader)
        if connections == 1:
            asked.set()
            await reader.read()
        writer.write(OK)

    async with raw(slow) as port, open_session("1", 5.0) as session:
        there = make_exchange(session, f"http://127.0.0.1:{port}/", HEADERS)
        posting = asyncio.create_task(there.post("1-0-0-0", b"{}"))
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            posting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await posting
            assert (await there.post("2-0-0-0", b"{}")).status == 200
    assert connections == 2
