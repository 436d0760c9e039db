"""The API listener: click to dial, for clients of the ACD that know the token."""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import orjson
import structlog
from aiohttp import web

from daemon import logs, metrics
from daemon.ingest.record import salesforce_id
from daemon.salesforce.click_to_dial import Question, agent_fault, clean_number, number_fault
from daemon.web.dialling import Dial, Dialler

_log = structlog.get_logger()

DIAL_PATH = "/onClickToDial"
MAX_BODY = 64 * 1024
"""Bytes of a request's body; nothing here reads one."""
MAX_QUERY = 2048
"""Bytes of a query."""
MAX_QUESTIONS = 16
"""Questions under way at once."""
LOG_EVERY = 60.0
"""Seconds between two `dial.unauthorized` of one address."""
MAX_ADDRESSES = 1000
"""Addresses that are remembered for that."""

PARAMETERS = ("SalesForceID", "CallerID", "AgentUID")
REFUSAL_WORDS = {400: "refused", 403: "forbidden", 404: "not_found"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadQuestionError(ValueError):
    """A parameter is missing, doubled or wrong; the message says which, and what to write."""


class Api:
    """Serves click to dial; everything else is 404."""

    def __init__(self, dialler: Dialler, token: str) -> None:
        self._dialler = dialler
        self._token = _digest(f"Bearer {token}".encode())
        self._under_way = 0
        self._logged: OrderedDict[str, float] = OrderedDict()

    def app(self) -> web.Application:
        """Return an application that answers every request itself."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            del handler  # there are no routes
            response = await self._answer(request)
            if request.body_exists:
                response.force_close()  # its body is not read
            return response

        app = web.Application(middlewares=[answer])
        app.on_response_prepare.append(_strict)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        if (request.content_length or 0) > MAX_BODY:
            return error(413, "too_large", f"A body may have up to {MAX_BODY} bytes.")
        if request.path != DIAL_PATH:
            return error(404, "not_found", "There is nothing at this path.")
        if not self._knows_token(request):
            self._log_stranger(request.remote or "")
            metrics.count_dial("unauthorized")
            response = error(401, "unauthorized", "Send Authorization: Bearer with the API token.")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if request.method != "GET":
            response = error(405, "method_not_allowed", "Use GET.")
            response.headers["Allow"] = "GET"
            return response
        try:
            question = read_question(request.rel_url.raw_query_string)
        except BadQuestionError as fault:
            metrics.count_dial("bad_request")
            return error(400, "bad_request", str(fault))
        if self._under_way >= MAX_QUESTIONS:
            metrics.count_dial("busy")
            response = error(429, "busy", "Too many questions are under way: try again.")
            response.headers["Retry-After"] = "1"
            return response
        self._under_way += 1
        try:
            return answer_of(await self._dialler.dial(question))
        finally:
            self._under_way -= 1

    def _knows_token(self, request: web.Request) -> bool:
        """Compare in constant time, also for tokens of another length."""
        given = request.headers.getall("Authorization", [])
        text = given[0] if len(given) == 1 else ""
        scheme, _, secret = text.partition(" ")
        sent = f"{'Bearer' if scheme.lower() == 'bearer' else scheme} {secret.strip()}"
        return hmac.compare_digest(_digest(sent.encode("utf-8", "surrogateescape")), self._token)

    def _log_stranger(self, address: str) -> None:
        """Log an address without the token, at most once a minute each."""
        now = time.monotonic()
        if now - self._logged.get(address, float("-inf")) < LOG_EVERY:
            return
        self._logged[address] = now
        self._logged.move_to_end(address)
        if len(self._logged) > MAX_ADDRESSES:
            self._logged.popitem(last=False)
        _log.warning(logs.DIAL_UNAUTHORIZED, address=address)


def read_question(query: str) -> Question:
    """Read the query of a request; raises `BadQuestionError`."""
    if len(query.encode("utf-8", "surrogateescape")) > MAX_QUERY:
        raise BadQuestionError(f"The query may have up to {MAX_QUERY} bytes.")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise BadQuestionError("The query must be percent-encoded UTF-8.") from None
    values = {}
    for name in PARAMETERS:
        given = [value for key, value in pairs if key == name]
        if len(given) != 1:
            raise BadQuestionError(f"Give {name} once; it is there {len(given)} times.")
        values[name] = given[0]
    return question_of(values["SalesForceID"], values["CallerID"], values["AgentUID"])


def question_of(record: str, number: str, agent: str) -> Question:
    """Return a question about an agent's call; raises `BadQuestionError`."""
    salesforce = salesforce_id(record)
    if salesforce is None:
        raise BadQuestionError(
            "SalesForceID is not a record id: give 15 or 18 letters and digits, as Salesforce "
            "shows them."
        )
    cleaned = clean_number(number)
    if fault := number_fault(cleaned):
        raise BadQuestionError(f"CallerID {fault}.")
    if fault := agent_fault(agent):
        raise BadQuestionError(f"AgentUID {fault}.")
    return Question(salesforce, cleaned, agent)


def answer_of(dial: Dial) -> web.Response:
    """Return the response to a question."""
    if dial.service is not None:
        service = dial.service
        return _json(
            200,
            {
                "ServiceNumber": service.number,
                "ServiceNumberName": service.name,
                "ServiceNumbersID": service.row_id,
                "Source": service.source,
            },
        )
    message = dial.message or ""
    if dial.decision == "refused" and dial.status is not None:
        return error(dial.status, REFUSAL_WORDS[dial.status], message)
    return error(503, str(dial.reason), message)


def error(status: int, word: str, message: str) -> web.Response:
    """Return a response other than 200: a word for programs, a sentence for people."""
    return _json(status, {"error": word, "message": message})


def _json(status: int, content: dict[str, object]) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(content), headers={"Content-Type": "application/json"}
    )


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


async def _strict(_request: web.Request, response: web.StreamResponse) -> None:
    """Forbid caching and content sniffing; do not name the server's software."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
