"""When the whole sender pauses, for how long, and how it comes back."""

from dataclasses import replace
from itertools import pairwise

import pytest

from daemon.delivery.flow_control import FAILING_AFTER, PROBE_FOR, UNANSWERED_AFTER
from daemon.delivery.gate import Pause
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
from daemon.lines import PauseReason
from daemon.salesforce.responses import Response
from tests.support.judged import DELIVERED, DOWN, FAULTS, judge_all, make, paused, window

# What pauses the sender


def test_the_contracts_numbers_are_twenty_and_two() -> None:
    assert (FAILING_AFTER, UNANSWERED_AFTER) == (20, 2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(429), PauseReason.UNAVAILABLE),
        (Response(503), PauseReason.UNAVAILABLE),
        (Response(401), PauseReason.UNAUTHORIZED),
        (Response(403, '[{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]'), PauseReason.API_LIMIT),
        (Response(403), PauseReason.CONFIGURATION),
        (Response(302), PauseReason.CONFIGURATION),
        (
            Response(404, '[{"errorCode":"NOT_FOUND","message":"Could not find a match for URL"}]'),
            PauseReason.ENDPOINT_MISSING,
        ),
    ],
)
@pytest.mark.parametrize("proven", [False, True])
def test_an_answer_that_is_not_about_its_line_pauses_at_once(
    answer: Response, reason: PauseReason, *, proven: bool
) -> None:
    pausing = make(proven=proven).assess(classify(answer), "A")
    assert pausing is not None
    assert (pausing.reason, pausing.status) == (reason, answer.status)


@pytest.mark.parametrize("outcome", FAULTS, ids=str)
def test_the_twentieth_record_in_a_row_with_400_or_500_pauses(outcome: Outcome) -> None:
    *before, last = judge_all(make(), outcome, range(20))
    assert before == [None] * 19
    assert last is not None
    assert last.reason is PauseReason.ENDPOINT_FAILING
    assert last.status == outcome.status  # type: ignore[union-attr]
    assert last.error == outcome.error  # type: ignore[union-attr]


def test_400_and_500_count_together() -> None:
    flow = make()
    assert not any(judge_all(flow, Failed(500, None), range(10)))
    *before, last = judge_all(flow, Rejected(400, None), range(10, 20))
    assert not any(before)
    assert last is not None


@pytest.mark.parametrize("outcome", FAULTS, ids=str)
def test_one_record_that_fails_again_and_again_pauses_nobody(outcome: Outcome) -> None:
    flow = make()
    assert not any(flow.assess(outcome, "A") for _ in range(100))
    assert not any(judge_all(flow, outcome, range(18)))


@pytest.mark.parametrize("outcome", FAULTS, ids=str)
@pytest.mark.parametrize(
    "between",
    [
        DELIVERED,
        Delivered(204, expected=False),
        Conflict(None),
        NotFound(None),
        Rejected(422, None),
        Locked(None, None),
        Unanswered(504, None),
    ],
    ids=str,
)
def test_any_other_answer_of_the_endpoint_ends_the_row(outcome: Outcome, between: Outcome) -> None:
    flow = make()
    assert not any(judge_all(flow, outcome, range(19)))
    assert flow.assess(between, "other") is None
    assert not any(judge_all(flow, outcome, range(19, 38)))


@pytest.mark.parametrize("outcome", FAULTS, ids=str)
def test_a_pause_of_another_kind_ends_the_row(outcome: Outcome) -> None:
    flow = make()
    assert not any(judge_all(flow, outcome, range(19)))
    assert flow.assess(DOWN, "other") is DOWN
    assert not any(judge_all(flow, outcome, range(19, 38)))


@pytest.mark.parametrize("status", [402, 410, 413, 422])
def test_other_rejections_never_pause(status: int) -> None:
    assert not any(judge_all(make(), Rejected(status, None), range(100)))


def test_404_counts_as_a_fault_until_the_endpoint_is_proven() -> None:
    *before, last = judge_all(make(proven=False), NotFound("gone"), range(20))
    assert not any(before)
    assert last == PauseSender(PauseReason.ENDPOINT_FAILING, 404, None, "gone")


def test_404_of_a_proven_endpoint_is_about_its_line() -> None:
    assert not any(judge_all(make(proven=True), NotFound(None), range(100)))


@pytest.mark.parametrize(
    "proof", [DELIVERED, Delivered(201, expected=False), Conflict(None)], ids=str
)
def test_the_first_2xx_or_409_ever_proves_the_endpoint(proof: Outcome) -> None:
    flow = make(proven=False)
    judge_all(flow, NotFound(None), range(19))
    assert not flow.endpoint_proven
    flow.assess(proof, "A")
    assert flow.endpoint_proven
    assert not any(judge_all(flow, NotFound(None), range(100)))


@pytest.mark.parametrize(
    "outcome",
    [
        NotFound(None),
        Rejected(400, None),
        Rejected(422, None),
        Failed(500, None),
        Locked(None, None),
        Unanswered(None, None),
        DOWN,
    ],
    ids=str,
)
def test_nothing_else_proves_the_endpoint(outcome: Outcome) -> None:
    flow = make(proven=False)
    flow.assess(outcome, "A")
    assert not flow.endpoint_proven


def test_two_different_records_in_a_row_without_an_answer_pause() -> None:
    flow = make()
    assert flow.assess(Unanswered(504, "first"), "A") is None
    assert flow.assess(Unanswered(None, "cut"), "B") == PauseSender(
        PauseReason.UNANSWERED, None, None, "cut"
    )


def test_one_record_without_an_answer_however_often_pauses_nobody() -> None:
    flow = make()
    assert not any(flow.assess(Unanswered(None, None), "A") for _ in range(100))


@pytest.mark.parametrize(
    "between", [DELIVERED, Conflict(None), NotFound(None), Locked(None, None), *FAULTS], ids=str
)
def test_any_answer_ends_the_row_of_missing_ones(between: Outcome) -> None:
    flow = make()
    assert flow.assess(Unanswered(None, None), "A") is None
    assert flow.assess(between, "B") is None
    assert flow.assess(Unanswered(None, None), "C") is None


def test_a_pause_of_another_kind_ends_the_row_of_missing_answers() -> None:
    flow = make()
    assert flow.assess(Unanswered(None, None), "A") is None
    assert flow.assess(DOWN, "B") is DOWN
    assert flow.assess(Unanswered(None, None), "C") is None


def test_a_probe_that_is_unanswered_too_lengthens_that_pause() -> None:
    flow = make()
    flow.assess(Unanswered(None, None), "A")
    pausing = flow.assess(Unanswered(None, None), "B")
    assert pausing is not None
    paused(flow, pausing, "B")
    again = flow.assess(Unanswered(None, None), "A")
    assert again is not None
    assert paused(flow, again, "A").tries == 2


def test_a_probe_that_fails_too_lengthens_the_pause_of_a_failing_endpoint() -> None:
    flow = make()
    pausing = judge_all(flow, Failed(500, None), range(20))[-1]
    assert pausing is not None
    paused(flow, pausing)
    again = flow.assess(Failed(500, None), "lane 0")
    assert again is not None
    assert again.reason is PauseReason.ENDPOINT_FAILING
    assert paused(flow, again).tries == 2


# While it pauses


def test_nothing_starts_before_the_pause_is_over_and_then_one_request_alone() -> None:
    flow = make()
    pause = paused(flow, now=100)
    assert not flow.may_start(0, 100)
    assert not flow.may_start(0, pause.until - 0.001)
    assert flow.may_start(0, pause.until)
    assert not flow.may_start(1, pause.until + 1000)


def test_the_pause_grows_with_each_vain_probe_up_to_the_maximum() -> None:
    flow = make()
    waits = [paused(flow, now=1000).until - 1000 for _ in range(10)]
    for tries, wait in enumerate(waits, start=1):
        least = min(60, 2 ** (tries - 1))
        assert least <= wait <= min(60, least + 1)
    assert all(before <= after for before, after in pairwise(waits))
    assert waits[-1] == 60
    assert flow.current_pause is not None
    assert flow.current_pause.tries == 10


def test_the_first_pause_after_a_good_time_is_short_again() -> None:
    flow = make()
    for _ in range(8):
        paused(flow)
    assert flow.record_success(flow.epoch)
    pause = paused(flow, now=0)
    assert pause.tries == 1
    assert pause.until <= 2


@pytest.mark.parametrize(("retry_after", "wait"), [(7.0, 7.0), (0.5, 0.5), (3600.0, 60.0)])
def test_retry_after_replaces_the_pause_up_to_the_maximum(retry_after: float, wait: float) -> None:
    flow = make()
    for _ in range(3):
        pause = paused(flow, PauseSender(PauseReason.UNAVAILABLE, 429, retry_after, None), now=1000)
        assert pause.until == 1000 + wait


def test_a_retry_after_of_0_does_not_take_the_pause_away() -> None:
    flow = make()
    for least in (1, 2, 4):
        pause = paused(flow, PauseSender(PauseReason.UNAVAILABLE, 503, 0.0, None), now=1000)
        assert pause.until >= 1000 + least


def test_the_lane_that_caused_the_pause_is_avoided_until_the_pause_ends() -> None:
    flow = make()
    assert not flow.avoid
    paused(flow, lane="A")
    assert list(flow.avoid) == ["A"]
    paused(flow, lane="B")
    assert list(flow.avoid) == ["B"]
    flow.record_success(flow.epoch)
    assert not flow.avoid


def test_a_pause_that_no_lane_caused_avoids_none() -> None:
    flow = make()
    assert paused(flow, lane=None).lane is None
    assert not flow.avoid


def test_a_pause_tells_why_until_when_after_how_many_tries_and_who() -> None:
    flow = make()
    pause = paused(flow, PauseSender(PauseReason.UNAVAILABLE, 503, 5.0, None), "A", now=100)
    assert pause == Pause(PauseReason.UNAVAILABLE, 105.0, 1, "A")
    assert flow.current_pause is pause
    assert paused(flow, PauseSender(PauseReason.API_LIMIT, 403, 9.0, None), "B", now=200) == Pause(
        PauseReason.API_LIMIT, 209.0, 2, "B"
    )


# Answers to requests that are older than the pause


def test_of_many_requests_in_flight_only_the_first_makes_the_pause() -> None:
    flow = make()
    epoch = flow.epoch
    first = flow.pause(DOWN, "A", epoch, 0)
    for lane in "BCD":
        assert flow.pause(DOWN, lane, epoch, 10) is None
    assert flow.current_pause is first
    assert flow.epoch == epoch + 1


def test_a_late_success_of_an_older_request_does_not_end_the_pause() -> None:
    flow = make()
    epoch = flow.epoch
    pause = paused(flow)
    assert not flow.record_success(epoch)
    assert flow.current_pause is pause


def test_a_late_answer_from_before_a_vain_probe_counts_for_nothing_either() -> None:
    flow = make()
    paused(flow)
    probe = flow.epoch
    pause = paused(flow)
    assert not flow.record_success(probe)
    assert flow.pause(DOWN, "A", probe, 0) is None
    assert flow.current_pause is pause


def test_an_older_answer_does_not_widen_the_window_after_the_pause() -> None:
    flow = make()
    epoch = flow.epoch
    paused(flow)
    flow.record_success(flow.epoch)
    flow.record_success(epoch)
    assert window(flow) == 2


# Coming back


def test_the_sender_starts_at_full_concurrency() -> None:
    assert window(make(8)) == 8


@pytest.mark.parametrize(
    ("concurrency", "windows"),
    [(1, [1, 1, 1]), (2, [2, 2, 2]), (3, [2, 3, 3]), (8, [2, 4, 8, 8]), (20, [2, 4, 8, 16, 20])],
)
def test_after_the_probe_each_success_doubles_the_requests_in_flight(
    concurrency: int, windows: list[int]
) -> None:
    flow = make(concurrency)
    pause = paused(flow)
    assert window(flow, pause.until) == 1
    for number, expected in enumerate(windows):
        assert flow.record_success(flow.epoch) is (number == 0)
        assert window(flow) == expected


def test_an_operator_lets_the_probe_go_at_once_and_hears_of_it_for_a_while() -> None:
    flow = make()
    assert not flow.probing(0)
    flow.probe(0)
    assert not flow.probing(0)

    pause = paused(flow, now=0)
    assert not flow.may_start(0, 0)
    flow.probe(0)
    assert flow.may_start(0, 0)
    assert not flow.may_start(1, 0)
    assert flow.current_pause == replace(pause, until=0)
    assert flow.probing(PROBE_FOR - 1)
    assert not flow.probing(PROBE_FOR)
    # In vain: the next pause is longer all the same, and that try is over.
    longer = flow.pause(DOWN, "B", flow.epoch, 1)
    assert longer is not None
    assert longer.tries == pause.tries + 1
    assert not flow.probing(1)

    flow.probe(1)
    assert flow.record_success(flow.epoch)
    assert not flow.probing(1)


def test_a_probe_that_is_due_is_not_put_off_by_an_operator() -> None:
    flow = make()
    pause = paused(flow, now=0)
    flow.probe(pause.until + 5)
    assert flow.current_pause == pause


def test_an_answer_without_a_pause_ends_none() -> None:
    flow = make()
    assert not flow.record_success(flow.epoch)
    assert flow.current_pause is None
    assert window(flow) == 8


def test_a_pause_on_the_way_back_starts_again_with_one() -> None:
    flow = make()
    paused(flow)
    for _ in range(3):
        flow.record_success(flow.epoch)
    assert window(flow) == 8
    pause = paused(flow)
    assert window(flow, pause.until) == 1
    flow.record_success(flow.epoch)
    assert window(flow) == 2
