"""One exchange over HTTP: a record goes out, an answer comes back.

`Direct` uses aiohttp's connections and its parser without its session, which would take more CPU
for a line than all the rest of this program.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple, Protocol, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from multidict import CIMultiDict
from yarl import URL

from daemon.salesforce.transport import BODY_LIMIT, first_bytes

CONTENT_TYPE = "application/json"
AT_ONCE = 16 * 1024
"""Bytes of a record that are certain to be out when its answer comes."""

_NOT_PROMISED: Sequence[tuple[type, str]] = (
    (aiohttp.BaseConnector, "connect"),
    (aiohttp.ClientRequest, "connection_key"),
    (Connection, "protocol"),
    (ResponseHandler, "set_response_params"),
    (ResponseHandler, "read"),
)
"""What `Direct` uses of aiohttp beyond its documentation; the same from 3.11 to 3.14."""


class Answer(NamedTuple):
    """What came back; `body` has at most `BODY_LIMIT` bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Exchange(Protocol):
    """Sends records to one address with one token; raises what aiohttp's session raises."""

    async def post(self, key: str, record: bytes) -> Answer:
        """Send a record under its key; a redirect is an answer."""


MakeExchange = Callable[[aiohttp.ClientSession, str, Mapping[str, str]], Exchange]
"""Makes one for an absolute URL and the headers that all its requests have."""


class ThroughSession:
    """The documented way: also through a proxy, and with an address that is not valid."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str | URL, headers: Mapping[str, str]
    ) -> None:
        self._session = session
        self._url = url
        self._headers = CIMultiDict(headers)
        self._timeout = _connecting(session)

    async def post(self, key: str, record: bytes) -> Answer:
        """Send a record under its key."""
        headers = self._headers.copy()
        headers["Idempotency-Key"] = key
        async with self._session.post(
            self._url,
            data=aiohttp.BytesPayload(record, content_type=CONTENT_TYPE),
            headers=headers,
            allow_redirects=False,
            timeout=self._timeout,
        ) as response:
            body = await first_bytes(response.content, BODY_LIMIT)
        return Answer(response.status, response.headers, body)


class Direct:
    """The short way, for an address that needs no proxy."""

    def __init__(
        self, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str]
    ) -> None:
        """Raise `ValueError` where a header holds a control character."""
        all_headers = {**session.headers, **headers, "Content-Type": CONTENT_TYPE}
        # Never sent itself: it says where to connect, and what aiohttp adds to the headers.
        self._request = aiohttp.ClientRequest("POST", url, headers=all_headers, session=session)
        self._connector = cast("aiohttp.BaseConnector", session.connector)
        self._timeout = _connecting(session)
        sent = self._request.headers.copy()
        sent.popall("Content-Length", None)
        lines = [f"{name}: {_one_line(value)}\r\n" for name, value in sent.items()]
        start = f"POST {_one_line(url.raw_path_qs)} HTTP/1.1\r\n"
        self._head = f"{start}{''.join(lines)}Idempotency-Key: ".encode()

    async def post(self, key: str, record: bytes) -> Answer:
        """Send a record under its key."""
        head = self._head + _one_line(key).encode()
        try:
            connection = await self._connector.connect(self._request, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        protocol = cast("ResponseHandler", connection.protocol)
        transport = cast("asyncio.Transport", protocol.transport)
        try:
            protocol.set_response_params(read_until_eof=True)
            transport.write(b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(record), record))
            message, content = await self._answer(protocol)
            body = await first_bytes(content, BODY_LIMIT)
        except BaseException:
            transport.abort()  # a large record would be written on
            connection.close()
            raise
        # An early answer may leave a part of a large request under way.
        early = message.code >= HTTPStatus.BAD_REQUEST and len(record) > AT_ONCE
        if early or not content.is_eof():
            connection.close()
        else:
            connection.release()
        return Answer(message.code, message.headers, body)

    async def _answer(
        self, protocol: ResponseHandler
    ) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        """Return the final answer; others (1xx) may come before it."""
        while True:
            try:
                message, content = await protocol.read()
            except HttpProcessingError as error:
                raise aiohttp.ClientResponseError(self._request.request_info, ()) from error
            if not 100 <= message.code < 200 or message.code == HTTPStatus.SWITCHING_PROTOCOLS:
                return message, content


def exchange(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> Exchange:
    """Return the shortest way to that address."""
    try:
        parsed = URL(url)
    except ValueError:
        return ThroughSession(session, url, headers)  # aiohttp says what is wrong with it
    plain = parsed.scheme in {"http", "https"} and parsed.raw_host
    login = parsed.raw_user or parsed.raw_password
    if plain and not login and why_not_direct(session) is None:
        return Direct(session, parsed, headers)
    return ThroughSession(session, parsed, headers)


def why_not_direct(
    session: aiohttp.ClientSession, needed: Sequence[tuple[type, str]] = _NOT_PROMISED
) -> str | None:
    """Return why all requests go through the session, None if they need not."""
    if session.trust_env:
        return "a proxy of the environment may apply"
    missing = [f"{owner.__name__}.{name}" for owner, name in needed if name not in dir(owner)]
    return f"aiohttp {aiohttp.__version__} lacks {', '.join(missing)}" if missing else None


def _connecting(session: aiohttp.ClientSession) -> aiohttp.ClientTimeout:
    """Return the session's limit for connecting alone; the caller limits the whole exchange."""
    return aiohttp.ClientTimeout(total=None, connect=session.timeout.connect)


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a header or the address holds a control character")
    return text
