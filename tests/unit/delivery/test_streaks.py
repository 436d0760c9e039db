"""A streak of refusals: what it means for its lines, and which of them are probes."""

from itertools import pairwise

import pytest

from daemon.delivery.backoff import Backoff
from daemon.delivery.flow_control import FAILING_MAX, FlowControl
from daemon.delivery.gate import OrgGate
from daemon.delivery.outcome import (
    Conflict,
    Failed,
    Locked,
    NotFound,
    Outcome,
    PauseSender,
    Rejected,
)
from daemon.lines import FailingAnswers, LineKey, PauseReason
from tests.support.judged import (
    BACKOFF,
    DELIVERED,
    DOWN,
    FAULTS,
    judge_all,
    make,
    paused,
    probe,
    window,
)

KEYS = [LineKey(number, 0, 0, 0) for number in range(30)]


def failing(concurrency: int = 8, *, proven: bool = True, maximum: float = 60.0) -> FlowControl:
    """Flow control that twenty refused lines have just paused."""
    flow = FlowControl(
        OrgGate(concurrency), concurrency, Backoff(1.0, maximum), endpoint_proven=proven
    )
    for number in range(20):
        pausing = flow.assess(Rejected(400, "bad"), f"lane {number}", KEYS[number])
    assert pausing is not None
    paused(flow, pausing, "lane 19")
    return flow


@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("outcome", [*FAULTS, NotFound("gone")], ids=str)
def test_a_fault_then_is_the_endpoints_and_not_the_lines(outcome: Outcome, *, proven: bool) -> None:
    flow = failing(proven=proven)
    spared = flow.spared(outcome)
    assert spared is not None
    assert (spared.reason, spared.sent) == (PauseReason.ENDPOINT_FAILING, True)
    assert make().spared(outcome) is None


@pytest.mark.parametrize(
    "outcome", [DELIVERED, Conflict(None), Rejected(422, None), Locked(None, None), DOWN], ids=str
)
def test_any_other_answer_means_what_it_ever_does(outcome: Outcome) -> None:
    assert failing().spared(outcome) is None


def test_the_streak_names_the_first_refused_line_of_each_record() -> None:
    flow = make(proven=False)
    flow.assess(Rejected(400, None), "A", KEYS[1])
    flow.assess(Rejected(400, None), "A", KEYS[2])
    flow.assess(Failed(500, None), "B", KEYS[3])
    flow.assess(Rejected(400, None), "B", KEYS[4])
    flow.assess(NotFound(None), "C", KEYS[5])
    flow.assess(Failed(500, None), "D", KEYS[6])
    assert flow.refused == [KEYS[1], KEYS[4], KEYS[5]]


def test_probes_are_the_first_line_and_the_newest_one_in_turn() -> None:
    flow = failing()
    kinds = []
    for number in range(4):
        kinds.append(flow.newest)
        probe(flow, Rejected(400, None), f"lane {number}")
    assert kinds == [False, True, False, True]
    assert flow.failing
    probe(flow, DELIVERED, "other")
    assert (flow.failing, flow.newest, flow.current_pause) == (False, False, None)


def test_where_there_is_no_newest_line_the_first_one_has_its_turn() -> None:
    flow = failing()
    probe(flow, Rejected(400, None), "A")
    assert flow.newest
    flow.probe_first()
    assert not flow.newest
    probe(flow, Rejected(400, None), "B")
    assert flow.newest


def test_no_probe_waits_for_longer_than_a_minute() -> None:
    flow = failing(maximum=900.0)
    waits = []
    for number in range(12):
        pause = probe(flow, Failed(500, None), f"lane {number}", now=1000)
        assert pause is not None
        waits.append(pause.until - 1000)
    assert all(before <= after for before, after in pairwise(waits))
    assert waits[-1] == FAILING_MAX == 60
    short = failing(maximum=5.0)
    for number in range(9):
        pause = probe(short, Failed(500, None), f"lane {number}", now=1000)
    assert pause is not None
    assert pause.until == 1005


@pytest.mark.parametrize(
    "reason", [PauseReason.CONFIGURATION, PauseReason.UNAVAILABLE, PauseReason.API_LIMIT]
)
def test_a_probe_that_meets_another_fault_takes_its_turn_and_the_next_one_comes_soon(
    reason: PauseReason,
) -> None:
    """Or one newest line that is answered so would be the only probe for ever."""
    flow = failing(maximum=900.0)
    turns = []
    for number in range(20):
        pause = probe(flow, PauseSender(reason, 403, None, None), f"lane {number}", now=1000)
        assert pause is not None
        assert pause.until <= 1000 + FAILING_MAX
        turns.append(flow.newest)
    assert turns in ([True, False] * 10, [False, True] * 10)
    # What the server itself asks for is kept.
    pause = probe(flow, PauseSender(PauseReason.UNAVAILABLE, 503, 300.0, None), "A", now=1000)
    assert pause is not None
    assert pause.until == 1300


def test_records_whose_probes_failed_are_avoided_and_the_last_one_most() -> None:
    flow = failing()
    for lane in ("A", "B", "A"):
        probe(flow, Rejected(400, None), lane)
    assert sorted(flow.avoid, key=lambda lane: flow.avoid[lane]) == ["lane 19", "B", "A"]


def test_a_pause_for_another_reason_between_costs_no_second_streak() -> None:
    flow = failing()
    pause = probe(flow, DOWN, "A")
    assert pause is not None
    assert pause.reason is PauseReason.UNAVAILABLE
    assert flow.failing
    pause = probe(flow, Rejected(400, None), "B")
    assert pause is not None
    assert pause.reason is PauseReason.ENDPOINT_FAILING


def test_a_late_success_of_an_older_request_does_not_make_the_endpoint_work() -> None:
    flow = make()
    old = flow.epoch
    pausing = judge_all(flow, Rejected(400, None), range(20))[-1]
    assert pausing is not None
    paused(flow, pausing)
    assert flow.assess(DELIVERED, "late") is None
    assert not flow.record_success(old)
    assert flow.failing
    assert flow.spared(Rejected(400, None)) is not None


def test_a_sender_that_begins_in_such_a_pause_probes_at_once_and_refuses_nothing() -> None:
    flow = FlowControl(
        OrgGate(8), 8, BACKOFF, endpoint_proven=True, failing=FailingAnswers(True, {})
    )
    assert flow.current_pause is not None
    assert flow.current_pause.reason is PauseReason.ENDPOINT_FAILING
    assert window(flow, 0) == 1
    assert flow.newest
    pause = probe(flow, Rejected(400, None), "A", now=100)
    assert pause is not None
    assert 101 <= pause.until <= 102
    assert not flow.newest
    probe(flow, DELIVERED, "B")
    assert window(flow) == 2


def test_a_row_of_refusals_goes_on_where_an_earlier_sender_was() -> None:
    before = {f"lane {number}": KEYS[number] for number in range(19)}
    flow = FlowControl(
        OrgGate(8), 8, BACKOFF, endpoint_proven=True, failing=FailingAnswers(False, before)
    )
    assert window(flow) == 8
    assert flow.assess(Rejected(400, None), "lane 3", KEYS[20]) is None
    assert flow.assess(Rejected(400, None), "lane 19", KEYS[21]) is not None
    assert flow.refused == [*before.values(), KEYS[21]]
