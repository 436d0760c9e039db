"""POSTs one record and returns the response, which `delivery.outcome` classifies."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import aiohttp
import structlog

from daemon import logs
from daemon.errors import ConfigurationError
from daemon.salesforce.deadline import Deadline
from daemon.salesforce.exchange import Answer, Exchange, MakeExchange, exchange
from daemon.salesforce.oauth import Token, TokenError, Tokens
from daemon.salesforce.responses import (
    DEFECT,
    NoResponse,
    Response,
    TokenFailure,
    api_usage,
    retry_after_seconds,
)
from daemon.salesforce.transport import (
    Always,
    Attempt,
    CheckedConnector,
    Permit,
    WithdrawnError,
    begin_request,
    describe,
    may_have_left,
    permit,
)

_log = structlog.get_logger()

Session = aiohttp.ClientSession

CONNECT_TIMEOUT = 10.0
ADDRESS_EVERY = 60.0
"""Seconds between two tokens that are fetched only to learn the org's address."""

RENEWING = frozenset({401, 301, 302, 303, 307, 308})
"""Statuses at which a token is renewed once: it is refused, or the org has moved."""

FAILURES = (
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    UnicodeError,  # a host that is not a valid name
    asyncio.IncompleteReadError,
)
"""What a request raises that gets no whole response."""


@dataclass(frozen=True, slots=True)
class EndpointUrl:
    """Where lines go: an absolute URL, or a path under the token's `instance_url`."""

    url: str

    @property
    def is_path(self) -> bool:
        """Whether the address comes with the token."""
        return self.url.startswith("/")

    def under(self, instance_url: str | None) -> str:
        """Return the address to post to."""
        return f"{instance_url or ''}{self.url}" if self.is_path else self.url


class _Target(NamedTuple):
    """What all requests with one token share."""

    token: Token
    exchange: Exchange
    host: str
    path: str


class Salesforce:
    """The endpoint; any number of requests at once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: EndpointUrl,
        tokens: Tokens,
        permit: Permit | None = None,
        clock: Callable[[], float] = time.monotonic,
        exchange: MakeExchange = exchange,
    ) -> None:
        self._session = session
        self._deadline = Deadline(cast("float", session.timeout.total))
        self._exchange = exchange
        self._endpoint = endpoint
        self._tokens = tokens
        self._clock = clock
        self._address_wanted = False
        self._permit = permit or Always()
        self._target: _Target | None = None
        self._attempts: dict[str, Attempt] = {}

    def ask_address(self) -> None:
        """Fetch a new token before the next request: it carries the address of an org that moved.

        Only where the endpoint is a path under `instance_url`, and at most once a minute.
        """
        self._address_wanted = self._endpoint.is_path

    def unsent(self, key: str) -> bool:
        """Whether nothing was sent yet under that key: it has no connection, or did not begin."""
        attempt = self._attempts.get(key)
        return attempt is None or attempt.protocol is None

    async def post(self, key: str, record: bytes) -> Response | NoResponse | TokenFailure:
        """Send a record under its key; a refused token is renewed and the request tried again.

        Never raises for what the network or Salesforce does. A redirect counts as a refused
        token: the next one carries the new address of an instance that moved.
        """
        self._attempts[key] = begin_request()
        try:
            return await self._post_with_token(key, record)
        except Exception as defect:  # noqa: BLE001 - nothing that an answer holds ends the daemon
            _log.error(logs.REQUEST_DEFECT, key=key, exception=logs.without_messages(defect))
            return NoResponse(await may_have_left(), DEFECT)
        finally:
            del self._attempts[key]

    async def _post_with_token(
        self, key: str, record: bytes
    ) -> Response | NoResponse | TokenFailure:
        answer: Response | NoResponse | None = None
        try:
            token = await self._tokens.token()
            if self._address_wanted:
                token = await self._with_new_address(token)
            answer = await self._post(token, key, record)
            if isinstance(answer, Response) and answer.status in RENEWING:
                self._attempts[key] = begin_request()
                renewed = await self._tokens.renew(token)
                if renewed is not token:
                    answer = await self._post(renewed, key, record)
        except TokenError as error:
            status = answer.status if isinstance(answer, Response) else None
            return replace(error.answer, status=status)
        return answer

    async def _with_new_address(self, token: Token) -> Token:
        """Return a new token; the old one where none comes, or one was asked for a minute ago."""
        self._address_wanted = False
        if self._clock() - self._tokens.address_asked_at < ADDRESS_EVERY:
            return token
        self._tokens.address_asked_at = self._clock()
        try:
            return await self._tokens.renew(token)
        except TokenError:
            return token

    async def _post(self, token: Token, key: str, record: bytes) -> Response | NoResponse:
        target = self._target_of(token)
        while True:
            began = time.monotonic()
            try:
                answer = await self._request(target, key, record)
            except WithdrawnError:
                await self._permit.until_held()
            else:
                break
        _log.debug(
            logs.REQUEST_DONE,
            method="POST",
            path=target.path,
            key=key,
            status=answer.status if isinstance(answer, Response) else None,
            error=answer.error if isinstance(answer, NoResponse) else None,
            seconds=round(time.monotonic() - began, 3),
        )
        return answer

    def _target_of(self, token: Token) -> _Target:
        """Return the way to the address for a token; made once for all its requests."""
        if self._target is None or self._target.token is not token:
            url = self._endpoint.under(token.instance_url)
            authorization = token.authorization
            headers = {} if authorization is None else {"Authorization": authorization}
            way = self._exchange(self._session, url, headers)
            self._target = _Target(token, way, _host(url), urlsplit(url).path)
        return self._target

    async def _request(self, target: _Target, key: str, record: bytes) -> Response | NoResponse:
        self._attempts[key] = begin_request()
        # For the connector, in this task only: requests for tokens need no permit.
        asking = permit.set(self._permit)
        try:
            with self._deadline:
                return read_answer(await target.exchange.post(key, record))
        except FAILURES as error:
            return await no_response(error, target.host)
        finally:
            permit.reset(asking)


def read_answer(answer: Answer) -> Response:
    """Return what the endpoint says, with the waits and limits of its headers."""
    retry_after = answer.headers.get("Retry-After")
    return Response(
        answer.status,
        answer.body.decode("utf-8", "replace"),
        retry_after_seconds(retry_after, datetime.now(UTC)) if retry_after else None,
        api_usage(answer.headers.get("Sforce-Limit-Info")),
    )


async def no_response(error: BaseException, host: str) -> NoResponse:
    """Return what became of this task's failed request, in words."""
    sent, words = await may_have_left(), describe(error)
    return NoResponse(sent, words if sent else f"no connection to {host}: {words}")


@asynccontextmanager
async def open_session(
    version: str,
    request_timeout: float,
    *,
    ca_file: Path | None = None,
    environment_proxy: bool = False,
) -> AsyncIterator[Session]:
    """Open the connections: kept alive, TLS 1.2 or newer, no cookies, no redirects.

    `request_timeout` is for a whole request, in seconds. Certificates are checked against the
    system's authorities and those of `ca_file`; raises `ConfigurationError` if that is not a PEM
    file. Proxies of the environment are used only if asked for. How many connections are open at
    once is the sender's decision.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                "CALLSTATSD_CA_FILE cannot be used: write the path of a PEM file with "
                "certificates of authorities, which this user may read"
            ) from error
    async with aiohttp.ClientSession(
        connector=CheckedConnector(context),
        timeout=aiohttp.ClientTimeout(
            total=request_timeout, connect=min(CONNECT_TIMEOUT, 0.9 * request_timeout)
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "User-Agent": f"callstatsd/{version}"},
        trust_env=environment_proxy,
    ) as session:
        yield session


def _host(url: str) -> str:
    """Return host and port as they are written."""
    return urlsplit(url).netloc.rpartition("@")[2]
