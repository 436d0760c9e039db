"""Faults of connections, in words: real ones where the machine can make them."""

import asyncio
import errno
import socket
import ssl

import aiohttp
import pytest
from yarl import URL

from daemon.database.network import reason
from tests.support.pooler import free_port


async def failing(url: str) -> BaseException:
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with pytest.raises(Exception) as caught:
            await session.get(url)
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_refused_connection_is_called_so_however_many_addresses_a_host_has(
    host: str,
) -> None:
    port = free_port()
    assert reason(await failing(f"http://{host}:{port}/")) == "connection refused"
    with pytest.raises(OSError) as caught:
        await asyncio.open_connection(host, port)
    assert reason(caught.value) == "connection refused"


async def test_what_is_no_tls_is_called_so() -> None:
    async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello, this is plain text\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        assert reason(await failing(f"https://127.0.0.1:{port}/")).startswith("TLS failed: ")
    finally:
        server.close()


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] …")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "no answer in time"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "unknown host name"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "the name server does not answer"),
        (ConnectionResetError(errno.ECONNRESET, "reset by peer"), "the connection was cut"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to the host"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "no socket there"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 5432, 0, 0), "
                    "[Errno 111] Connect call failed ('127.0.0.1', 5432)"),
            "connection refused",
        ),
        (certificate_error(), "its certificate is not trusted: self-signed certificate"),
        (aiohttp.ServerDisconnectedError(), "server disconnected"),
        (aiohttp.InvalidURL(URL("https://x/secret?token=hush")), "the address cannot be used"),
        (asyncio.IncompleteReadError(b"", 4), "the connection was cut"),
    ],
)  # fmt: skip
def test_each_fault_has_plain_words(error: BaseException, says: str) -> None:
    assert reason(error) == says
