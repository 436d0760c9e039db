"""Classifies an answer of Salesforce: what it means for the line and for the sender. Pure."""

import re
from dataclasses import dataclass
from typing import assert_never

from daemon.lines import PauseReason
from daemon.salesforce.responses import (
    IMPOSSIBLE_STATUS,
    NoResponse,
    Response,
    TokenFailure,
    parsed,
    platform_errors,
    short,
    status_meant,
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """Written; `expected` is False for a 2xx that the vendor's document does not name."""

    status: int
    expected: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """409: never to be sent again."""

    error: str | None


@dataclass(frozen=True, slots=True)
class NotFound:
    """404 by the endpoint itself: Salesforce has no such record."""

    error: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Another 4xx: kept for an operator."""

    status: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Locked:
    """423 in either form: this record waits, with all its later lines."""

    retry_after: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """500 (or another 5xx of no special meaning): this line alone waits."""

    status: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """It may have arrived or not: this record waits."""

    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class PauseSender:
    """Not about this line: the sender pauses, its feed or all of them."""

    reason: PauseReason
    status: int | None
    retry_after: float | None
    error: str | None

    @property
    def sent(self) -> bool:
        """Whether the endpoint answered, so that it counts as an attempt."""
        return self.status is not None


Outcome = Delivered | Conflict | NotFound | Rejected | Locked | Failed | Unanswered | PauseSender

_MEANS_OTHERWISE = re.compile(f"UNABLE_TO_LOCK_ROW|{IMPOSSIBLE_STATUS.pattern}")
_DELIVERED = Delivered(200, expected=True)
_ERROR_CODE = re.compile(r"[A-Z][A-Z_]{1,63}")


def classify(answer: Response | NoResponse | TokenFailure) -> Outcome:
    """Return what an answer means, by its body before its status.

    Apex may not set 423 (and others): the platform turns it into a 500 with a text that names
    the status meant. A platform 404 means that no class listens at the path.
    """
    match answer:
        case TokenFailure(refused, error, retry_after, status):
            reason = PauseReason.UNAUTHORIZED if refused else PauseReason.UNAVAILABLE
            return PauseSender(reason, status, retry_after, error)
        case NoResponse(sent, error):
            if sent:
                return Unanswered(None, error)
            return PauseSender(PauseReason.UNAVAILABLE, None, None, error)
        case Response():
            return _classify_response(answer)
        case _:
            assert_never(answer)


def _classify_response(answer: Response) -> Outcome:
    if answer.status == 200 and not _MEANS_OTHERWISE.search(answer.body):
        return _DELIVERED
    errors = platform_errors(answer.body)
    codes = {code for code, _ in errors}
    status = status_meant(answer)
    if status == 423 or "UNABLE_TO_LOCK_ROW" in answer.body:
        return Locked(answer.retry_after, short(errors, answer.body))
    if 200 <= status < 300:
        return Delivered(status, expected=status == 200)
    return _refusal(status, codes, answer, short(errors, answer.body))


def error_code(body: str) -> str | None:
    """Return the platform's errorCode or the endpoint's `code`; None if it does not look like one.

    Other text might name a person, and the log must not.
    """
    codes: list[object] = [code for code, _ in platform_errors(body)]
    if body.lstrip().startswith("{"):
        content = parsed(body)
        codes = [content.get("code")] if isinstance(content, dict) else []
    return next((c for c in codes if isinstance(c, str) and _ERROR_CODE.fullmatch(c)), None)


def _refusal(status: int, codes: set[str], answer: Response, text: str | None) -> Outcome:
    missing = "NOT_FOUND" in codes and "Could not find a match for URL" in answer.body
    reason = {
        401: PauseReason.UNAUTHORIZED,
        403: PauseReason.API_LIMIT
        if "REQUEST_LIMIT_EXCEEDED" in codes
        else PauseReason.CONFIGURATION,
        404: PauseReason.ENDPOINT_MISSING if missing else None,
        405: PauseReason.CONFIGURATION,
        406: PauseReason.CONFIGURATION,
        415: PauseReason.CONFIGURATION,
        429: PauseReason.UNAVAILABLE,
        503: PauseReason.UNAVAILABLE,
    }.get(status)
    if reason is None and not 400 <= status < 600:
        reason = PauseReason.CONFIGURATION  # redirects, and what no endpoint should answer
    if reason is not None:
        retry_after = answer.retry_after if status in {429, 503} else None
        return PauseSender(reason, status, retry_after, text)
    match status:
        case 404:
            return NotFound(text)
        case 409:
            return Conflict(text)
        case 408 | 421 | 425 | 502 | 504:  # they are about the connection, not the line
            return Unanswered(status, text)
        case _ if status >= 500:
            return Failed(status, text)
        case _:
            return Rejected(status, text)
