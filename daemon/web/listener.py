"""A local HTTP port, with limits for clients that are slow, many, or do not speak HTTP."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from daemon import logs
from daemon.urls import show_address
from daemon.web.pace import Pace
from daemon.web.visitor import Handler, Visitor, Waiting

_log = structlog.get_logger()

CLIENT_TIMEOUT = 10.0
"""Seconds within which a client must send a request, or read a response and send the next."""
MAX_CONNECTIONS = 256
"""Connections at once."""
SHUTDOWN_TIMEOUT = 2.0
"""Seconds for responses that are being sent when the daemon ends."""
PER_SECOND = 100
"""New connections a second; further ones wait in the system's queue."""
BURST = 64
"""New connections that are taken at once after a rest."""
QUEUE = 256
"""New connections that wait in the system's queue."""
AFTER_FAULT = 1.0
"""Seconds after which new connections are taken again when the system had no room for one."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class PortOptions:
    """How a port is served.

    An address that cannot be used is logged once, as `unavailable`; with `retry_every` it is tried
    again after so many seconds. `malformed` makes the response to what is not valid HTTP.
    """

    client_timeout: float = CLIENT_TIMEOUT
    max_connections: int = MAX_CONNECTIONS
    per_second: float = PER_SECOND
    shutdown_timeout: float = SHUTDOWN_TIMEOUT
    retry_every: float | None = None
    unavailable: str = logs.MONITOR_UNAVAILABLE
    malformed: Callable[[], web.Response] | None = None


DEFAULTS = PortOptions()


@asynccontextmanager
async def listening(
    site: web.Application | Handler, address: Address | None, options: PortOptions = DEFAULTS
) -> AsyncIterator[None]:
    """Serve while the block runs; its end waits for responses under way."""
    if address is None:
        yield
        return
    server_logger.addFilter(_is_not_client_error)
    runner: web.AppRunner | web.ServerRunner
    if isinstance(site, web.Application):
        runner = web.AppRunner(site, shutdown_timeout=options.shutdown_timeout)
    else:
        runner = web.ServerRunner(web.Server(site), shutdown_timeout=options.shutdown_timeout)
    await runner.setup()
    assert runner.server is not None  # noqa: S101  it is set up
    port = _Port(runner.server, address, options)
    try:
        error = await port.open()
        if error is not None:
            _log.warning(options.unavailable, address=show_address(address), error=error.strerror)
            if options.retry_every is not None:
                port.open_later(options.retry_every)
        yield
    finally:
        await port.close()
        await runner.cleanup()


class _Port:
    """The address that is listened at, or will be."""

    def __init__(self, server: web.Server, address: Address, options: PortOptions) -> None:
        self._server = server
        self._address = address
        self._options = options
        self._waiting = Waiting(options.client_timeout)
        self._pace = Pace(options.per_second, BURST)
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        server.request_handler = self._waiting.timed(server.request_handler)

    async def open(self) -> OSError | None:
        """Listen; returns why the address cannot be used."""
        try:
            self._sockets = await open_sockets(self._address, QUEUE)
        except OSError as error:
            return error
        self._tasks += [asyncio.create_task(self._accept(one)) for one in self._sockets]
        return None

    def open_later(self, seconds: float) -> None:
        """Try again every so many seconds, until the address can be used."""
        self._tasks.append(asyncio.create_task(self._retry(seconds)))

    async def close(self) -> None:
        """Take no further connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._sockets:
            listener.close()

    async def _retry(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            if await self.open() is None:
                return

    async def _accept(self, listener: socket.socket) -> None:
        """Take connections in turn; one too many takes the place of another that only waits."""
        loop = asyncio.get_running_loop()
        while True:
            await self._pace.turn()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor is left, or the client has gone
                await asyncio.sleep(AFTER_FAULT)
                continue
            full = len(self._server.connections) >= self._options.max_connections
            if full and not self._waiting.make_room():
                connection.close()
                continue
            try:
                await loop.connect_accepted_socket(self._visitor, connection)
            except OSError:
                connection.close()

    def _visitor(self) -> Visitor:
        return Visitor(self._server, self._waiting, self._options.malformed)


async def open_sockets(address: Address, queue: int) -> list[socket.socket]:
    """Listen at all addresses of a host; raises `OSError` if one of them cannot be used."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, resolved in found:
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(resolved)
            listener.listen(queue)
    except OSError:
        for listener in sockets:
            listener.close()
        raise
    return sockets


def _is_not_client_error(record: logging.LogRecord) -> bool:
    """Drop the library's log of malformed requests: it quotes them, with whatever they contain."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
