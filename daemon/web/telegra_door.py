"""The door for notifications of a Telegra ACD: who may come in, and what each is answered."""

import asyncio
import hmac
import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol
from zoneinfo import ZoneInfo

import structlog
from aiohttp import ClientPayloadError, web

from daemon import logs, metrics
from daemon.telegra.notifications import OTHER, Command, Received, command_of, understood
from daemon.telegra.parameters import BadNotificationError, Parameters, read_parameters
from daemon.telegra.receiver import Outcome
from daemon.telegra.values import CLOCKS_APART
from daemon.web.rarely import Rarely, digest

_log = structlog.get_logger()

PATH = "/telegra"
METHODS = ("HEAD", "GET", "PUT")
MAX_BODY = 64 * 1024
"""Bytes of a request's body."""
BODY_WITHIN = 10.0
"""Seconds for a client to send a body."""
REFUSED_EVERY = 60.0
"""Seconds between two `telegra.refused` of one address."""
CLOCK_EVERY = 3600.0
"""Seconds between two `telegra.clock`."""

Network = IPv4Network | IPv6Network


class _TooLargeError(ValueError):
    """A body over `MAX_BODY`."""


class Keeper(Protocol):
    """What the door needs of the receiver."""

    async def keep(self, received: Received) -> Outcome:
        """Return what became of a notification."""


class TelegraDoor:
    """Answers `/telegra/<token>`, and `/telegra` with the token as password of HTTP Basic."""

    def __init__(
        self, keeper: Keeper, token: str, allowed: Sequence[Network], zone: ZoneInfo
    ) -> None:
        """`zone` is the ACD's, for times without an offset; without `allowed` all may come."""
        self._keeper = keeper
        self._token = digest(token.encode())
        self._allowed = allowed
        self._zone = zone
        self._strangers = Rarely(REFUSED_EVERY)
        self._clock_logged = float("-inf")
        metrics.begin_telegra([*Command, OTHER])

    @staticmethod
    def is_at(path: str) -> bool:
        """Whether a path is the door's."""
        return path == PATH or path.startswith(f"{PATH}/")

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Return the response to a request: 200 only for what is committed, or not needed."""
        if not self._comes_from_allowed(request.remote):
            return self._refuse(request, "address", 403)
        if not self._knows_token(request):
            return self._refuse(request, "token", 404)
        if request.method not in METHODS:
            return _response(405, {"Allow": ", ".join(METHODS)})
        if (request.content_length or 0) > MAX_BODY:
            return _too_large()
        received = datetime.now(UTC)
        parameters: Parameters = {}
        try:
            parameters = await self._parameters(request)
            notification = understood(parameters, received, self._zone)
        except _TooLargeError:
            return _too_large()
        except BadNotificationError as bad:
            return self._answer_bad(parameters, str(bad))
        if notification is None:
            metrics.count_notification(command_of(parameters), "ignored")
            return _response(200)
        self._compare_clocks(notification.named, received)
        outcome = await self._keeper.keep(notification)
        if outcome is Outcome.BAD:
            return self._answer_bad(parameters, "the database cannot hold it")
        metrics.count_notification(notification.command, outcome)
        if outcome is Outcome.UNAVAILABLE:
            return _response(503, {"Retry-After": "1"})
        return _response(200)

    def _comes_from_allowed(self, remote: str | None) -> bool:
        if not self._allowed:
            return True
        try:
            address = ip_address(remote or "")
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._allowed)

    def _knows_token(self, request: web.BaseRequest) -> bool:
        """Compare in constant time, also for tokens of another length."""
        given = request.path[len(PATH) + 1 :].encode("utf-8", "surrogateescape")
        if request.path == PATH:
            given = _password(request.headers.get("Authorization", ""))
        return hmac.compare_digest(digest(given), self._token)

    def _refuse(self, request: web.BaseRequest, reason: str, status: int) -> web.Response:
        metrics.count_notification(OTHER, "refused")
        address = request.remote or ""
        if self._strangers.allows(address):
            _log.warning(logs.TELEGRA_REFUSED, reason=reason, address=address)
        return _response(status, close=True)

    def _answer_bad(self, parameters: Parameters, reason: str) -> web.Response:
        command = command_of(parameters)
        metrics.count_notification(command, "bad")
        known = {} if command == OTHER else {"cmd": command}
        _log.warning(logs.TELEGRA_BAD, **known, reason=reason)
        return _response(400)

    async def _parameters(self, request: web.BaseRequest) -> Parameters:
        """Read query and, of PUT, body; raises `BadNotificationError`."""
        _, _, query = request.raw_path.partition("?")
        body, content_type = b"", ""
        if request.method == "PUT" and request.body_exists:
            body = await _read_body(request)
            if request.headers.get("Content-Type", "").strip():
                content_type = request.content_type
        return read_parameters(query.encode("utf-8", "surrogateescape"), body, content_type)

    def _compare_clocks(self, named: datetime | None, received: datetime) -> None:
        """Warn, once an hour, that the ACD's clock or its queue is off."""
        if named is None or abs(named - received) <= CLOCKS_APART:
            return
        if time.monotonic() - self._clock_logged >= CLOCK_EVERY:
            self._clock_logged = time.monotonic()
            seconds = round((named - received).total_seconds())
            _log.warning(logs.TELEGRA_CLOCK, seconds=seconds)


def _password(authorization: str) -> bytes:
    """Return the password of HTTP Basic; empty where there is none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(credentials.strip()).partition(b":")[2]
    except ValueError:
        return b""


async def _read_body(request: web.BaseRequest) -> bytes:
    """Read a body; one that does not come, or is no body, ends the connection."""
    body = bytearray()
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(BODY_WITHIN):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > MAX_BODY:
                    raise _TooLargeError
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise BadNotificationError("unreadable body") from None
    except (web.RequestPayloadError, ClientPayloadError):
        raise BadNotificationError("unreadable body") from None
    return bytes(body)


def _too_large() -> web.Response:
    metrics.count_notification(OTHER, "bad")
    return _response(413, close=True)


def _response(
    status: int, headers: Mapping[str, str] | None = None, *, close: bool = False
) -> web.Response:
    """Return an empty response; with `close` whoever came in vain has to connect again."""
    fixed = {"Cache-Control": "no-store", "Server": "callstatsd"}
    response = web.Response(
        status=status, content_type="text/plain", headers=fixed | dict(headers or {})
    )
    if close:
        response.force_close()
    return response
