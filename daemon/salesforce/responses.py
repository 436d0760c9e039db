"""What came back from Salesforce, and what its headers say. Pure."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

DEFECT = "a fault of this program: see the event request.defect in the log"
"""The error of a line whose request met a defect."""
MAX_DIGITS = 15
MAX_DATE = 64
"""Characters of a date in a header; the longest form of one has half as many."""

IMPOSSIBLE_STATUS = re.compile(r"Invalid status code for HTTP response: ([0-9]{3})\b")
"""What the platform writes where a class sets a status that Apex may not answer."""
SHORT = 200
"""Characters of a response that are kept for operators."""

# No org has calls of more digits, and longer numbers would cost time.
_API_USAGE = re.compile(r"(?:^|[;,\s])api-usage=([0-9]{1,15})/([0-9]{1,15})(?![0-9])")


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response: status, the body's first 64 KiB as text, Retry-After in seconds.

    `api_usage` is the share of the org's daily calls that is used, where the headers say so.
    """

    status: int
    body: str = ""
    retry_after: float | None = None
    api_usage: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No response; `sent` is True if the request may have reached Salesforce. `error` is short."""

    sent: bool
    error: str


@dataclass(frozen=True, slots=True)
class CutResponse:
    """A response of which the head came and the body did not."""

    status: int
    error: str


@dataclass(frozen=True, slots=True)
class TokenFailure:
    """No token, so that the request was not sent, or not again.

    `refused` if the token endpoint said no, else it could not be reached. `status` is the record
    endpoint's answer to a token that it refused, None if the request never left.
    """

    refused: bool
    error: str
    retry_after: float | None = None
    status: int | None = None


def api_usage(header: str | None) -> float | None:
    """Read `Sforce-Limit-Info: api-usage=18/5000` as a share; None without that."""
    match = _API_USAGE.search(header) if header else None
    return int(match[1]) / int(match[2]) if match and int(match[2]) else None


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Read a Retry-After header, seconds or HTTP date; None where it is absent or unreadable.

    More digits than any wait has are infinite: the caller bounds what it waits.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= MAX_DIGITS else float("inf")
    if not text or len(text) > MAX_DATE:
        return None
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def status_meant(answer: Response) -> int:
    """Return the status that the endpoint meant, which its body may name instead of its head."""
    meant = IMPOSSIBLE_STATUS.search(answer.body)
    return int(meant[1]) if meant else answer.status


def platform_errors(body: str) -> list[tuple[str, str]]:
    """Return (errorCode, message) pairs of the platform's array; [] for any other body."""
    items = parsed(body) if body.lstrip().startswith("[") else None
    return [
        (item["errorCode"], message if isinstance(message := item.get("message"), str) else "")
        for item in items or ()
        if isinstance(item, dict) and isinstance(item.get("errorCode"), str) and item["errorCode"]
    ]


def is_platforms(body: str) -> bool:
    """Whether a body is the platform's array: its first item has an errorCode."""
    items = parsed(body)
    first = items[0] if isinstance(items, list) and items else None
    return isinstance(first, dict) and "errorCode" in first


def parsed(body: str) -> Any:
    """Return the parsed JSON; None if it is invalid or nested too deeply."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def short(errors: Sequence[tuple[str, str]], body: str) -> str | None:
    """Return a short text for operators: the platform's messages, or the start of the body."""
    if errors:
        body = "; ".join(f"{code}: {message}" if message else code for code, message in errors)
    text = "".join(c if c.isprintable() else " " for c in body[: 4 * SHORT])
    return " ".join(text.split())[:SHORT] or None
