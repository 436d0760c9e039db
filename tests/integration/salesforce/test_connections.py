"""What lies on a connection before a request, proxies and TLS alerts (section 5).

Each scenario runs on asyncio's event loop and on uvloop's, which the daemon uses.
"""

import asyncio
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.delivery.outcome import PauseSender, classify
from daemon.lines import PauseReason
from daemon.salesforce.client import EndpointUrl, Salesforce, open_session
from daemon.salesforce.oauth import ClientCredentials, FixedToken, OAuthTokens
from daemon.salesforce.responses import NoResponse, Response, TokenFailure
from tests.support import ways
from tests.support.raw import free_port, raw, request, trusted

PATIENCE = 20.0
"""Half of it is less than connections are kept."""


class Run(ways.Way):
    """Runs a scenario on one event loop; its client sends by one way."""

    def __call__(self, scenario: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await scenario

        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(bounded())

    def client(self, session: Any, url: str) -> Salesforce:
        tokens = FixedToken(None)
        return Salesforce(session, EndpointUrl(url), tokens, exchange=self.make_exchange)


@pytest.fixture(params=ways.WAYS.values(), ids=list(ways.WAYS))
def run(request: pytest.FixtureRequest) -> Run:
    return Run(*request.param)


def reply(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


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


def wire(end: asyncio.StreamWriter | ssl.SSLSocket) -> socket.socket:
    """The connection itself, to act on it before the event loop may, or below TLS."""
    held = end.get_extra_info("socket") if isinstance(end, asyncio.StreamWriter) else end
    return socket.socket(fileno=os.dup(held.fileno()))


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


# A proxy


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def nothing(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def saying(data: bytes) -> Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return say


PROXIES = {
    "cut": cut,
    "silent": nothing,
    "no http": saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "half a status line": saying(b"HTTP/1.1 20"),
    "no end of headers": saying(b"HTTP/1.1 200 OK\r\nX: y\r\n"),
    "407": saying(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"),
    "502": saying(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad"),
    "unknown status": saying(b"HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n"),
    "redirect": saying(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n"),
    "continue and cut": saying(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "tunnel and cut": saying(b"HTTP/1.1 200 Connection established\r\n\r\n"),
    "tunnel and nonsense": saying(b"HTTP/1.1 200 OK\r\n\r\n" + reply("not TLS")),
}


def not_sent(answer: object) -> bool:
    return isinstance(answer, NoResponse) and not answer.sent


@pytest.mark.parametrize("behaves", PROXIES.values(), ids=PROXIES.keys())
def test_whatever_a_proxy_does_at_connect_nothing_was_sent(
    run: Run, monkeypatch: pytest.MonkeyPatch, behaves: Any
) -> None:
    async def scenario() -> None:
        asked = []

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0])
            await behaves(writer)

        async with raw(proxy) as port, open_session("0", 1.0, environment_proxy=True) as http:
            through(monkeypatch, port)
            answer = await run.client(http, "https://salesforce.example/").post("1-0-0-0", b"{}")
        assert asked == [b"CONNECT"]
        assert isinstance(answer, NoResponse)
        assert not answer.sent, answer
        outcome = classify(answer)
        assert isinstance(outcome, PauseSender)
        assert (outcome.reason, outcome.sent) == (PauseReason.UNAVAILABLE, False)

    run(scenario())


def test_a_proxy_that_is_not_there_is_named_as_the_fault(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with open_session("0", 5.0, environment_proxy=True) as http:
            through(monkeypatch, free_port())
            answer = await run.client(http, "https://salesforce.example/").post("1-0-0-0", b"{}")
        assert isinstance(answer, NoResponse)
        assert answer.error.startswith("no connection to salesforce.example: ")
        assert "the proxy" in answer.error
        assert not_sent(answer)

    run(scenario())


def test_a_tunnel_cut_after_the_request_leaves_it_open(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca_file, context = trusted(tmp_path)

    async def scenario() -> None:
        received = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await request(reader)
            received.set()

        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(raw(handler, context))
            relay = Relay(port, proxy=True)
            through(monkeypatch, await stack.enter_async_context(relay.listening()))
            http = await stack.enter_async_context(
                open_session("0", 10.0, ca_file=ca_file, environment_proxy=True)
            )
            answer = await run.client(http, f"https://127.0.0.1:{port}/").post("1-0-0-0", b"{}")
            assert received.is_set()
            assert isinstance(answer, NoResponse)
            assert answer.sent

    run(scenario())


def through(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


# TLS alerts


@contextmanager
def blocking(context: ssl.SSLContext) -> Iterator[int]:
    """A TLS server that sends its alerts, while asyncio's aborts, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.settimeout(PATIENCE)
                    with context.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    ) as tls:
                        refuse(tls)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def refuse(tls: ssl.SSLSocket) -> None:
    """Fail in the handshake, and read what the client still writes: else its system says reset."""
    with suppress(OSError):
        tls.do_handshake()
    with suppress(OSError), wire(tls) as connection:
        connection.settimeout(PATIENCE)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_clients_certificate_was_sent_nothing(
    run: Run, tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    """In TLS 1.3 its alert comes when the request is written."""
    ca_file, context = trusted(tmp_path)
    context.maximum_version = newest
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_file)

    async def scenario() -> None:
        with blocking(context) as port:
            async with open_session("0", 10.0, ca_file=ca_file) as http:
                client = run.client(http, f"https://127.0.0.1:{port}/")
                for key in ("1-0-0-0", "2-0-0-0", "3-0-0-0"):
                    answer = await client.post(key, b"{}")
                    assert isinstance(answer, NoResponse)
                    assert not answer.sent, answer
                    assert answer.error.startswith(
                        f"no connection to 127.0.0.1:{port}: TLS refused by the server: "
                    )

    run(scenario())


def test_an_alert_in_the_handshake_means_that_nothing_was_sent(run: Run, tmp_path: Path) -> None:
    ca_file, context = trusted(tmp_path)
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    async def scenario() -> None:
        with blocking(context) as port:
            async with open_session("0", 10.0, ca_file=ca_file) as http:
                answer = await run.client(http, f"https://127.0.0.1:{port}/").post("1-0-0-0", b"{}")
        assert isinstance(answer, NoResponse)
        assert answer == NoResponse(
            sent=False,
            error=f"no connection to 127.0.0.1:{port}: TLS refused by the server: "
            "unrecognized name",
        )

    run(scenario())


@pytest.mark.parametrize("begun", [b"", b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
def test_an_alert_after_the_request_arrived_leaves_it_open(
    run: Run, tmp_path: Path, begun: bytes, *, kept: bool
) -> None:
    """It speaks of a broken record, not of the handshake or a certificate."""
    ca_file, context = trusted(tmp_path)

    async def scenario() -> None:
        relays: list[Relay] = []
        arrived: list[str] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if kept:
                await request(reader)
                writer.write(reply("first"))
            key, _ = await request(reader)
            arrived.append(key)
            writer.write(begun)
            await writer.drain()
            relays[0].disturb()
            with suppress(ConnectionError, ssl.SSLError):
                await reader.read()

        async with raw(handler, context) as port:
            relays.append(Relay(port))
            async with (
                relays[0].listening() as before,
                open_session("0", 10.0, ca_file=ca_file) as http,
            ):
                client = run.client(http, f"https://127.0.0.1:{before}/")
                if kept:
                    assert await client.post("1-0-0-0", b"{}") == Response(200, "first")
                answer = await client.post("2-0-0-0", b"{}")
        assert arrived == ["2-0-0-0"]
        assert isinstance(answer, NoResponse)
        assert answer.sent, answer

    run(scenario())


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_new_connection_cut_after_the_request_leaves_it_open(
    run: Run, tmp_path: Path, *, tls: bool
) -> None:
    ca_file, context = trusted(tmp_path) if tls else (None, None)

    async def scenario() -> None:
        async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await request(reader)

        async with raw(handler, context) as port, open_session("0", 10.0, ca_file=ca_file) as http:
            url = f"http{'s' if tls else ''}://127.0.0.1:{port}/"
            answer = await run.client(http, url).post("1-0-0-0", b"{}")
        assert isinstance(answer, NoResponse)
        assert answer == NoResponse(True, "the connection was closed before a response came")

    run(scenario())


class Relay:
    """Passes bytes to a port of this machine, behind a CONNECT if it is a proxy."""

    def __init__(self, port: int, *, proxy: bool = False) -> None:
        self.port = port
        self.proxy = proxy
        self._server: asyncio.StreamWriter | None = None

    @asynccontextmanager
    async def listening(self) -> Any:
        async with raw(self._relay) as port:
            yield port

    def disturb(self) -> None:
        """Break a record on its way to the server."""
        assert self._server is not None
        self._server.write(b"\x17\x03\x03\x00\x20" + bytes(32))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.proxy:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back, self._server = await asyncio.open_connection("127.0.0.1", self.port)
        there = asyncio.create_task(passed(reader, self._server))
        try:
            await passed(back, writer)
        finally:
            self._server.close()
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)


async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def test_a_word_of_the_answer_is_in_no_error(run: Run) -> None:
    """Nothing that a server writes is told as the reason."""

    async def scenario() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nSecret: s3cr3t\x00\r\n\r\ns3cr3t")
            await writer.drain()

        async with raw(handler) as port, open_session("0", 10.0) as http:
            answer: Response | NoResponse | TokenFailure = await run.client(
                http, f"http://127.0.0.1:{port}/"
            ).post("1-0-0-0", b"{}")
        assert answer == NoResponse(True, "the answer is not valid HTTP")

    run(scenario())
