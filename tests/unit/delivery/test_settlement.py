"""What is written for each outcome: the line's state, and who waits how long."""

from datetime import UTC, datetime
from typing import Any

import pytest

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
    classify,
)
from daemon.delivery.settlement import holds_lane, settle
from daemon.lines import LineKey, PauseReason, PendingLine, Settlement, State
from daemon.salesforce.responses import NoResponse, Response, TokenFailure

BACKOFF = Backoff(initial=1.0, maximum=900.0)
KEY = LineKey(1201, 2201, 3201, 0)


def pending(*, tries: int = 0, lane_tries: int = 0) -> PendingLine:
    return PendingLine(
        key=KEY,
        generation=3,
        backfill=False,
        call_ended=datetime(2026, 11, 20, 8, 0, tzinfo=UTC),
        ordinal=1,
        lane="0059E000002Ghno",
        salesforce_id="0059E000002GhnoQAC",
        record="{}",
        attempts=9,
        tries=tries,
        lane_tries=lane_tries,
    )


def expected(**fields: Any) -> Settlement:
    common: dict[str, Any] = {
        "key": KEY,
        "generation": 3,
        "lane": "0059E000002Ghno",
        "state": State.PENDING,
        "sent": True,
        "age": 0.25,
        "attempts": 9,
    }
    return Settlement(**(common | fields))


FINAL: list[tuple[Outcome, Settlement]] = [
    (Delivered(200, expected=True), expected(state=State.DELIVERED, status=200)),
    (Delivered(204, expected=False), expected(state=State.DELIVERED, status=204)),
    (Conflict("twice"), expected(state=State.CONFLICT, status=409, error="twice")),
    (Conflict(None), expected(state=State.CONFLICT, status=409)),
    (NotFound("gone"), expected(state=State.NOT_FOUND, status=404, error="gone")),
    (Rejected(400, "bad"), expected(state=State.REJECTED, status=400, error="bad")),
    (Rejected(422, None), expected(state=State.REJECTED, status=422)),
]
PAUSED: list[tuple[Outcome, Settlement]] = [
    (
        PauseSender(PauseReason.UNAVAILABLE, None, None, "no way"),
        expected(sent=False, error="no way"),
    ),
    (PauseSender(PauseReason.UNAVAILABLE, 503, 7.0, "down"), expected(status=503, error="down")),
    (PauseSender(PauseReason.UNAUTHORIZED, 401, None, None), expected(status=401)),
    (PauseSender(PauseReason.API_LIMIT, 403, None, "limit"), expected(status=403, error="limit")),
    (PauseSender(PauseReason.CONFIGURATION, 302, None, None), expected(status=302)),
    (
        PauseSender(PauseReason.ENDPOINT_MISSING, 404, None, "none"),
        expected(status=404, error="none"),
    ),
]
AGAIN: list[tuple[Outcome, Settlement]] = [
    (Failed(500, "boom"), expected(status=500, error="boom", failed=True)),
    (Failed(501, None), expected(status=501, failed=True)),
    (
        Locked(None, "held"),
        expected(status=423, error="held", failed=True, hold=True, lane_tries=1),
    ),
    (
        Unanswered(None, "cut"),
        expected(error="cut", failed=True, hold=True, unanswered=True, lane_tries=1),
    ),
    (
        Unanswered(504, None),
        expected(status=504, failed=True, hold=True, unanswered=True, lane_tries=1),
    ),
]


def without_wait(settlement: Settlement) -> tuple[Settlement, float]:
    assert settlement.wait is not None
    return settlement._replace(wait=None), settlement.wait


@pytest.mark.parametrize(("outcome", "settlement"), FINAL)
def test_a_final_outcome_settles_the_line_for_good(
    outcome: Outcome, settlement: Settlement
) -> None:
    assert settle(pending(), outcome, BACKOFF, 0.25, 0) == settlement


@pytest.mark.parametrize(("outcome", "settlement"), FINAL)
def test_a_final_outcome_ends_the_back_off_of_its_record(
    outcome: Outcome, settlement: Settlement
) -> None:
    assert not settle(pending(), outcome, BACKOFF, 0.25, 0).free
    assert settle(pending(), outcome, BACKOFF, 0.25, 2).free


def test_how_often_the_record_waited_is_what_the_sender_says_and_not_what_was_loaded() -> None:
    assert not settle(pending(lane_tries=2), Conflict(None), BACKOFF, 0.25, 0).free
    assert settle(pending(lane_tries=2), Locked(None, None), BACKOFF, 0, 5).lane_tries == 6


@pytest.mark.parametrize(("outcome", "settlement"), PAUSED)
def test_what_pauses_the_sender_leaves_the_line_pending_and_fails_nothing(
    outcome: Outcome, settlement: Settlement
) -> None:
    assert settle(pending(), outcome, BACKOFF, 0.25, 0) == settlement


@pytest.mark.parametrize(("outcome", "settlement"), AGAIN)
def test_what_is_retried_waits_and_may_expire(outcome: Outcome, settlement: Settlement) -> None:
    told, wait = without_wait(settle(pending(), outcome, BACKOFF, 0.25, 0))
    assert told == settlement
    assert 1 <= wait <= 2


@pytest.mark.parametrize("tries", range(5))
def test_a_500_waits_by_the_tries_of_its_line(tries: int) -> None:
    settlement = settle(pending(tries=tries), Failed(500, None), BACKOFF, 0, 9)
    assert settlement.wait is not None
    assert 2**tries <= settlement.wait <= 2**tries + 1


@pytest.mark.parametrize("tries", range(5))
@pytest.mark.parametrize("outcome", [Locked(None, None), Unanswered(None, None)], ids=str)
def test_a_lock_or_no_answer_waits_by_the_tries_of_its_record(outcome: Outcome, tries: int) -> None:
    settlement = settle(pending(tries=9), outcome, BACKOFF, 0, tries)
    assert settlement.lane_tries == tries + 1
    assert settlement.wait is not None
    assert 2**tries <= settlement.wait <= 2**tries + 1


@pytest.mark.parametrize(("retry_after", "wait"), [(7.0, 7.0), (0.5, 0.5), (1e6, 900.0)])
def test_retry_after_of_a_lock_replaces_the_wait_up_to_the_maximum(
    retry_after: float, wait: float
) -> None:
    settlement = settle(pending(), Locked(retry_after, None), BACKOFF, 0, 4)
    assert settlement.wait == wait


def test_a_retry_after_of_0_leaves_a_lock_its_wait() -> None:
    settlement = settle(pending(), Locked(0.0, None), BACKOFF, 0, 4)
    assert settlement.wait is not None
    assert 16 <= settlement.wait <= 17


@pytest.mark.parametrize(
    "answer",
    [
        NoResponse(sent=False, error="no connection"),
        TokenFailure(refused=False, error="busy", retry_after=7.0),
        TokenFailure(refused=True, error="refused"),
    ],
    ids=str,
)
def test_a_line_that_was_not_sent_counts_no_attempt(answer: NoResponse | TokenFailure) -> None:
    settlement = settle(pending(), classify(answer), BACKOFF, 0, 0)
    assert (settlement.status, settlement.error) == (None, answer.error)
    assert not settlement.sent
    assert not settlement.failed
    assert not settlement.unanswered


def test_a_line_whose_token_was_refused_was_sent_even_if_there_is_no_other_token() -> None:
    answer = TokenFailure(refused=True, error="refused", status=401)
    settlement = settle(pending(), classify(answer), BACKOFF, 0.25, 0)
    assert settlement == expected(status=401, error="refused")


@pytest.mark.parametrize(
    ("outcome", "holds"),
    [(outcome, False) for outcome, _ in FINAL]
    + [(outcome, True) for outcome, _ in PAUSED]
    + [
        (Failed(500, None), False),
        (Locked(None, None), True),
        (Unanswered(502, None), True),
    ],
    ids=str,
)
def test_only_locks_pauses_and_missing_answers_hold_later_lines_of_the_record(
    outcome: Outcome, *, holds: bool
) -> None:
    assert holds_lane(outcome) is holds


@pytest.mark.parametrize("status", [501, 505, 520])
def test_the_last_status_is_the_one_that_came(status: int) -> None:
    assert settle(pending(), classify(Response(status)), BACKOFF, 0, 0).status == status
