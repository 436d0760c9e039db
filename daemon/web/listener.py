"""The local HTTP port: bounds for visitors who are slow, many, or speak no HTTP."""

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

PATIENCE = 10.0
"""Seconds until a request's head must be there; and for taking an answer and asking again."""
MOST_CONNECTIONS = 256
"""Connections at once; further ones are closed."""
LAST_ANSWERS = 2.0
"""Seconds that answers under way have when the daemon ends."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def listening(
    app: web.Application, address: tuple[str, int] | None, patience: float = PATIENCE
) -> AsyncIterator[None]:
    """Serve while the block runs; an address that is taken is logged, and ends nothing."""
    if address is None:
        yield
        return
    server_logger.addFilter(_says_nothing_of_visitors)
    clock = Clock(patience)
    app.middlewares.append(clock.stopped_while_handled)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=LAST_ANSWERS)
    await runner.setup()
    try:
        port = await _open(runner, clock, address)
        try:
            yield
        finally:
            if port is not None:
                port.close()
    finally:
        await runner.cleanup()
        clock.close()


async def _open(
    runner: web.AppRunner, clock: "Clock", address: tuple[str, int]
) -> asyncio.Server | None:
    loop = asyncio.get_running_loop()
    server = runner.server
    assert server is not None  # noqa: S101  it is set up
    try:
        return await loop.create_server(lambda: Visitor(server, clock), *address)
    except OSError as error:
        _log.warning(
            logs.MONITOR_UNAVAILABLE, address=f"{address[0]}:{address[1]}", error=error.strerror
        )
        return None


class Visitor(asyncio.Protocol):
    """A new connection: handed to the web server, or closed where there are too many."""

    def __init__(self, server: web.Server, clock: "Clock") -> None:
        """Take whom to hand it to, and what limits its time."""
        self._server = server
        self._clock = clock

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with its first request."""
        connection = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= MOST_CONNECTIONS:
            connection.abort()
            return
        self._clock.start(connection)
        serving = self._server()
        connection.set_protocol(serving)
        serving.connection_made(transport)


class Clock:
    """Cuts connections on which for too long no request was handled.

    That is one rule for who sends a request bit by bit, who takes no answer, and who is idle.
    What handles a request has its own limits.
    """

    def __init__(self, patience: float) -> None:
        """Give each connection so many seconds from one request to the next."""
        self._patience = patience
        self._running: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def start(self, transport: asyncio.Transport) -> None:
        """Cut the connection unless a request of it comes in time."""
        loop = asyncio.get_running_loop()
        self._running[transport] = loop.call_later(self._patience, self._cut, transport)

    def close(self) -> None:
        """Cut nobody any more."""
        for timer in self._running.values():
            timer.cancel()
        self._running.clear()

    def _cut(self, transport: asyncio.Transport) -> None:
        del self._running[transport]
        transport.abort()

    @property
    def stopped_while_handled(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """Return the middleware that knows of requests."""

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


def _says_nothing_of_visitors(record: logging.LogRecord) -> bool:
    """Keep out of the log what is no HTTP: the library would quote it, with whatever is in it."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
