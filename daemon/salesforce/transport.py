"""Connections to Salesforce, checked before each use; what went wrong with a request, as text."""

import asyncio
import os
import re
import select
import socket
import ssl
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

BODY_LIMIT = 64 * 1024
"""Bytes of a response's body that are read; the rest is dropped."""

_ALERT = re.compile(r"(?:sslv3 alert|tlsv1 alert|tlsv13 alert|tlsv1) (.+)")
"""OpenSSL's reasons that are alerts of the other side."""
_OF_RECORDS = {"bad record mac", "decryption failed", "record overflow"}
"""TLS alerts that are about neither the handshake nor a certificate."""


class Permit(Protocol):
    """The right to start a request: a `Lease`."""

    @property
    def held(self) -> bool:
        """Whether a request may start now."""

    async def until_held(self) -> None:
        """Wait until one may."""


class Always:
    """A permit that is always held."""

    held = True

    async def until_held(self) -> None:
        """Wait for nothing."""


permit: ContextVar[Permit | None] = ContextVar("permit", default=None)
"""What a request of this task needs; those for tokens need none."""


class WithdrawnError(Exception):
    """The right to start a request was lost while its connection was opened; nothing was sent."""


class TrackedProtocol(ResponseHandler):
    """One connection; bytes that arrive while no request is out close it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._requests = 0
        self._heard = False
        self._at_rest = False
        self._lost: BaseException | None = None
        self._poll: select.poll | None = None

    def data_received(self, data: bytes) -> None:
        """Receive bytes of the answer; at rest none may come."""
        if data:  # without any, aiohttp calls itself
            if self._at_rest:
                self.close()
                return
            self._heard = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Keep why the connection ended."""
        self._lost = exc
        super().connection_lost(exc)

    def claim(self) -> bool:
        """Expect an answer to a request about to be written; False if the connection is unusable.

        That is so if bytes are there already, also parsed or unread ones, or if the other side has
        closed a kept connection. A new one is used as it is.
        """
        kept = self._requests or self._at_rest
        if kept and (self.should_close or (self._poll or self._register()).poll(0)):
            return False
        self._requests += 1
        self._heard = self._at_rest = False
        return True

    def withdraw(self) -> None:
        """Expect no answer after all: nothing was written."""
        self._requests -= 1

    def rest(self) -> None:
        """Expect nothing until the next request."""
        self._at_rest = True

    @property
    def was_refused(self) -> bool:
        """Whether a TLS alert ended a new connection before the first byte of an answer.

        In TLS 1.3 a server says only after our part of the handshake, so mostly after the request
        was written, that it does not accept the client's certificate or that there is none.
        """
        alert = _alert(self._lost)
        return (
            self._requests == 1
            and not self._heard
            and alert is not None
            and alert not in _OF_RECORDS
        )

    @property
    def lost(self) -> BaseException | None:
        """Why the connection ended, if it ended with an error."""
        return self._lost

    def _register(self) -> select.poll:
        """Begin to watch a kept connection; the connector has just seen that it is open."""
        self._poll = select.poll()
        if self.transport is not None:
            self._poll.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return self._poll


class CheckedConnector(aiohttp.TCPConnector):
    """Hands out no kept connection that has received bytes: they answer no request.

    Checks the permit to start the request when its connection is open, which may take long.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        """Keep connections for 15 seconds; how many are open at once is the sender's decision."""
        super().__init__(limit=0, keepalive_timeout=15, ssl=context)
        self._factory = cast("partial[ResponseHandler]", partial(TrackedProtocol, loop=self._loop))

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> Connection:
        """Return a connection for one request, and note it for `may_have_left`.

        Raises `WithdrawnError` where nothing may be sent on it now.
        """
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = cast("TrackedProtocol", connection.protocol)
            if protocol.claim():
                break
            connection.close()
        connection.add_callback(protocol.rest)
        needed = permit.get()
        if needed is not None and not needed.held:
            protocol.withdraw()
            connection.release()
            raise WithdrawnError
        attempt = _attempt.get()
        if attempt is not None:
            attempt.protocol = protocol
        return connection


class Attempt:
    """One try of a request; `protocol` is its connection, from when it may be written to."""

    __slots__ = ("protocol",)

    def __init__(self) -> None:
        self.protocol: TrackedProtocol | None = None


_attempt: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def begin_request() -> Attempt:
    """Begin a try of this task, without a connection."""
    attempt = Attempt()
    _attempt.set(attempt)
    return attempt


def _connection() -> TrackedProtocol | None:
    """Return the connection of this task's last try."""
    attempt = _attempt.get()
    return attempt.protocol if attempt is not None else None


async def may_have_left() -> bool:
    """Whether this task's failed request may have reached the server.

    Not before there is a connection, with a proxy's tunnel and TLS where they belong to it; nor
    where TLS refused the new connection.
    """
    protocol = _connection()
    if protocol is None:
        return False
    # A write may fail before the connection knows why it ended.
    await asyncio.sleep(0)
    return not protocol.was_refused


async def first_bytes(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Read a body's beginning; one `read` alone gives no more than has arrived so far."""
    body = await content.read(limit)
    while len(body) < limit and not content.at_eof():
        body += await content.read(limit - len(body))
    return body


def describe(error: BaseException) -> str:
    """Return what happened to a request, without path, headers or any part of an answer."""
    protocol = _connection()
    if protocol is not None and (alert := _alert(protocol.lost)) is not None:
        return f"TLS refused by the server: {alert}"
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=fault):
            return f"certificate not trusted: {_lower(getattr(fault, 'verify_message', ''))}"
        case aiohttp.ClientHttpProxyError(status=status):
            return f"the proxy refused with {status}"
        case aiohttp.ClientProxyConnectionError(os_error=fault):
            return f"no connection to the proxy: {_system(fault)}"
        case aiohttp.ClientConnectorError(os_error=fault):
            return _system(fault)
    for kinds, words in _WORDS:
        if isinstance(error, kinds):
            return words
    return _system(error)


_WORDS: list[tuple[type[BaseException] | tuple[type[BaseException], ...], str]] = [
    (aiohttp.ConnectionTimeoutError, "timed out while connecting"),
    (TimeoutError, "timed out"),
    (
        (aiohttp.ServerDisconnectedError, asyncio.IncompleteReadError),
        "the connection was closed before a response came",
    ),
    (aiohttp.ClientPayloadError, "the answer's body broke off or cannot be read"),
    ((aiohttp.InvalidURL, UnicodeError), "the address has no valid host name"),
    (aiohttp.ClientResponseError, "the answer is not valid HTTP"),
]
"""What other errors mean; the first that fits."""


def _system(fault: Any) -> str:
    """Return what the system or OpenSSL reports."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {_lower(fault.verify_message)}"
    if (alert := _alert(fault)) is not None:
        return f"TLS refused by the server: {alert}"
    if isinstance(fault, ssl.SSLError):
        return f"TLS failed: {_reason(fault)}"
    if isinstance(fault, socket.gaierror):
        if fault.errno in {socket.EAI_NONAME, socket.EAI_NODATA}:
            return "the host name is not known"
        return f"the host name could not be looked up: {_lower(fault.strerror or '')}"
    if isinstance(fault, TimeoutError):
        return "timed out"
    if isinstance(fault, OSError) and fault.errno:
        return _lower(os.strerror(fault.errno))
    return "the connection was closed"


def _alert(fault: object) -> str | None:
    """Return a TLS alert's name, None if it is another fault."""
    if not isinstance(fault, ssl.SSLError):
        return None
    match = _ALERT.fullmatch(_reason(fault))
    return match[1] if match else None


def _reason(fault: ssl.SSLError) -> str:
    return (fault.reason or "no reason given").replace("_", " ").lower()


def _lower(text: str) -> str:
    """Lower the first letter and drop the full stop, to use a text inside a sentence."""
    text = text.strip().rstrip(".")
    if not text[1:2].isupper():
        text = text[:1].lower() + text[1:]
    return text or "no reason given"
