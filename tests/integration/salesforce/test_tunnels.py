"""Whether a request was sent, where a proxy or TLS ends its connection."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from daemon.delivery.outcome import PauseSender, classify
from daemon.lines import PauseReason
from daemon.salesforce.client import open_session
from daemon.salesforce.responses import NoResponse, Response, TokenFailure
from tests.support.raw import free_port, raw, request, trusted
from tests.support.wire import PATIENCE, Run, cut, reply, wire


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
