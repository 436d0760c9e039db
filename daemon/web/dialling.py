"""Decides about a click to dial: asks Salesforce, finds the service number, or falls back."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal, assert_never

import structlog

from daemon import logs, metrics
from daemon.errors import CallstatsdError
from daemon.ingest.service_numbers import ServiceNumber, ServiceNumberSource, find
from daemon.salesforce.click_to_dial import Allowed, Question, Reason, Refused, Undecided, classify
from daemon.salesforce.dial_client import DialClient
from daemon.tasks import run_within
from daemon.web.cache import SharedQuery

_log = structlog.get_logger()

MATCH_TIMEOUT = 1.0
"""Seconds to wait for the ACD's service numbers."""

REFUSALS = {
    400: "Salesforce refuses this call: a parameter is wrong, or there is no such record.",
    403: "Salesforce does not allow this call.",
    404: "Salesforce has no such record.",
}
"""What is said of a refusal without words."""
MESSAGES = {
    Reason.UNAVAILABLE: "Salesforce cannot be reached: try again later.",
    Reason.UNANSWERED: "Salesforce gave no answer in time: try again.",
    Reason.UNAUTHORIZED: "Salesforce refuses the daemon's login: `callstatsd check` says why.",
    Reason.API_LIMIT: "The org's daily API calls are used up.",
    Reason.ENDPOINT_MISSING: "No Apex class answers at CALLSTATSD_CLICK_TO_DIAL_URL.",
    Reason.CONFIGURATION: "Salesforce refuses the question: give the daemon's user access to the "
    "Apex class, and correct CALLSTATSD_CLICK_TO_DIAL_URL.",
    Reason.BAD_ANSWER: "Salesforce gave an answer that cannot be understood.",
}


@dataclass(frozen=True, slots=True)
class ServiceChoice:
    """The service number to show; `source` is salesforce or fallback."""

    number: str | None
    name: str | None
    row_id: int | None
    source: Literal["salesforce", "fallback"]


@dataclass(frozen=True, slots=True)
class Dial:
    """What became of a question; `status` is Salesforce's.

    `service` is None unless the call may be placed. `reason` and `message` say why not, or why it
    was the fallback that decided.
    """

    decision: Literal["allowed", "refused", "undecided"]
    status: int | None
    service: ServiceChoice | None
    reason: Reason | None
    message: str | None
    seconds: float


class Dialler:
    """Answers questions, any number at once; keeps nothing of them."""

    def __init__(
        self, client: DialClient, source: ServiceNumberSource, timeout: float, fallback: str
    ) -> None:
        """`timeout` is for a whole question, in seconds; `fallback` may be empty."""
        self._client = client
        self._numbers = SharedQuery(source.all)
        self._timeout = timeout
        self._fallback = fallback

    def close(self) -> None:
        """Cancel a query that is running."""
        self._numbers.close()

    async def dial(self, question: Question) -> Dial:
        """Ask whether the call may be placed."""
        began = time.monotonic()
        # Beside the question, which takes longer.
        reading = asyncio.create_task(self._rows())
        try:
            decision = classify(await self._client.ask(question))
            match decision:
                case Allowed():
                    dial = _allow(decision, question, await reading, began)
                case Refused(status, message):
                    message = message or REFUSALS[status]
                    dial = Dial("refused", status, None, None, message, _since(began))
                case Undecided():
                    dial = await self._undecided(decision, reading, began)
                case _:
                    assert_never(decision)
        finally:
            reading.cancel()
        _report(dial, question)
        return dial

    async def _undecided(
        self, undecided: Undecided, reading: Awaitable[list[ServiceNumber]], began: float
    ) -> Dial:
        reason, status = undecided.reason, undecided.status
        if undecided.may_be_refusal or not self._fallback:
            message = MESSAGES[reason]
            return Dial("undecided", status, None, reason, message, _since(began))
        rows = await reading
        # Exactly that name, if it is there: another one may be the same number by its digits.
        exact = (row for row in rows if (row.number or "").strip() == self._fallback)
        row = next(exact, None) or find(rows, self._fallback)
        name, row_id = (row.name, row.id) if row else (None, None)
        service = ServiceChoice(self._fallback, name, row_id, "fallback")
        return Dial("allowed", status, service, reason, MESSAGES[reason], _since(began))

    async def _rows(self) -> list[ServiceNumber]:
        """Read the service numbers; none where the source is away or slow."""
        limit = min(MATCH_TIMEOUT, self._timeout)
        try:
            return await run_within(limit, self._numbers.get(0.0)) or []
        except CallstatsdError:  # `database.lost` says why, and `dial.unmatched` what follows
            return []


def _allow(allowed: Allowed, question: Question, rows: list[ServiceNumber], began: float) -> Dial:
    row = find(rows, allowed.number, allowed.name)
    if row is None:
        _log.warning(
            logs.DIAL_UNMATCHED,
            salesforce_id=question.salesforce_id,
            status=200,
            source="salesforce",
            seconds=_since(began),
        )
        service = ServiceChoice(allowed.number, allowed.name, None, "salesforce")
    else:
        service = ServiceChoice(row.number, row.name, row.id, "salesforce")
    return Dial("allowed", 200, service, None, None, _since(began))


def _report(dial: Dial, question: Question) -> None:
    """Log and count what became of a question."""
    source = dial.service.source if dial.service else None
    fallback = source == "fallback"
    metrics.observe_dial("fallback" if fallback else dial.decision, dial.seconds)
    fields = {
        "salesforce_id": question.salesforce_id,
        "status": dial.status,
        "source": source,
        "seconds": round(dial.seconds, 3),
        "number": question.number,
        "agent": question.agent,
    }
    if dial.reason is not None:
        _log.warning(logs.DIAL_UNDECIDED, reason=dial.reason, fallback=fallback, **fields)
    elif dial.decision == "refused":
        _log.info(logs.DIAL_REFUSED, **fields)
    else:
        _log.info(logs.DIAL_ALLOWED, **fields)


def _since(began: float) -> float:
    return time.monotonic() - began
