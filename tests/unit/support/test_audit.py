"""The audit finds what it is there to find, and excuses only what a break explains."""

from typing import Any

import pytest

from tests.support.audit import SEEN_LATE, Audit, AuditError, Break, Sent, judge

KEY = "1-0-0-0"


def judged(
    *sent: Sent, breaks: tuple[Break, ...] = (), expected: tuple[str, ...] = (KEY,), **line: Any
) -> Audit:
    """Judge one line of the ledger, settled at 100 s, and what was sent of it."""
    usual = {"state": "delivered", "last_error": None, "settled_at": None, "unanswered": 0}
    ledger = {"call_id": 1, "ordinal": 0, "backfill": False, "call_ended": 0, "taken_at": 0}
    return judge(
        expected,
        {KEY: usual | ledger | {"generation": 0} | line},
        sent,
        breaks=breaks,
        all_settled=True,
        request_timeout=60,
        skew=0,
    )


def request(started: float, status: int = 200) -> Sent:
    return Sent(KEY, "003000000000001", status, started, started + 0.01)


def test_a_line_sent_once_is_no_fault() -> None:
    assert judged(request(10)).repeated == 0


@pytest.mark.parametrize(
    ("sent", "line", "fault"),
    [
        ([request(10), request(20)], {}, "answered 200 and sent again"),
        ([], {}, "Salesforce never judged it"),
        ([request(10)], {"state": "pending"}, "still pending"),
        ([request(10, 503)], {}, "Salesforce never judged it"),
    ],
)
def test_what_nothing_explains_is_a_fault(
    sent: list[Sent], line: dict[str, Any], fault: str
) -> None:
    with pytest.raises(AuditError, match=fault):
        judged(*sent, **line)


def test_a_line_that_is_not_in_the_ledger_is_lost() -> None:
    with pytest.raises(AuditError, match="in the source, not in the ledger") as caught:
        judged(request(10), expected=(KEY, "2-0-0-0"))
    assert caught.value.audit.lost == 1


def test_an_answer_lost_in_a_break_explains_one_repeat() -> None:
    sent = (request(10), request(20))
    assert judged(*sent, breaks=(Break(10.005, 1),)).repeated_after_breaks == 1
    with pytest.raises(AuditError, match="repeated 1 answered lines, more than its 0"):
        judged(*sent, breaks=(Break(10.005, 0),))


def test_what_was_written_before_a_break_may_be_seen_a_little_later() -> None:
    sent = (request(10), request(20))
    assert judged(*sent, breaks=(Break(10 - SEEN_LATE / 2, 1),)).repeated_after_breaks == 1
    with pytest.raises(AuditError, match="for no reason"):
        judged(*sent, breaks=(Break(10 - 2 * SEEN_LATE, 1),))


def test_a_break_explains_no_repeat_of_what_was_answered_long_before() -> None:
    sent = (request(10), request(20))
    assert judged(*sent, breaks=(Break(15, 1, within=5),)).repeated_after_breaks == 1
    with pytest.raises(AuditError, match="for no reason"):
        judged(*sent, breaks=(Break(15, 1, within=4),))
