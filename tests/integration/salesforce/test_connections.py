"""What lies on a connection before a request, proxies and TLS alerts (section 5).

Each scenario runs on asyncio's event loop and on uvloop's, which the daemon uses.
"""

import asyncio
import json
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daemon.salesforce.client import EndpointUrl, Salesforce, open_session
from daemon.salesforce.oauth import ClientCredentials, OAuthTokens
from daemon.salesforce.responses import NoResponse, Response
from tests.support.raw import raw, request, trusted
from tests.support.wire import PATIENCE, Run, reply, wire

STRAYS = {
    "a whole answer": reply("stray", "409 Conflict"),
    "two answers": reply("stray") * 2,
    "half an answer": reply("stray")[:30],
    "half a status line": b"HTTP/1.1 20",
    "one byte": b"H",
    "an empty line": b"\r\n",
    "nonsense": b"\x16\x03\x01\x00",
    "a time-out": reply("", "408 Request Time-out"),
    "a time-out that ends it": reply("", "408 Request Time-out").replace(
        b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"
    ),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@dataclass
class Stray:
    """Answers each request by its key, and says more than that when it is told to."""

    behind: bytes = b""
    """Written in one piece with each answer."""
    keys: list[str] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Barrier | None = None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                key, _ = await request(reader)
                self.keys.append(key)
                if self.at_once is not None:
                    await self.at_once.wait()
                writer.write(reply(f"for {key}") + self.behind)
                await writer.drain()
        finally:
            self.closed.set()


SHORT_LIST = ["a whole answer", "one byte", "a time-out that ends it"]
CASES = [
    *((stray, False, seen) for stray in STRAYS for seen in (True, False)),
    *((stray, True, True) for stray in SHORT_LIST),
]


@pytest.mark.parametrize(("name", "tls", "seen"), CASES)
def test_what_lies_on_a_kept_connection_answers_no_request(
    run: Run, tmp_path: Path, name: str, *, tls: bool, seen: bool
) -> None:
    """It is closed, and the line sent on another, whether the loop has read the bytes or not."""

    async def scenario() -> None:
        ca_file, context = trusted(tmp_path) if tls else (None, None)
        server = Stray()
        async with raw(server, context) as port, open_session("0", 10.0, ca_file=ca_file) as http:
            client = run.client(http, f"http{'s' if tls else ''}://127.0.0.1:{port}/")
            assert await client.post("1-0-0-0", b"{}") == Response(200, "for 1-0-0-0")
            if seen:
                server.writers[0].write(STRAYS[name])
                async with asyncio.timeout(PATIENCE / 2):
                    await server.closed.wait()
            else:
                with wire(server.writers[0]) as connection:
                    connection.sendall(STRAYS[name])
            assert await client.post("2-0-0-0", b"{}") == Response(200, "for 2-0-0-0")
            assert server.keys == ["1-0-0-0", "2-0-0-0"]
            assert len(server.writers) == 2
            # And that connection is kept as any other.
            assert await client.post("3-0-0-0", b"{}") == Response(200, "for 3-0-0-0")
            assert len(server.writers) == 2

    run(scenario())


def test_a_server_that_ended_a_kept_connection_costs_no_attempt(run: Run) -> None:
    """Though the loop has not yet heard of it."""

    async def scenario() -> None:
        server = Stray()
        async with raw(server) as port, open_session("0", 10.0) as http:
            client = run.client(http, f"http://127.0.0.1:{port}/")
            await client.post("1-0-0-0", b"{}")
            with wire(server.writers[0]) as connection:
                connection.shutdown(socket.SHUT_WR)
            assert await client.post("2-0-0-0", b"{}") == Response(200, "for 2-0-0-0")
            assert len(server.writers) == 2

    run(scenario())


@pytest.mark.parametrize("behind", [STRAYS["a whole answer"], STRAYS["two answers"]])
def test_an_answer_in_one_piece_with_another_answers_no_request(run: Run, behind: bytes) -> None:
    async def scenario() -> None:
        server = Stray(behind)
        async with raw(server) as port, open_session("0", 10.0) as http:
            client = run.client(http, f"http://127.0.0.1:{port}/")
            for key in ("1-0-0-0", "2-0-0-0", "3-0-0-0"):
                assert await client.post(key, b"{}") == Response(200, f"for {key}")
            assert len(server.writers) == 3

    run(scenario())


@pytest.mark.parametrize("to", ["a token request", "a record"])
def test_a_whole_answer_behind_a_body_answers_no_request(run: Run, to: str) -> None:
    """The head came first, so that the connection is free as soon as the body has come."""

    async def scenario() -> None:
        asked: list[str] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                key, _ = await request(reader)
                asked.append(key)
                token = {"access_token": "t", "instance_url": f"http://127.0.0.1:{port}"}
                answer = reply(f"for {key}") if key else reply(json.dumps(token))
                end_of_head = answer.index(b"\r\n\r\n") + 4
                writer.write(answer[:end_of_head])
                await writer.drain()
                await asyncio.sleep(0.02)
                stray = STRAYS["a whole answer"] if bool(key) is (to == "a record") else b""
                writer.write(answer[end_of_head:] + stray)

        async with raw(handler) as port, open_session("0", 5.0) as http:
            grant = ClientCredentials("id", "secret")
            tokens = OAuthTokens(http, f"http://127.0.0.1:{port}/token", grant)
            client = Salesforce(http, EndpointUrl("/x"), tokens, exchange=run.make_exchange)
            for key in ("1-0-0-0", "2-0-0-0"):
                assert await client.post(key, b"{}") == Response(200, f"for {key}")
        assert asked == ["", "1-0-0-0", "2-0-0-0"]

    run(scenario())


@pytest.mark.parametrize("cut", [1, 11, 30])
def test_a_stray_answer_whose_pieces_lie_around_a_request_is_not_taken_for_its_answer(
    run: Run, cut: int
) -> None:
    """The first came with the last answer, the rest after the request was written."""
    stray = STRAYS["a whole answer"]

    async def scenario() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(reply("first") + stray[:cut])
            await request(reader)
            writer.write(stray[cut:])
            await writer.drain()

        async with raw(handler) as port, open_session("0", 10.0) as http:
            client = run.client(http, f"http://127.0.0.1:{port}/")
            assert await client.post("1-0-0-0", b"{}") == Response(200, "first")
            answer = await client.post("2-0-0-0", b"{}")
            assert isinstance(answer, NoResponse)
            assert answer.sent

    run(scenario())


def test_all_kept_connections_may_be_spoilt_at_once(run: Run) -> None:
    async def scenario() -> None:
        server = Stray(at_once=asyncio.Barrier(4))
        async with raw(server) as port, open_session("0", 10.0) as http:
            client = run.client(http, f"http://127.0.0.1:{port}/")
            await asyncio.gather(*(client.post(f"{n}-0-0-0", b"{}") for n in range(4)))
            server.at_once = None
            assert len(server.writers) == 4
            for writer in server.writers:
                with wire(writer) as connection:
                    connection.sendall(STRAYS["a whole answer"])
            assert await client.post("5-0-0-0", b"{}") == Response(200, "for 5-0-0-0")
            assert len(server.writers) == 5

    run(scenario())
