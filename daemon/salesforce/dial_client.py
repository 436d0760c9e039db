"""Asks Salesforce whether a call may be placed; `salesforce.click_to_dial` says what is meant."""

import asyncio
import time
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import structlog
from yarl import URL

from daemon import logs
from daemon.salesforce.click_to_dial import Question
from daemon.salesforce.client import (
    FAILURES,
    RENEWING,
    EndpointUrl,
    Session,
    no_response,
    read_answer,
)
from daemon.salesforce.exchange import Answer
from daemon.salesforce.oauth import Token, TokenError, Tokens
from daemon.salesforce.responses import DEFECT, CutResponse, NoResponse, Response, TokenFailure
from daemon.salesforce.transport import (
    BODY_LIMIT,
    begin_request,
    describe,
    first_bytes,
    may_have_left,
)

_log = structlog.get_logger()

_NO_LIMIT = aiohttp.ClientTimeout(total=None, connect=None)
"""One limit covers all requests of a question."""


class DialClient:
    """Questions about calls, any number at once, over the sender's connections and tokens."""

    def __init__(
        self,
        session: Session,
        endpoint: EndpointUrl,
        tokens: Tokens,
        timeout: float,
    ) -> None:
        """`timeout` is for a whole question, in seconds."""
        self._session = session
        self._endpoint = endpoint
        self._tokens = tokens
        self._timeout = timeout

    async def ask(self, question: Question) -> Response | CutResponse | NoResponse | TokenFailure:
        """Ask; a refused token is renewed and the question repeated, once.

        Never raises for what the network or Salesforce does.
        """
        begin_request()
        heads: list[int] = []
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask_with_token(question, heads)
        except TimeoutError:
            if heads:
                return CutResponse(heads[-1], "timed out")
            return NoResponse(sent=True, error="timed out")
        except Exception as defect:  # noqa: BLE001 - nothing that an answer holds ends the daemon
            _log.error(logs.REQUEST_DEFECT, exception=logs.without_messages(defect))
            return NoResponse(await may_have_left(), DEFECT)

    async def _ask_with_token(
        self, question: Question, heads: list[int]
    ) -> Response | CutResponse | NoResponse | TokenFailure:
        """Ask with a token; statuses are added to `heads` as soon as they came."""
        answer: Response | CutResponse | NoResponse | None = None
        try:
            token = await self._tokens.token()
            answer = await self._get(token, question, heads)
            if isinstance(answer, Response | CutResponse) and answer.status in RENEWING:
                renewed = await self._tokens.renew(token)
                if renewed is not token:
                    answer = await self._get(renewed, question, heads)
        except TokenError as error:
            status = heads[-1] if heads else None
            return replace(error.answer, status=status)
        return answer

    async def _get(
        self, token: Token, question: Question, heads: list[int]
    ) -> Response | CutResponse | NoResponse:
        began = time.monotonic()
        address = self._endpoint.under(token.instance_url)
        answer = await self._request(address, token, question, heads)
        _log.debug(
            logs.REQUEST_DONE,
            method="GET",
            path=urlsplit(address).path,
            status=None if isinstance(answer, NoResponse) else answer.status,
            error=None if isinstance(answer, Response) else answer.error,
            seconds=round(time.monotonic() - began, 3),
        )
        return answer

    async def _request(
        self, address: str, token: Token, question: Question, heads: list[int]
    ) -> Response | CutResponse | NoResponse:
        begin_request()
        headers = {"Authorization": token.authorization} if token.authorization else {}
        try:
            async with self._session.get(
                _with_query(address, question.query),
                headers=headers,
                allow_redirects=False,
                timeout=_NO_LIMIT,
                middlewares=(_once,),
            ) as response:
                heads.append(response.status)
                try:
                    body = await first_bytes(response.content, BODY_LIMIT)
                except FAILURES as error:
                    return CutResponse(response.status, describe(error))
            return read_answer(Answer(response.status, response.headers, body))
        except _FailedError as failed:
            return await no_response(failed.error, urlsplit(address).netloc)
        except FAILURES as error:
            return await no_response(error, urlsplit(address).netloc)


class _FailedError(Exception):
    """Stands for an error after which aiohttp would ask once more."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__(error)
        self.error = error


async def _once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request without aiohttp's second try of a GET: each question is one API call."""
    try:
        return await send(request)
    except aiohttp.ClientError as error:
        raise _FailedError(error) from error


def _with_query(address: str, query: str) -> URL:
    """Append a query that is encoded already, behind one that the address may have."""
    base = URL(address)
    joined = f"{base.raw_query_string}&{query}" if base.raw_query_string else query
    return URL(f"{base.with_query(None)}?{joined}", encoded=True)
