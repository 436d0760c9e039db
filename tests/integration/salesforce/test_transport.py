"""TLS, authorities and proxies, over real sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from daemon.errors import ConfigurationError
from daemon.salesforce.client import EndpointUrl, Salesforce, open_session
from daemon.salesforce.oauth import FixedToken
from daemon.salesforce.responses import NoResponse, Response
from tests.support.raw import authority


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return authority(tmp_path)


async def served(context: ssl.SSLContext | None) -> AsyncIterator[str]:
    async def written(_: web.Request) -> web.Response:
        return web.Response(text="{}")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", written)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    scheme = "http" if context is None else "https"
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"{scheme}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def https(ca_file: Path) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file)
    async for url in served(context):
        yield url


@pytest.fixture
async def http() -> AsyncIterator[str]:
    async for url in served(None):
        yield url


async def post(url: str, *, ca_file: Path | None = None, proxy: bool = False) -> object:
    async with open_session("0", 5.0, ca_file=ca_file, environment_proxy=proxy) as session:
        salesforce = Salesforce(session, EndpointUrl(f"{url}/x"), FixedToken(None))
        return await salesforce.post("1-0-0-0", b"{}")


async def test_a_certificate_of_an_unknown_authority_sends_nothing(https: str) -> None:
    answer = await post(https)
    assert isinstance(answer, NoResponse)
    assert not answer.sent


async def test_an_authority_of_ones_own_is_trusted_where_its_file_is_named(
    https: str, ca_file: Path
) -> None:
    assert await post(https, ca_file=ca_file) == Response(200, "{}")


async def test_a_file_that_holds_no_certificate_is_a_fault_of_the_settings(
    tmp_path: Path,
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ConfigurationError, match="CALLSTATSD_CA_FILE"):
            await post("https://127.0.0.1:1", ca_file=path)


async def test_old_tls_is_refused(ca_file: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file)
    for bound in ("minimum_version", "maximum_version"):
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            setattr(context, bound, ssl.TLSVersion.TLSv1_1)
    async for url in served(context):
        answer = await post(url, ca_file=ca_file)
        assert isinstance(answer, NoResponse)
        assert not answer.sent


async def test_proxies_of_the_environment_are_used_only_when_asked_for(
    http: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert await post(http) == Response(200, "{}")
        assert not reached.is_set()
        answer = await post(http, proxy=True)
        assert reached.is_set()
        assert isinstance(answer, Response)
        assert answer.status == 407
