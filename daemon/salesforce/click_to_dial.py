"""Click to dial: the question to Salesforce, and what its answer means. Pure (seed 001)."""

import json
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, assert_never
from urllib.parse import quote

from daemon.salesforce.responses import (
    CutResponse,
    NoResponse,
    Response,
    TokenFailure,
    is_platforms,
    parsed,
    platform_errors,
    short,
    status_meant,
)

MAX_NUMBER = 32
"""Characters of a number to be called, after cleaning."""
MAX_AGENT = 255
"""Characters of an agent's UID."""
MAX_EXPONENT = 32
"""Digits up to which a JSON number is written out."""

_ADDRESS_END = re.compile("[@;]")
_SCHEME = re.compile(r"\s*(?:sip|tel):", re.IGNORECASE)
_INTERNATIONAL = re.compile(r"[^0-9*#+]*(?:\+|00)")
_NOT_DIALLED = re.compile("[^0-9*#]")
_REFUSALS = {400, 403, 404}
_NO_REFUSAL = {401, 408, 421, 425, 429}
"""Statuses below 500 that are no word of the endpoint about this call."""


class Reason(StrEnum):
    """Why a question is undecided."""

    UNAVAILABLE = "unavailable"
    UNANSWERED = "unanswered"
    UNAUTHORIZED = "unauthorized_at_salesforce"
    API_LIMIT = "api_limit"
    ENDPOINT_MISSING = "endpoint_missing"
    CONFIGURATION = "configuration"
    BAD_ANSWER = "bad_answer"


@dataclass(frozen=True, slots=True)
class Question:
    """May this agent call this number of this record? The number is clean."""

    salesforce_id: str
    number: str
    agent: str

    @property
    def query(self) -> str:
        """The three parameters as Salesforce gets them, percent-encoded."""
        parameters = (
            ("SalesForceID", self.salesforce_id),
            ("CallerID", self.number),
            ("AgentUID", self.agent),
        )
        return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The call may be placed, with this service number or the one of this name."""

    number: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The endpoint says no: 400, 403 or 404, and perhaps its words."""

    status: int
    message: str | None


@dataclass(frozen=True, slots=True)
class Undecided:
    """No word about this call; `may_be_refusal` where no fallback may stand in for it."""

    reason: Reason
    status: int | None
    message: str | None
    may_be_refusal: bool = False


Decision = Allowed | Refused | Undecided


def clean_number(text: str) -> str:
    """Reduce a number or a SIP or tel address to digits, `*`, `#` and a leading `+`.

    No country code is added; "(0)" is dropped only behind a country code.
    """
    address = _ADDRESS_END.split(_SCHEME.sub("", text, count=1), maxsplit=1)[0]
    if _INTERNATIONAL.match(address):
        address = address.replace("(0)", "")
    plus = "+" if re.match(r"[^0-9*#+]*\+", address) else ""
    return plus + _NOT_DIALLED.sub("", address)


def number_fault(number: str) -> str | None:
    """Return what is wrong with a clean number; None if it can be asked about."""
    if not re.search("[0-9]", number):
        return "has no digit: give the number to be called"
    if len(number) > MAX_NUMBER:
        return f"is too long: a number has at most {MAX_NUMBER} digits"
    return None


def agent_fault(agent: str) -> str | None:
    """Return what is wrong with an agent's UID; None if it can be asked about."""
    if not agent.strip():
        return "is empty: give the agent's UID"
    if len(agent) > MAX_AGENT:
        return f"is too long: a UID has at most {MAX_AGENT} characters"
    if any(unicodedata.category(character) == "Cc" for character in agent):
        return "has a control character: give the agent's UID"
    return None


def classify(answer: Response | CutResponse | NoResponse | TokenFailure) -> Decision:
    """Return what Salesforce decided, by the body before the status."""
    match answer:
        case TokenFailure(error=error, status=int(status)) if 300 <= status < 400:
            return Undecided(Reason.CONFIGURATION, status, error, may_be_refusal=True)
        case TokenFailure(refused, error, _, status):
            unauthorized = refused or status == 401
            reason = Reason.UNAUTHORIZED if unauthorized else Reason.UNAVAILABLE
            return Undecided(reason, status, error)
        case CutResponse(status, error):
            refusal = _may_be_refusal(status)
            return Undecided(Reason.UNANSWERED, status, error, may_be_refusal=refusal)
        case NoResponse(sent, error):
            return Undecided(Reason.UNANSWERED if sent else Reason.UNAVAILABLE, None, error)
        case Response():
            return _classify_response(answer)
        case _:
            assert_never(answer)


def _classify_response(answer: Response) -> Decision:
    status, errors = status_meant(answer), platform_errors(answer.body)
    if status == 200 and (allowed := _allowed(answer.body)):
        return allowed
    if status in _REFUSALS and not is_platforms(answer.body):
        return Refused(status, _words(answer.body))
    codes = {code for code, _ in errors}
    reason = _reason(status, codes)
    refusal = reason is not Reason.API_LIMIT and _may_be_refusal(status)
    return Undecided(reason, status, short(errors, answer.body), may_be_refusal=refusal)


def _may_be_refusal(status: int) -> bool:
    return 300 <= status < 500 and status not in _NO_REFUSAL


def _reason(status: int, codes: set[str]) -> Reason:
    match status:
        case 401:
            return Reason.UNAUTHORIZED
        case 403 if "REQUEST_LIMIT_EXCEEDED" in codes:
            return Reason.API_LIMIT
        case 404:
            return Reason.ENDPOINT_MISSING
        case 400 | 403 | 405 | 406 | 415:
            return Reason.CONFIGURATION
        case 429 | 503:
            return Reason.UNAVAILABLE
        case 408 | 421 | 425 | 502 | 504:
            return Reason.UNANSWERED
        case _:
            return Reason.CONFIGURATION if 300 <= status < 400 else Reason.BAD_ANSWER


def _allowed(body: str) -> Allowed | None:
    """Read the service number; None where neither it nor its name can be used."""
    try:
        content = json.loads(body, parse_int=str, parse_float=_plain, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    number, name = _text(content.get("ServiceNumber")), _text(content.get("ServiceNumberName"))
    return Allowed(number, name) if number or name else None


def _plain(number: str) -> str:
    """Write a JSON number such as 4.9800123E9 without its exponent, if it is a whole one."""
    try:
        value = Decimal(number)
    except ArithmeticError:  # an exponent that nothing can hold
        return number
    whole = value.adjusted() <= MAX_EXPONENT and value == value.to_integral_value()
    return str(int(value)) if whole else number


def _text(value: Any) -> str | None:
    """Return a text that can be written as UTF-8, trimmed; numbers have been read as texts."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-8", "replace").decode().strip() or None


def _words(body: str) -> str | None:
    """Return the endpoint's words: a text, or the `message` of a JSON object."""
    content = parsed(body)
    if isinstance(content, dict):
        content = content.get("message")
    return short((), content if isinstance(content, str) else body)
