"""The local HTTP port, with limits for clients that are slow, many, or do not speak HTTP."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from daemon import logs

_log = structlog.get_logger()

CLIENT_TIMEOUT = 10.0
"""Seconds within which a client must send a request, or read a response and send the next."""
MAX_CONNECTIONS = 256
"""Connections at once; further ones are closed."""
SHUTDOWN_TIMEOUT = 2.0
"""Seconds for responses that are being sent when the daemon ends."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def listening(
    app: web.Application,
    address: tuple[str, int] | None,
    client_timeout: float = CLIENT_TIMEOUT,
    max_connections: int = MAX_CONNECTIONS,
    *,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    retry_every: float | None = None,
    unavailable: str = logs.MONITOR_UNAVAILABLE,
) -> AsyncIterator[None]:
    """Serve while the block runs; an address that cannot be used is only logged, once.

    With `retry_every` it is tried again after so many seconds.
    """
    if address is None:
        yield
        return
    server_logger.addFilter(_is_not_client_error)
    timer = ConnectionTimer(client_timeout)
    app.middlewares.insert(0, timer.middleware)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    port = _Port(runner, timer, address, max_connections)
    try:
        error = await port.open()
        if error is not None:
            _log.warning(unavailable, address=f"{address[0]}:{address[1]}", error=error.strerror)
            if retry_every is not None:
                port.open_later(retry_every)
        yield
    finally:
        port.close()
        await runner.cleanup()
        timer.close()


class _Port:
    """The address that is listened at, or will be."""

    def __init__(
        self,
        runner: web.AppRunner,
        timer: "ConnectionTimer",
        address: tuple[str, int],
        max_connections: int,
    ) -> None:
        assert runner.server is not None  # noqa: S101  it is set up
        self._server = runner.server
        self._timer = timer
        self._address = address
        self._max_connections = max_connections
        self._opened: asyncio.Server | None = None
        self._retrying: asyncio.Task[None] | None = None

    async def open(self) -> OSError | None:
        """Listen; returns why the address cannot be used."""
        server, timer, most = self._server, self._timer, self._max_connections
        try:
            self._opened = await asyncio.get_running_loop().create_server(
                lambda: NewConnection(server, timer, most), *self._address
            )
        except OSError as error:
            return error
        return None

    def open_later(self, seconds: float) -> None:
        """Try again every so many seconds, until the address can be used."""
        self._retrying = asyncio.create_task(self._retry(seconds))

    def close(self) -> None:
        """Take no further connections."""
        if self._retrying is not None:
            self._retrying.cancel()
        if self._opened is not None:
            self._opened.close()

    async def _retry(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            if await self.open() is None:
                return


class NewConnection(asyncio.Protocol):
    """A new connection: passed to the web server, or closed if there are too many."""

    def __init__(self, server: web.Server, timer: "ConnectionTimer", max_connections: int) -> None:
        self._server = server
        self._timer = timer
        self._max_connections = max_connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass the connection on, and start its timer."""
        connection = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= self._max_connections:
            connection.abort()
            return
        self._timer.start(connection)
        serving = self._server()
        connection.set_protocol(serving)
        serving.connection_made(transport)


class ConnectionTimer:
    """Closes connections on which no request was handled for `timeout` seconds.

    That covers clients that send a request slowly, do not read the response, or are idle.
    Handlers have their own limits.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._running: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def start(self, transport: asyncio.Transport) -> None:
        """Close the connection unless a request arrives in time."""
        loop = asyncio.get_running_loop()
        self._running[transport] = loop.call_later(self._timeout, self._cut, transport)

    def close(self) -> None:
        """Stop all timers."""
        for timer in self._running.values():
            timer.cancel()
        self._running.clear()

    def _cut(self, transport: asyncio.Transport) -> None:
        del self._running[transport]
        transport.abort()

    @property
    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """Return a middleware that stops the timer while a request is handled."""

        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            transport = request.transport
            timer = self._running.pop(transport, None) if transport is not None else None
            if timer is not None:
                timer.cancel()
            try:
                return await handler(request)
            finally:
                if transport is not None and transport not in self._running:
                    self.start(transport)

        return handle


def _is_not_client_error(record: logging.LogRecord) -> bool:
    """Drop the library's log of malformed requests: it quotes them, with whatever they contain."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
