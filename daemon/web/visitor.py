"""One connection of a web client, with limits for those that are slow or send too much."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

MAX_LINE = 8192
"""Bytes of a request line, and of a header."""
MAX_REQUEST = 128 * 1024
"""Bytes of a request that are read, with its headers and its body."""
MAX_PIECES = 256
"""Pieces in which a request may arrive: each takes time, however small it is."""
LINGER = 1.0
"""Seconds in which a client that still sends may read its response."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Waiting:
    """The connections that wait for their client: a request of it, or that it reads a response.

    One that waits for `timeout` seconds is cut. Handlers have their own limits.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._timers: dict[Visitor, asyncio.TimerHandle] = {}

    def add(self, visitor: "Visitor") -> None:
        """Let a connection wait, behind all others."""
        loop = asyncio.get_running_loop()
        self._timers[visitor] = loop.call_later(self._timeout, visitor.cut)

    def remove(self, visitor: "Visitor") -> None:
        """End its waiting."""
        timer = self._timers.pop(visitor, None)
        if timer is not None:
            timer.cancel()

    def make_room(self) -> bool:
        """Cut the connection that has waited longest; returns False if none waits."""
        for visitor in self._timers:
            visitor.cut()
            return True
        return False

    def timed(self, handler: Handler) -> Handler:
        """Return a handler during which the connection of the request does not wait."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            visitor = cast("Visitor", request.protocol)
            self.remove(visitor)
            try:
                return await handler(request)
            finally:
                visitor.expect_request()

        return handle


class Visitor(web.RequestHandler):
    """A connection that reads no more than a request may have."""

    __slots__ = ("_bytes", "_malformed", "_pieces", "_waiting")

    def __init__(
        self, server: web.Server, waiting: Waiting, malformed: Callable[[], web.Response] | None
    ) -> None:
        """`malformed` makes the response to what is not valid HTTP."""
        options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "lingering_time": LINGER,
            "max_line_size": MAX_LINE,
            "max_field_size": MAX_LINE,
        }
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._waiting = waiting
        self._malformed = malformed
        self._bytes = self._pieces = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the client."""
        super().connection_made(transport)
        self.expect_request()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait no longer."""
        self._waiting.remove(self)
        super().connection_lost(exc)

    def expect_request(self) -> None:
        """Wait for the client to read a response and to send a request."""
        self._bytes = self._pieces = 0
        if self.transport is not None and not self.transport.is_closing():
            self._waiting.add(self)

    def cut(self) -> None:
        """End the connection without a response."""
        self._waiting.remove(self)
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read a piece of a request; what is beyond the limits stays with the client."""
        if data:  # without any, aiohttp calls itself
            self._bytes += len(data)
            self._pieces += 1
            if self.transport is not None and (
                self._bytes > MAX_REQUEST or self._pieces > MAX_PIECES
            ):
                self.transport.pause_reading()
                return
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that aiohttp cannot read or that its handler failed."""
        response = super().handle_error(request, status, exc, message)
        if self._malformed is None or not isinstance(exc, HttpProcessingError):
            return response
        return self._malformed()
