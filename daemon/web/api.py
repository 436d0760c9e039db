"""The API listener: click to dial and notifications, for those who know a token."""

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl

import orjson
import structlog
from aiohttp import web

from daemon import logs, metrics
from daemon.ingest.record import salesforce_id
from daemon.salesforce.click_to_dial import Question, agent_fault, clean_number, number_fault
from daemon.web.dialling import Dial, Dialler
from daemon.web.pace import Pace
from daemon.web.rarely import Rarely, digest
from daemon.web.telegra_door import TelegraDoor
from daemon.web.visitor import MAX_LINE

_log = structlog.get_logger()

DIAL_PATH = "/onClickToDial"
MAX_BODY = 64 * 1024
"""Bytes of a request's body; nothing here needs one."""
MAX_QUERY = 2048
"""Bytes of a query."""
MAX_QUESTIONS = 16
"""Questions under way at once."""
PER_SECOND = 64
"""Questions a second; further ones wait for their turn, so that lines are sent beside them."""
LOG_EVERY = 60.0
"""Seconds between two `dial.unauthorized` of one address."""

PARAMETERS = ("SalesForceID", "CallerID", "AgentUID")
REFUSAL_WORDS = {400: "refused", 403: "forbidden", 404: "not_found"}


class BadQuestionError(ValueError):
    """A parameter is missing, doubled or wrong; the message says which, and what to write."""


class Api:
    """Serves what is on of click to dial and a Telegra ACD's door; everything else is 404."""

    def __init__(
        self, dialler: Dialler | None, token: str, telegra: TelegraDoor | None = None
    ) -> None:
        self._dialler = dialler
        self._telegra = telegra
        self._token = digest(f"Bearer {token}".encode())
        self._under_way = 0
        self._pace = Pace(PER_SECOND, MAX_QUESTIONS)
        self._strangers = Rarely(LOG_EVERY)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request; whatever it is, the response is JSON, or empty at the door."""
        try:
            if self._telegra is not None and self._telegra.is_at(request.path):
                return await self._telegra.answer(request)
            return await self._answer(request)
        except Exception as defect:  # noqa: BLE001 - the log has it, without what a request held
            _log.error(logs.REQUEST_DEFECT, exception=logs.without_messages(defect))
            return error(500, "defect", "A fault of callstatsd: its log has request.defect.")

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if (request.content_length or 0) > MAX_BODY:
            return error(413, "too_large", f"A body may have up to {MAX_BODY} bytes.")
        dialler = self._dialler
        if request.path != DIAL_PATH or dialler is None:
            return error(404, "not_found", "There is nothing at this path.")
        if not self._knows_token(request):
            address = request.remote or ""
            if self._strangers.allows(address):
                _log.warning(logs.DIAL_UNAUTHORIZED, address=address)
            metrics.count_dial("unauthorized")
            scheme = {"WWW-Authenticate": "Bearer"}
            return error(
                401, "unauthorized", "Send Authorization: Bearer with the API token.", scheme
            )
        if request.method != "GET":
            return error(405, "method_not_allowed", "Use GET.", {"Allow": "GET"})
        try:
            question = read_question(request.rel_url.raw_query_string)
        except BadQuestionError as fault:
            metrics.count_dial("bad_request")
            return error(400, "bad_request", str(fault))
        return await self._ask(dialler, question)

    async def _ask(self, dialler: Dialler, question: Question) -> web.Response:
        if self._under_way >= MAX_QUESTIONS:
            metrics.count_dial("busy")
            soon = {"Retry-After": "1"}
            return error(429, "busy", "Too many questions are under way: try again.", soon)
        self._under_way += 1
        try:
            await self._pace.turn()
            return answer_of(await dialler.dial(question))
        finally:
            self._under_way -= 1

    def _knows_token(self, request: web.BaseRequest) -> bool:
        """Compare in constant time, also for tokens of another length."""
        given = request.headers.getall("Authorization", [])
        text = given[0] if len(given) == 1 else ""
        scheme, _, secret = text.partition(" ")
        sent = f"{'Bearer' if scheme.lower() == 'bearer' else scheme} {secret.strip()}"
        return hmac.compare_digest(digest(sent.encode("utf-8", "surrogateescape")), self._token)


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
        if not given:
            raise BadQuestionError(f"{name} is missing.")
        if len(given) > 1:
            raise BadQuestionError(f"{name} is there {len(given)} times: give it once.")
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
    if dial.decision == "refused" and dial.status is not None:
        word = REFUSAL_WORDS[dial.status]
        return _json(dial.status, {"error": word, "message": dial.message})
    return _json(503, {"error": dial.reason, "message": dial.message})


def malformed() -> web.Response:
    """Return the response to what is not valid HTTP."""
    return error(
        400,
        "bad_request",
        f"This is not valid HTTP; a request line or a header may have up to {MAX_LINE} bytes.",
    )


def error(
    status: int, word: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response without asking Salesforce: a word for programs, a sentence for people.

    It ends the connection, so that whoever asks in vain has to connect for each try.
    """
    response = _json(status, {"error": word, "message": message}, headers)
    response.force_close()
    return response


def _json(
    status: int, content: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> web.Response:
    fixed = {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Server": "callstatsd",
    }
    return web.Response(
        status=status, body=orjson.dumps(content), headers=fixed | dict(headers or {})
    )
