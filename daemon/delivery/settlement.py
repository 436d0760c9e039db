"""Turns an outcome into what is written: the line's state, and its or its record's wait. Pure."""

from typing import assert_never

from daemon.delivery.backoff import Backoff
from daemon.delivery.outcome import (
    Conflict,
    Delivered,
    Failed,
    Locked,
    NotFound,
    Outcome,
    PauseSender,
    Rejected,
    Unanswered,
)
from daemon.lines import PendingLine, Settlement, State
from daemon.salesforce.responses import NoResponse, Response, TokenFailure

ANSWER_KEPT = 200
"""Characters of an answer."""


def settle(
    line: PendingLine, outcome: Outcome, backoff: Backoff, seconds: float, lane_tries: int
) -> Settlement:
    """Return what to write into the ledger for an attempt that took so many seconds.

    `lane_tries` is how often the line's record has been locked or unanswered in a row.
    """
    match outcome:
        case Delivered() | Conflict() | NotFound() | Rejected():
            return _final(line, outcome, seconds, free=lane_tries > 0)
        case PauseSender(_, status, _, error):
            return _again(line, seconds, status, error)._replace(sent=outcome.sent)
        case Failed(status, error):
            wait = backoff.delay(line.tries + 1)
            return _again(line, seconds, status, error)._replace(failed=True, wait=wait)
        case Locked(retry_after, error):
            wait = backoff.delay(lane_tries + 1, retry_after)
            return _again(line, seconds, 423, error)._replace(
                failed=True, wait=wait, hold=True, lane_tries=lane_tries + 1
            )
        case Unanswered(status, error):
            wait = backoff.delay(lane_tries + 1)
            return _again(line, seconds, status, error)._replace(
                failed=True, unanswered=True, wait=wait, hold=True, lane_tries=lane_tries + 1
            )
        case _:
            assert_never(outcome)


def kept_answer(answer: Response | NoResponse | TokenFailure) -> str | None:
    """Return what is kept of an endpoint's answer to a delivered line; None where it is empty."""
    if not isinstance(answer, Response):
        return None
    return answer.body[:ANSWER_KEPT].replace("\0", "") or None


def holds_lane(outcome: Outcome) -> bool:
    """Whether later lines of the record must wait until this outcome is written."""
    return isinstance(outcome, Locked | Unanswered | PauseSender)


def _final(
    line: PendingLine,
    outcome: Delivered | Conflict | NotFound | Rejected,
    seconds: float,
    *,
    free: bool,
) -> Settlement:
    error: str | None
    match outcome:
        case Delivered(status):
            state, error = State.DELIVERED, None
        case Conflict(error):
            state, status = State.CONFLICT, 409
        case NotFound(error):
            state, status = State.NOT_FOUND, 404
        case Rejected(status, error):
            state = State.REJECTED
        case _:
            assert_never(outcome)
    return _settlement(line, state, seconds, status, error, free=free)


def _again(line: PendingLine, seconds: float, status: int | None, error: str | None) -> Settlement:
    return _settlement(line, State.PENDING, seconds, status, error)


def _settlement(
    line: PendingLine,
    state: State,
    seconds: float,
    status: int | None,
    error: str | None,
    *,
    free: bool = False,
) -> Settlement:
    return Settlement(
        key=line.key,
        generation=line.generation,
        lane=line.lane,
        state=state,
        sent=True,
        age=seconds,
        status=status,
        error=error,
        free=free,
        attempts=line.attempts,
    )
